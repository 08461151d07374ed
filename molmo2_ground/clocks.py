"""`Clocks`: the two clocks of this machine, as one thing that tests can replace."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """unix_ns: nanoseconds since 1970, which may jump. monotonic_ns: since an unknown moment, never back."""

    unix_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns

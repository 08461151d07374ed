"""`Deadline`: the time by which a call should have ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

Clock = Callable[[], float]
"""Tells seconds from any fixed moment on; never goes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A moment of a clock, and how long after the start of a call it comes.

    seconds  from the start of the call.   ends_at  the moment, as `clock` tells it.
    """

    seconds: float
    ends_at: float
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, seconds: float, *, clock: Clock = time.monotonic) -> Deadline:
        """So many seconds from now. Raises `ValueError` unless they are above 0 and finite."""
        if not (isinstance(seconds, Real) and math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"a deadline is a number of seconds above 0, or None for none; got {seconds!r}")
        return cls(seconds=seconds, ends_at=clock() + seconds, clock=clock)

    def passed(self) -> bool:
        """True from that moment on."""
        return self.clock() >= self.ends_at

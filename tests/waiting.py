"""Waiting for something that another process or thread does, without a guess how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    look: Callable[[], T], *, within_s: float, unless: Callable[[], bool] = lambda: False
) -> T | None:
    """What `look` gives as soon as it is something true; None when it never is, or `unless` comes true."""
    until = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() >= until or unless():
            return None
        time.sleep(0.05)

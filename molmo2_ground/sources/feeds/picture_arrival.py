"""`PictureArrival`: an `Arrival` that is simply its values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from molmo2_ground.clip import RgbArray
from molmo2_ground.messages.header import StampClock


@dataclass(slots=True, kw_only=True, eq=False)
class PictureArrival:
    """A picture that came; see `Arrival` and `CanBeHeld` for the fields."""

    stamp_ns: int | None
    clock: StampClock = "unix"
    recv_ns: int
    monotonic_ns: int
    width_px: int
    height_px: int
    paint: Callable[[], RgbArray]
    held_ns: int = 0


def is_time(seconds: float) -> bool:
    """Whether it may be seconds since some beginning: not before it, and no later than the year 2255.

    Milliseconds since 1970 are not; and later times do not fit into the nanoseconds of messages.
    """
    return math.isfinite(seconds) and 0 <= seconds < 9e9


def nanoseconds(seconds: float) -> int:
    """Seconds since 1970 in nanoseconds, as near as a float tells them; its product would lose 200 more."""
    whole = int(seconds)
    return whole * 1_000_000_000 + round((seconds - whole) * 1e9)

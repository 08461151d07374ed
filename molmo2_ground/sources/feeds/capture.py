"""`Capture`: one picture of a live source, with the times it really has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from molmo2_ground.clip import RgbArray
from molmo2_ground.messages.header import StampClock, StampedBy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capture:
    """One picture as a camera sent it, decoded and not yet made RGB.

    index       number since the source was first opened, over reconnects, from 0; every picture that was
                decoded has one, so a gap is a picture that somebody left out.
    epoch       unix milliseconds at which its connection was opened; another value is another connection,
                and rises.
    stamp_ns    when it was taken, by `clock`: the camera's own time where the stream carries one, else when
                it arrived. Rises within an epoch.
    recv_ns     unix nanoseconds at which it arrived, before decoding. decoded_ns: after.
    monotonic_ns  the same moment as `recv_ns` by `time.monotonic_ns`, for ages that no clock change touches.
    width_px, height_px  as a player shows it.
    held_ns     how much of `stamp_ns` is waiting of the source, within its epoch: a film that was held up.
    paint       makes the pixels, uint8[height, width, 3] RGB; costs more than decoding, so only for pictures
                that are used. May be called from another thread, more than once, also after the connection
                has gone.
    """

    index: int
    epoch: int
    stamp_ns: int
    clock: StampClock = "unix"
    stamped_by: StampedBy = "arrival"
    recv_ns: int
    decoded_ns: int
    monotonic_ns: int
    width_px: int
    height_px: int
    paint: Callable[[], RgbArray]
    held_ns: int = 0

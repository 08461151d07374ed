"""`Pace`: when a picture is due, for a source that could be read faster than it was filmed."""

from __future__ import annotations

from molmo2_ground.clocks import Clocks

# Later than this, and everything after is shown later too, instead of in a rush.
_BEHIND_NS = 1_000_000_000


class Pace:
    """Turns a picture's own time into the moment at which it is due, `speed` times faster than real.

    held_ns  by how much everything was moved along so far, because the source was late; nanoseconds.
    """

    def __init__(self, *, speed: float, clocks: Clocks) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0; got {speed}")
        self._speed, self._clocks = speed, clocks
        self._zero_ns: int | None = None
        self.held_ns = 0

    def wait_s(self, time_s: float) -> float:
        """Seconds from now until the picture of this time is due; 0 or less when it is already.

        The first is due at once. When the source is more than a second late, the rest moves along.
        """
        now_ns, offset_ns = self._clocks.monotonic_ns(), round(time_s / self._speed * 1e9)
        if self._zero_ns is None:
            self._zero_ns = now_ns - offset_ns
        wait_ns = self._zero_ns + offset_ns - now_ns
        if wait_ns < -_BEHIND_NS:
            self.held_ns -= wait_ns
            self._zero_ns, wait_ns = now_ns - offset_ns, 0
        return wait_ns / 1e9

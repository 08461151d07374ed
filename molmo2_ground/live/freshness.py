"""`Freshness`: how old a picture is, and until when what is said of it may be acted on."""

from __future__ import annotations

from dataclasses import dataclass

from molmo2_ground.sources.feeds.capture import Capture

PLAUSIBLE_S = 30.0
"""A camera's clock is ours when its stamp is at most so long before the picture arrived: no network and
buffer that can be worked with hold a picture back longer."""
AHEAD_S = 0.1
"""Clocks that are kept by the network's time differ by less; a stamp further in the future is of another
clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """The rules of age. max_age_s: older pictures are of no use. valid_s: places may be used for so long."""

    max_age_s: float
    valid_s: float

    def taken_ns(self, capture: Capture) -> int:
        """Unix nanoseconds at which a picture was taken: its stamp if plausible, else its arrival."""
        held_s = (capture.recv_ns - capture.stamp_ns) / 1e9
        if capture.clock == "unix" and -AHEAD_S <= held_s <= PLAUSIBLE_S:
            return min(capture.stamp_ns, capture.recv_ns)
        return capture.recv_ns

    def received_ms(self, capture: Capture) -> float:
        """Milliseconds from being taken to arriving here, as far as the clocks tell."""
        return (capture.recv_ns - self.taken_ns(capture)) / 1e6

    def age_ms(self, capture: Capture, monotonic_ns: int) -> float:
        """How old a picture is, milliseconds; what passed here is told by a clock that nobody sets."""
        return self.received_ms(capture) + (monotonic_ns - capture.monotonic_ns) / 1e6

    def valid_until_ns(self, capture: Capture) -> int:
        """Unix nanoseconds, by this machine's clock."""
        return self.taken_ns(capture) + round(self.valid_s * 1e9)

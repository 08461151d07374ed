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
class _Anchor:
    """The newest picture whose stamp was plausible: when, by each clock, and how long it was held back."""

    epoch: int
    stamp_ns: int
    monotonic_ns: int
    held_ns: int


@dataclass(slots=True, kw_only=True)
class Freshness:
    """The rules of age. max_age_s: older pictures are of no use. valid_s: places may be used for so long.

    A clock that was ours once stays ours for its connection: a picture that is held back longer and longer,
    because the link carries less than the camera films, is old however long it is held back. Ask about the
    pictures in their order.
    """

    max_age_s: float
    valid_s: float
    _anchor: _Anchor | None = None

    def taken_ns(self, capture: Capture) -> int:
        """Unix nanoseconds at which a picture was taken: its stamp if plausible, else its arrival."""
        if capture.clock != "unix":
            return capture.recv_ns
        held_ns = capture.recv_ns - capture.stamp_ns
        if -AHEAD_S * 1e9 <= held_ns <= PLAUSIBLE_S * 1e9:
            self._anchor = _Anchor(
                epoch=capture.epoch,
                stamp_ns=capture.stamp_ns,
                monotonic_ns=capture.monotonic_ns,
                held_ns=held_ns,
            )
            return min(capture.stamp_ns, capture.recv_ns)
        held_ns = self._held_since_ns(capture)
        return capture.recv_ns - (held_ns if held_ns > PLAUSIBLE_S * 1e9 else 0)

    def _held_since_ns(self, capture: Capture) -> int:
        """How long it was held back by what passed since the clock was known to be ours; 0: it never was.

        Our own clock may have been set meanwhile, so arriving is counted by the one that nobody sets.
        """
        before = self._anchor
        if before is None or before.epoch != capture.epoch or capture.stamp_ns < before.stamp_ns:
            return 0  # stamps rise as long as a clock is not set back
        passed_ns = capture.monotonic_ns - before.monotonic_ns
        return before.held_ns + passed_ns - (capture.stamp_ns - before.stamp_ns)

    def received_ms(self, capture: Capture) -> float:
        """Milliseconds from being taken to arriving here, as far as the clocks tell."""
        return (capture.recv_ns - self.taken_ns(capture)) / 1e6

    def age_ms(self, capture: Capture, monotonic_ns: int) -> float:
        """How old a picture is, milliseconds; what passed here is told by a clock that nobody sets."""
        return self.received_ms(capture) + (monotonic_ns - capture.monotonic_ns) / 1e6

    def valid_until_ns(self, capture: Capture) -> int:
        """Unix nanoseconds, by this machine's clock."""
        return self.taken_ns(capture) + round(self.valid_s * 1e9)

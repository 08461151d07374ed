"""`StreamTime`: seconds since a stream's first picture, over reconnects and clocks that jump; never back.

Within one connection the camera's stamps are believed: they say when a picture was taken, arriving says when
the network let it through. Two things are not believed. Across a reconnect the stamps may be of another clock
or start at nothing again: they are believed only where they agree with the time that passed here to
`AGREE_S`, else that time is. And within a connection of a source that has its own pace a step that differs
from the time that passed here by more than `JUMP_S` is a clock that was set, not time that passed: the time
goes on by what passed here, and by the stamps again from there.
"""

from __future__ import annotations

from dataclasses import dataclass

from molmo2_ground.sources.feeds.capture import Capture

AGREE_S = 1.0
"""Stamps of two connections are of one running clock when they differ by what passed here, give or take
what a network holds pictures back for."""

JUMP_S = 10.0
"""Longer than networks and buffers hold pictures back, shorter than clocks are usually set by when set
wrong."""

_STEP_S = 1e-3  # pictures are a millisecond apart at least


@dataclass(slots=True, kw_only=True)
class StreamTime:
    """Tells each picture's time; give it every picture in order.

    paced  True when pictures come at the source's own pace (a camera): when they arrive says something.
           False when they come as fast as they are taken.
    jumps  how often a clock was not believed.
    """

    paced: bool
    jumps: int = 0
    _before: Capture | None = None
    _time_s: float = 0.0

    def of(self, capture: Capture) -> float:
        """Seconds since the first picture; rises with every picture."""
        before, self._before = self._before, capture
        if before is None:
            return self._time_s
        by_stamp_s = (capture.stamp_ns - before.stamp_ns) / 1e9
        passed_s = (capture.monotonic_ns - before.monotonic_ns) / 1e9
        # What a film was held up for is in its stamps, and nothing happened in it meanwhile.
        held_s = (capture.held_ns - before.held_ns) / 1e9 if capture.epoch == before.epoch else 0.0
        off_s = abs(by_stamp_s - passed_s)
        same_clock = (before.clock, before.stamped_by) == (capture.clock, capture.stamped_by)
        if capture.epoch != before.epoch:
            believed = same_clock and (off_s <= AGREE_S or (not self.paced and by_stamp_s > 0))
        else:
            believed = same_clock and by_stamp_s > 0 and not (self.paced and off_s > JUMP_S)
            self.jumps += not believed
        self._time_s += max(_STEP_S, (by_stamp_s if believed else passed_s) - held_s)
        return self._time_s

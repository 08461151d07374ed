"""`ProgressLine`: how far a long job is, how fast and how long it will take, on one line of a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

_REDRAWN_EVERY_S = 0.1


class ProgressLine:
    """Draws on a terminal and is silent elsewhere, so that logs stay readable.

    clock  seconds, rising; a test brings its own.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._shown = stream.isatty()
        self._what, self._began_s, self._drawn_s = "", 0.0, float("-inf")
        self._width = 0

    def tell(self, what: str, done: int, total: int) -> None:
        """Say that `done` of `total` pieces of the work called `what` are done."""
        if not self._shown:
            return
        now_s = self._clock()
        if what != self._what:
            self._what, self._began_s, self._drawn_s = what, now_s, float("-inf")
        if now_s - self._drawn_s < _REDRAWN_EVERY_S and done < total:
            return
        self._drawn_s = now_s
        spent_s = now_s - self._began_s
        left = f", {_span(spent_s / done * (total - done))} left" if 0 < done < total and spent_s > 0 else ""
        line = f"{what} {done:,}/{total:,}{left}"
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)

    def clear(self) -> None:
        """Take the line off, before something else is said."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

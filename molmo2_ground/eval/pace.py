"""`Pace`: how much of a long work is done, and how long the rest will take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

# (done, in all, seconds left or None while nobody can tell)
OnProgress = Callable[[int, int, float | None], None]

# Some pieces pass at once (answers that were kept), and a mean over all of them would promise too much.
_OVER = 64


class Pace:
    """Counts pieces of work and tells after each; the rest is taken to go as the last 64 pieces went.

    total: pieces in all.   on_progress: whom to tell, None for nobody.   clock: seconds, never going back.
    """

    def __init__(
        self, total: int, on_progress: OnProgress | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total, self._tell, self._clock = total, on_progress, clock
        self._done = 0
        self._ends_s: deque[float] = deque([clock()], maxlen=_OVER + 1)

    def step(self) -> None:
        """One more piece is done."""
        self._done += 1
        self._ends_s.append(self._clock())
        if self._tell is None:
            return
        pace_s = (self._ends_s[-1] - self._ends_s[0]) / (len(self._ends_s) - 1)
        left_s = pace_s * (self._total - self._done) if self._done > 1 else None
        self._tell(self._done, self._total, left_s)

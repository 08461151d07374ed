"""`HoleWatch`: how many pictures are missing between two that came."""

from __future__ import annotations

from collections import deque
from statistics import median

_RECENT = 9
# A picture's length can be told from two pictures' lengths, and clocks that round from neither.
_MISSING = 1.7


class HoleWatch:
    """Knows how far apart the pictures of a stream of steady rate are."""

    def __init__(self) -> None:
        self._steps: deque[int] = deque(maxlen=_RECENT)
        self._before: int | None = None

    def missing_before(self, pts: int) -> int:
        """How many pictures are missing between the last one and the one of this time, in any unit."""
        step = 0 if self._before is None else pts - self._before
        self._before = pts
        if step <= 0:  # the first one, or a film that begins again
            return 0
        usual = median(self._steps) if len(self._steps) >= 2 else step
        self._steps.append(step)
        return max(1, round(step / usual) - 1) if step > _MISSING * usual else 0

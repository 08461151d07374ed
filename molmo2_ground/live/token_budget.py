"""`TokenBudget`: so many tokens a minute, saved up for at most a minute."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class TokenBudget:
    """A bucket that fills steadily and holds a minute's worth.

    a_minute  tokens read and written a minute; None for no limit.
    What a look costs is known when it is answered, so a look may begin while anything is left, and what it
    took beyond that is paid back before the next: over any long time no more than `a_minute` and one look
    are spent.
    """

    a_minute: float | None
    _level: float | None = None
    _at_s: float = 0.0

    def __post_init__(self) -> None:
        if self.a_minute is not None and not (math.isfinite(self.a_minute) and self.a_minute > 0):
            raise ValueError(f"tokens_per_minute is above 0, or None for no limit; got {self.a_minute}")

    def allows(self, now_s: float) -> bool:
        """Whether a look may begin now; `now_s` by any clock that does not go back."""
        self._fill(now_s)
        return self._level is None or self._level > 0

    def spend(self, tokens: int, now_s: float) -> None:
        """Take what a look has cost."""
        self._fill(now_s)
        if self._level is not None:
            self._level -= tokens

    def _fill(self, now_s: float) -> None:
        if self.a_minute is None:
            return
        if self._level is None:
            self._level = self.a_minute
        else:
            passed_s = max(0.0, now_s - self._at_s)
            self._level = min(self.a_minute, self._level + self.a_minute * passed_s / 60)
        self._at_s = max(self._at_s, now_s)

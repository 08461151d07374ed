"""`Backoff`: how long to wait before a lost source is tried again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from molmo2_ground._wanted import NUMBER, WHOLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits that grow from `first_s` by `factor` up to `cap_s`, each shortened by up to `jitter` of itself.

    With the defaults a source that is back is tried again within 2.5 s.
    Jitter only shortens, so `cap_s` holds; it keeps many clients of one server from returning in step.
    attempts  how often in a row a source is tried again before it is given up; None: for ever.
    seed      of the jitter; None: another in each process, which is what jitter is for.
    Raises `ValueError` for what is out of these bounds, or no number.
    """

    first_s: float = 0.25
    factor: float = 2.0
    cap_s: float = 2.5
    jitter: float = 0.3
    attempts: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("first_s", "factor", "cap_s", "jitter"):
            NUMBER.check(name, getattr(self, name))
        for name in ("attempts", "seed"):
            WHOLE.or_nothing().check(name, getattr(self, name))
        if not 0 < self.first_s <= self.cap_s:
            raise ValueError(
                f"waits are above 0 and first_s at most cap_s; got first_s={self.first_s}, cap_s={self.cap_s}"
            )
        if not self.factor >= 1:
            raise ValueError(f"waits grow: factor is at least 1; got {self.factor}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter is a share from 0 to below 1; got {self.jitter}")
        if self.attempts is not None and self.attempts < 0:
            raise ValueError(f"attempts is 0 or more, or None for ever; got {self.attempts}")

    def waits_s(self) -> Iterator[float]:
        """Seconds before each attempt, in turn; ends when it is to be given up."""
        chance = random.Random(self.seed)
        wait_s, tried = self.first_s, 0
        while self.attempts is None or tried < self.attempts:
            yield wait_s * (1 - self.jitter * chance.random())
            wait_s, tried = min(self.cap_s, wait_s * self.factor), tried + 1

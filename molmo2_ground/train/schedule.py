"""Learning-rate schedules: the factor on a rate at each update, counted from 1.

Every part of a model has a schedule of its own, so that warm-ups can differ while the fall is shared.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from molmo2_ground.train.feed import Json


class Schedule(Protocol):
    """A pure function of the number of the update."""

    @property
    def steps(self) -> int:
        """Updates of the whole run."""
        ...

    def at(self, step: int) -> float:
        """The factor on the peak rate at update `step`; the first update is 1."""
        ...

    def describe(self) -> dict[str, Json]:
        """All numbers of it, for the identity of a run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineSchedule:
    """A linear rise from 0 over `warmup` updates, then half a cosine down to `floor` at update `steps`.

    At update s, with warm-up w, length S and floor f: s < w: s / w; s >= S: f; else
    f + (1 - f) (1 + cos(pi (s - w) / (S - w))) / 2. Source: the released training code of Molmo2, olmo/train/
    optim.py, whose counter is raised before the update.
    """

    steps: int
    warmup: int
    floor: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.steps:
            raise ValueError(
                f"a warm-up must be shorter than the run, got {self.warmup} of {self.steps} steps; "
                "shorten the warm-ups with the run"
            )
        if not 0.0 <= self.floor <= 1.0:
            raise ValueError(f"floor must be from 0 to 1, got {self.floor}")

    def at(self, step: int) -> float:
        """The factor at update `step`, counted from 1."""
        if step < self.warmup:
            return step / self.warmup
        if step >= self.steps:
            return self.floor
        share = (step - self.warmup) / (self.steps - self.warmup)
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * share)) / 2.0

    def describe(self) -> dict[str, Json]:
        """All numbers of it, for the identity of a run."""
        return {"kind": "cosine", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSchedule:
    """A linear rise over `warmup` updates, level up to share `decay_from`, a linear fall towards `floor`."""

    steps: int
    warmup: int
    decay_from: float = 0.6
    floor: float = 0.02

    def at(self, step: int) -> float:
        """The factor at update `step`, counted from 1."""
        if step <= self.warmup:
            return step / self.warmup
        start = self.decay_from * self.steps
        if step - 1 < start:
            return 1.0
        share = (step - 1 - start) / max(1.0, self.steps - start)
        return 1.0 + (self.floor - 1.0) * min(1.0, share)

    def describe(self) -> dict[str, Json]:
        """All numbers of it, for the identity of a run."""
        return {"kind": "level", **asdict(self)}

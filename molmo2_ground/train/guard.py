"""`LossGuard`: notices a loss that is no number, and one that jumps."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molmo2_ground.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molmo2_ground.train.feed import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRule:
    """What counts as a jump: a loss more than `sigmas` standard deviations over the mean of those before.

    sigmas  None lets every finite loss pass.
    window  so many losses before are looked at.
    after   the first so many losses of a run are never a jump.
    least   a standard deviation counts as at least this share of the mean: losses that hardly differ are no
            measure.

    The defaults are a choice, not a measurement: far outside of noise, and within reach of a broken batch or
    of rates that are much too high. Batches of very unequal kinds may need more sigmas.
    """

    sigmas: float | None = 8.0
    window: int = 128
    after: int = 64
    least: float = 0.05

    def __post_init__(self) -> None:
        if self.sigmas is not None and not self.sigmas > 0:
            raise ValueError(f"sigmas must be above 0 or None, got {self.sigmas}")
        if not 2 <= self.after <= self.window:
            raise ValueError(f"after must be from 2 to window, got {self.after} with window {self.window}")


class LossGuard:
    """Looks at every step's loss and gradient norms, in order."""

    def __init__(self, rule: GuardRule) -> None:
        self.rule = rule
        self._losses: deque[float] = deque(maxlen=rule.window)

    def fault(self, loss: float, norms: Mapping[str, float]) -> str | None:
        """What is wrong with a step, in words; None when nothing is, and the loss is then remembered."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        for name, norm in norms.items():
            if not math.isfinite(norm):
                return f"the norm of the gradient of {name} is {norm}"
        limit = self._limit()
        if limit is not None and loss > limit:
            mean = statistics.fmean(self._losses)
            return (
                f"the loss jumped to {loss:.6g}; the last {len(self._losses)} had a mean of {mean:.6g}, and "
                f"up to {limit:.6g} ({self.rule.sigmas} standard deviations over it) was let pass"
            )
        self._losses.append(loss)
        return None

    def _limit(self) -> float | None:
        if self.rule.sigmas is None or len(self._losses) < self.rule.after:
            return None
        mean = statistics.fmean(self._losses)
        deviation = max(statistics.pstdev(self._losses, mean), self.rule.least * abs(mean))
        return mean + self.rule.sigmas * deviation

    def state(self) -> list[float]:
        """The losses that it remembers."""
        return list(self._losses)

    def restore(self, state: Json) -> None:
        """Go on from saved losses, the newest of them when the window is smaller now."""
        if not isinstance(state, list) or not all(isinstance(loss, float) for loss in state):
            raise TrainingError(f"the saved losses are damaged: expected a list of numbers, got {state!r}")
        self._losses = deque(state, maxlen=self.rule.window)

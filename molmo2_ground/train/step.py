"""`StepLoss`: what a trainer asks for a loss, what it gets back, and what it keeps of a finished step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from molmo2_ground.train.feed import TrainBatch

BatchT = TypeVar("BatchT", bound=TrainBatch)

TAKEN_NAMES = frozenset({"step", "loss", "norm", "rate", "seconds", "wait_s", "evaluation", "scores"})
"""What a line of the log holds anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlace:
    """Where in the run a loss is asked for.

    step        of the update, counted from 1. part, parts: which micro-batch of how many.
    weight_sum  the weights of the whole step: what a loss divides by, so that it does not matter how the step
                is split. A mean over a batch of weight 1 is divided by it too: then it is `parts`.
    seed        for all chance in this forward pass; of the run, the step and the part.
    """

    step: int
    part: int
    parts: int
    weight_sum: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepOutcome:
    """A loss to call `backward` on, and more numbers for the log; NaN means that a batch had none of them."""

    loss: Tensor
    numbers: Mapping[str, float | Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = sorted(self.numbers.keys() & TAKEN_NAMES)
        if taken:
            raise ValueError(f"the log has a number called {taken[0]} already; give yours another name")


StepLoss = Callable[[BatchT, StepPlace], StepOutcome]
Evaluation = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedStep:
    """A step whose numbers are still on the device.

    seconds  until the whole step was asked for; a GPU may still be at it. wait_s: of these, for batches.
    """

    step: int
    keys: tuple[str, ...]
    loss: Tensor
    norms: Mapping[str, Tensor]
    numbers: Sequence[Mapping[str, float | Tensor]]
    seconds: float
    wait_s: float


def fetched(
    pending: Sequence[FinishedStep],
) -> Iterator[tuple[float, dict[str, float], dict[str, float]]]:
    """(loss, norms, other numbers) of each step; the device is waited for once."""
    tensors = [
        value.detach().reshape(())
        for done in pending
        for value in (
            done.loss,
            *done.norms.values(),
            *(v for part in done.numbers for v in part.values() if isinstance(v, Tensor)),
        )
    ]
    values = iter(torch.stack([tensor.to(tensors[0].device, torch.float64) for tensor in tensors]).tolist())
    for done in pending:
        loss = next(values)
        norms = {name: next(values) for name in done.norms}
        found: dict[str, list[float]] = {}
        for part in done.numbers:
            for name, value in part.items():
                number = next(values) if isinstance(value, Tensor) else float(value)
                if math.isfinite(number):  # NaN: nothing of this kind in the batch
                    found.setdefault(name, []).append(number)
        yield loss, norms, {name: math.fsum(parts) / len(parts) for name, parts in found.items()}

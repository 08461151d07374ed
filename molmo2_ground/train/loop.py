"""`run_steps`: the loop that every stage of the tiny recipe shares: data workers, schedule, log."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from molmo2_ground.train.on_device import on_device, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from molmo2_ground.train.muon import Muon

logger = logging.getLogger(__name__)


class Batches(Protocol):
    """Batch number `step`, made from nothing but the step: data workers share the work without talking."""

    def __len__(self) -> int: ...
    def __getitem__(self, step: int) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Factor on the learning rates: a linear rise over `warmup` steps, level, a linear fall to `floor`."""

    steps: int
    warmup: int
    decay_from: float = 0.6
    floor: float = 0.02

    def at(self, step: int) -> float:
        """The factor at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        start = self.decay_from * self.steps
        if step < start:
            return 1.0
        share = (step - start) / max(1.0, self.steps - start)
        return 1.0 + (self.floor - 1.0) * min(1.0, share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a stage's steps get their batches and when they end.

    workers  processes that make batches; 0 makes them in between.
    uses     steps that a batch is used for: once when it is new, then whenever it is drawn from among the
             last `kept` new ones. A GPU is faster than the processes that draw streets.
    ends_at  on `time.monotonic`'s clock. A stage that is too slow for it has its schedule hurried along, so
             that the rates still come down to the end; None lets it take its time.
    """

    workers: int = 0
    uses: int = 1
    kept: int = 64
    ends_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a log line says: means over the steps since the last one; seconds since the stage began."""

    stage: str
    step: int
    seconds: float
    means: dict[str, float]


def run_steps(
    name: str,
    batches: Batches,
    loss_of: Callable[[Any], tuple[Tensor, dict[str, Tensor]]],
    optimizers: Sequence[Muon],
    schedule: Schedule,
    *,
    device: torch.device,
    pace: Pace,
    log_every: int = 50,
    on_log: Callable[[Mark], None] | None = None,
) -> None:
    """Train for `schedule.steps` steps and log running means of the loss and of what `loss_of` reports.

    Raises `FloatingPointError` when the loss is no number; it is looked at each `log_every` steps.
    """
    kept: list[dict[str, Tensor]] = []
    started = last = time.monotonic()
    at = before = 0.0  # how far along the schedule, steps; without a hurry the number of the step
    step = 0
    for step, batch in enumerate(_feed(batches, schedule.steps, device=device, pace=pace), start=1):
        loss, hits = loss_of(batch)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step(scale=schedule.at(int(at)))
        kept.append({"loss": loss.detach(), **hits})
        at = _along(step, schedule.steps, started=started, ends_at=pace.ends_at)
        if step % log_every and at < schedule.steps:
            continue
        now, means = time.monotonic(), _means(kept)
        left = (schedule.steps - at) * (now - last) / max(at - before, 1e-9)
        mark = Mark(stage=name, step=step, seconds=now - started, means=means)
        logger.info(
            "%s %d (%.0f %%)  %s  %.0f ms a step, %.0f s left",
            name,
            step,
            100 * at / schedule.steps,
            "  ".join(f"{key} {value:.3f}" for key, value in means.items()),
            (now - last) * 1000 / len(kept),
            left,
        )
        if not math.isfinite(means["loss"]):
            raise FloatingPointError(
                f"{name}: the loss is no number in the {len(kept)} steps before step {step}; expected a "
                "finite one. Lower the learning rates, or start the stage again from its last snapshot."
            )
        kept, last, before = [], now, at
        if on_log is not None:
            on_log(mark)
        if at >= schedule.steps:
            break


def _along(step: int, steps: int, *, started: float, ends_at: float | None) -> float:
    if ends_at is None:
        return float(step)
    hurried = steps * (time.monotonic() - started) / max(ends_at - started, 1e-9)
    return min(float(steps), max(float(step), hurried))


def _feed(batches: Batches, steps: int, *, device: torch.device, pace: Pace) -> Iterator[Any]:
    """Batches for so many steps, on the device: which new one or old one is a function of the step."""
    loader: DataLoader[Any] = DataLoader(
        _Tensors(batches),  # type: ignore[arg-type]  # anything with a length and an index will do
        batch_size=None,
        num_workers=pace.workers,
        prefetch_factor=4 if pace.workers else None,
    )
    new = iter(loader)
    pool: list[Any] = []
    rng = np.random.default_rng([steps, pace.uses])
    for step in range(steps):
        if step % pace.uses == 0:
            batch = on_device(next(new), device)
            if pace.uses > 1:
                pool = [*pool[-pace.kept + 1 :], batch]
            yield batch
        else:
            yield pool[int(rng.integers(len(pool)))]


@dataclass(frozen=True, slots=True)
class _Tensors:
    """Batches as tensors, made so by the process that makes them."""

    batches: Batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> Any:
        return tensors(self.batches[step])


def _means(kept: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """Mean of each number over the steps that have it (nan: nothing of the kind in the batch)."""
    stacked = {key: torch.stack([row[key].float() for row in kept]) for key in kept[0]}
    means = torch.stack([stacked[key].nanmean() if key != "loss" else stacked[key].mean() for key in stacked])
    return dict(zip(stacked, means.tolist(), strict=True))

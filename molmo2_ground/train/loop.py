"""`run_steps`: the loop that every stage of the tiny recipe shares: data workers, schedule, log."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from molmo2_ground.train.muon import Muon
    from molmo2_ground.train.schedule import Schedule

logger = logging.getLogger(__name__)
BatchT = TypeVar("BatchT")


class Batches(Protocol):
    """Batch number `step`, made from nothing but the step: data workers share the work without talking."""

    def __len__(self) -> int: ...
    def __getitem__(self, step: int) -> Any: ...


def run_steps(
    name: str,
    batches: Batches,
    loss_of: Callable[[Any], tuple[Tensor, dict[str, float]]],
    optimizers: Sequence[Muon],
    schedule: Schedule,
    *,
    workers: int,
    log_every: int = 50,
    on_log: Callable[[int], None] | None = None,
) -> None:
    """Train for `schedule.steps` steps and log running means of the loss and of what `loss_of` reports."""
    loader: DataLoader[Any] = DataLoader(
        batches,  # type: ignore[arg-type]  # anything with a length and an index will do
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    started = last = time.monotonic()
    for step, batch in enumerate(loader):
        loss, hits = loss_of(batch)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step(scale=schedule.at(step + 1))
        for key, value in {"loss": float(loss.detach()), **hits}.items():
            if not math.isnan(value):  # nothing of this kind in the batch
                sums[key] = sums.get(key, 0.0) + value
                counts[key] = counts.get(key, 0) + 1
        if (step + 1) % log_every == 0 or step + 1 == schedule.steps:
            now = time.monotonic()
            means = "  ".join(f"{key} {sums[key] / counts[key]:.3f}" for key in sums)
            left = (schedule.steps - step - 1) * (now - started) / (step + 1)
            logger.info(
                "%s %d/%d  %s  %.0f ms a step, %.0f s left",
                name,
                step + 1,
                schedule.steps,
                means,
                (now - last) * 1000 / log_every,
                left,
            )
            sums, counts, last = {}, {}, now
            if on_log is not None:
                on_log(step + 1)

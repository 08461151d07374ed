"""A training run that takes a second: real sampler, packer and trainer, a model of 20,000 numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from molmo2_ground.train.feed import Json, KeyedBatch
from molmo2_ground.train.logbook import LOG_FILE, read_lines
from molmo2_ground.train.mixture import ExampleKey, MixtureSampler, SamplerState, example_rng
from molmo2_ground.train.optimizer import AdamGroup, PartAdamW
from molmo2_ground.train.packer import Candidate, Pack, Packer, PackerState, PackLimits
from molmo2_ground.train.parts import Piece
from molmo2_ground.train.schedule import CosineSchedule
from molmo2_ground.train.snapshot import SnapshotStore
from molmo2_ground.train.step import StepOutcome, StepPlace
from molmo2_ground.train.trainer import RunPlan, Trainer

WORDS = 128
SEED = 7
STEPS = 12
PLAN = RunPlan(steps=STEPS, accumulate=2, seed=3, log_every=3, save_every=4, curves=False, bar=False)

Rows = list[np.ndarray[Any, np.dtype[np.int64]]]


class PackedLoader:
    """Sampler and packer; what waits is made again from its keys."""

    def __init__(self, *, seed: int = SEED) -> None:
        sizes = {"long": 40, "short": 70}
        self.sampler = MixtureSampler({"long": 0.3, "short": 0.7}, sizes, seed=seed)
        self.packer = Packer(PackLimits(max_tokens=64, max_crops=0, pool=3, length_steps=32))

    def example(self, key: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        parsed = ExampleKey.parse(key)
        rng = example_rng(SEED, parsed)
        length = int(rng.integers(20, 50) if parsed.dataset == "long" else rng.integers(4, 20))
        # Something to learn: each word follows from the one before, with a slip now and then.
        words = [int(rng.integers(WORDS))]
        while len(words) < length:
            slip = int(rng.integers(WORDS)) if rng.random() < 0.1 else 0
            words.append((words[-1] * 5 + 3 + slip) % WORDS)
        return np.array(words, dtype=np.int64)

    def __next__(self) -> KeyedBatch[Rows]:
        made = None
        while not isinstance(made, Pack):
            key = str(next(self.sampler))
            made = self.packer.offer(Candidate(key=key, tokens=len(self.example(key))))
        keys = tuple(one.key for one in made.examples)
        rows = [self.example(key) for key in keys]
        return KeyedBatch(data=rows, keys=keys, weight_sum=float(sum(len(row) - 1 for row in rows)))

    def state(self) -> dict[str, Json]:
        return {
            "sampler": self.sampler.state().model_dump(mode="json"),
            "packer": self.packer.state().model_dump(mode="json"),
        }

    def restore(self, state: Mapping[str, Json]) -> None:
        self.sampler.restore(SamplerState.model_validate(state["sampler"]))
        self.packer.restore(PackerState.model_validate_json(json.dumps(state["packer"])))


class SmallModel(nn.Module):
    """Says what follows a word; draws random numbers from torch's own generator as it does."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(WORDS, 48, generator=generator) * 0.2)
        self.first = nn.Parameter(torch.randn(96, 48, generator=generator) * 0.15)
        self.second = nn.Parameter(torch.randn(WORDS, 96, generator=generator) * 0.1)
        self.seen: torch.Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, words_L: torch.Tensor) -> torch.Tensor:
        hidden = F.dropout(F.gelu(self.table[words_L] @ self.first.T), 0.1, self.training)
        return hidden @ self.second.T


def loss_of(model: SmallModel) -> Callable[[KeyedBatch[Rows], StepPlace], StepOutcome]:
    def loss(batch: KeyedBatch[Rows], place: StepPlace) -> StepOutcome:
        device = model.table.device
        total = torch.zeros((), device=device)
        for row in batch.data:
            words = torch.from_numpy(row)
            if device.type != "cpu":
                words = words.pin_memory().to(device, non_blocking=True)
            total = total + F.cross_entropy(model(words[:-1]), words[1:], reduction="sum")
        model.seen += len(batch.keys)
        return StepOutcome(loss=total / place.weight_sum, numbers={"rows": len(batch.data)})

    return loss


def small_trainer(
    work: Path,
    *,
    plan: RunPlan = PLAN,
    store: SnapshotStore | None = None,
    peak_rate: float = 3e-2,
    **options: Any,
) -> Trainer[KeyedBatch[Rows]]:
    """A new trainer over everything new: as a new process would make it."""
    model = options.pop("model", None) or SmallModel()
    schedule = CosineSchedule(steps=plan.steps, warmup=2)
    named = dict(model.named_parameters())
    groups = [
        AdamGroup(
            name=name,
            pieces=[Piece(name=part, parameter=named[part]) for part in parts],
            peak_rate=rate,
            schedule=schedule,
        )
        for name, parts, rate in (
            ("table", ("table",), peak_rate),
            ("rest", ("first", "second"), peak_rate / 3),
        )
    ]
    return Trainer(
        work,
        model,
        PartAdamW(groups),
        options.pop("loader", None) or PackedLoader(),
        options.pop("loss_of", None) or loss_of(model),
        plan=plan,
        store=store,
        **options,
    )


def outcome(work: Path) -> dict[str, Any]:
    """All that two runs must have in common: weights, moments, the curve, the state; no times."""
    snapshot = SnapshotStore(work / "snapshots").latest()
    assert snapshot is not None
    files = {path.name: path.read_bytes() for path in snapshot.folder.iterdir()}
    lines = [
        {name: value for name, value in line.items() if name not in ("seconds", "wait_s")}
        for line in read_lines(work / LOG_FILE)
    ]
    return {"files": files, "lines": lines}

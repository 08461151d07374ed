"""`stage_trainer`: the trainer of one stage of the tiny recipe, in a work folder of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_model

from molmo2_ground._atomic import atomic_path
from molmo2_ground.train.feed import KeyedBatch, NumberedBatches, NumberedLoader
from molmo2_ground.train.guard import GuardRule
from molmo2_ground.train.hurry import HurriedSchedule
from molmo2_ground.train.logbook import LOG_FILE, read_lines
from molmo2_ground.train.muon import Muon
from molmo2_ground.train.on_device import on_device, tensors
from molmo2_ground.train.optimizer import MuonOptimizer
from molmo2_ground.train.replay import ReplayedLoader
from molmo2_ground.train.schedule import LevelSchedule
from molmo2_ground.train.snapshot import SnapshotStore
from molmo2_ground.train.step import StepOutcome, StepPlace
from molmo2_ground.train.tiny_model import Digits, step_loss
from molmo2_ground.train.toy_examples import ToyBatches
from molmo2_ground.train.trainer import RunPlan, Trainer
from molmo2_ground.train.vision_stage import VisionBatches, VisionHeads, vision_loss

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.nn import Parameter
    from transformers import Molmo2ForConditionalGeneration

    from molmo2_ground.train.step import Evaluation
    from molmo2_ground.train.tiny import Stage
    from molmo2_ground.train.tiny_text import Text


StageBatch = KeyedBatch[Any]
LossOfData = Callable[[Any], "tuple[Tensor, dict[str, Tensor]]"]
HELD_OUT_SEED = 1000  # added to the run's; its batches are of the same kind and not trained on


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the stages of a run share.

    work        each stage has a folder in it, and leaves its weights beside that.
    workers     processes that make batches; 0 makes them in between.
    uses, kept  see `ReplayedLoader`.
    save_every  steps between snapshots to go on from.
    every_s     seconds between looks at how the quality grew, and copies of the weights as they are then.
    curves      draw each stage's; needs matplotlib.
    """

    work: Path
    seed: int
    device: torch.device
    workers: int = 0
    uses: int = 1
    kept: int = 64
    save_every: int = 500
    every_s: float | None = None
    curves: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Taught:
    """A stage made ready: what is saved, what updates it, on which batches, by which loss."""

    module: nn.Module
    groups: Mapping[str, Muon]
    batches: Callable[[int, int], NumberedBatches[Any]]
    loss: LossOfData


def stage_trainer(
    stage: Stage,
    model: Molmo2ForConditionalGeneration,
    text: Text,
    run: Run,
    *,
    seconds: float | None = None,
) -> Trainer[StageBatch]:
    """The trainer that takes the model from where it is through a stage; it goes on after an interruption.

    seconds  the schedule is hurried along to be through by then, and training stops: not exact any more.
    """
    folder = run.work / stage.name
    taught = _seeing(stage, model, run) if stage.data is None else _reading(stage, model, text, run)
    schedule: LevelSchedule | HurriedSchedule = LevelSchedule(
        steps=stage.steps,
        warmup=min(stage.warmup, stage.steps),
        decay_from=stage.decay_from,
        floor=stage.floor,
    )
    if seconds is not None:
        schedule = HurriedSchedule(schedule, seconds=seconds, begun=_along_so_far(folder))

    def loss_of(batch: StageBatch, place: StepPlace) -> StepOutcome:
        loss, hits = taught.loss(batch.data)
        numbers: dict[str, float | Tensor] = dict(hits)
        if isinstance(schedule, HurriedSchedule):
            numbers["along"] = schedule.along(place.step)
        return StepOutcome(loss=loss / place.weight_sum, numbers=numbers)

    evaluations = {} if run.every_s is None else {"held out": _look(stage.name, model, taught, run)}
    return Trainer(
        folder,
        taught.module,
        MuonOptimizer(taught.groups, schedule),
        _loader(stage, taught, run),
        loss_of,
        plan=_plan(stage, run, seconds),
        identity={"stage": _described(stage)},
        evaluations=evaluations,
    )


def _plan(stage: Stage, run: Run, seconds: float | None) -> RunPlan:
    return RunPlan(
        steps=stage.steps,
        seed=run.seed,
        log_every=50,
        save_every=run.save_every,
        seconds=seconds,
        evaluate_seconds=run.every_s,
        # A step's loss depends on what it is made of, one picture or 32 frames: jumps mean nothing here.
        guard=GuardRule(sigmas=None),
        curves=run.curves,
    )


def _described(stage: Stage) -> dict[str, Any]:
    # What a run that is given less time may change is not in it.
    return {name: value for name, value in asdict(stage).items() if name != "share"}


def _loader(stage: Stage, taught: _Taught, run: Run) -> ReplayedLoader[StageBatch]:
    new: NumberedLoader[Any] = NumberedLoader(
        taught.batches(run.seed, -(-stage.steps // run.uses)),
        name=stage.name,
        workers=run.workers,
        prepare=tensors,
    )
    return ReplayedLoader(
        new,
        uses=run.uses,
        kept=run.kept,
        seed=run.seed,
        prepare=lambda batch: on_device(batch, run.device),
    )


def _seeing(stage: Stage, model: Molmo2ForConditionalGeneration, run: Run) -> _Taught:
    """The vision stage: tower and connector with heads that are thrown away."""
    matrices, others = split_parameters(
        [*model.model.vision_tower.named_parameters(), *model.model.multi_modal_projector.named_parameters()]
    )
    # The library types its sub-configs as optional dicts; after construction they are objects.
    config: Any = model.config
    heads = VisionHeads(config.text_config.hidden_size, 2 * config.vision_config.hidden_size)
    heads.to(run.device, model.dtype)
    others += heads.parameters()
    return _Taught(
        # The heads too: a run that goes on needs them.
        module=torch.nn.ModuleDict({"network": model, "heads": heads}),
        groups={"vision": Muon(matrices, others, matrix_lr=stage.matrix_lr, other_lr=stage.other_lr)},
        batches=lambda seed, steps: VisionBatches(frames=stage.batch, views=8, seed=seed, steps=steps),
        loss=lambda batch: vision_loss(model, heads, batch),
    )


def _reading(stage: Stage, model: Molmo2ForConditionalGeneration, text: Text, run: Run) -> _Taught:
    """A stage of questions and answers: the language model, and the vision part at lower rates."""
    data = stage.data
    assert data is not None
    vision = list(model.model.multi_modal_projector.named_parameters())
    if stage.train_vit:
        vision += model.model.vision_tower.named_parameters()
    groups = {
        name: Muon(
            *split_parameters(named), matrix_lr=share * stage.matrix_lr, other_lr=share * stage.other_lr
        )
        for name, named, share in (
            ("language", model.model.language_model.named_parameters(), 1.0),
            ("vision", vision, stage.vision_share),
        )
    }
    digits = Digits.build(text.tokenizer, vocab_size=model.lm_head.weight.shape[0], device=run.device)
    return _Taught(
        module=model,
        groups=groups,
        batches=lambda seed, steps: ToyBatches(data, text.writer, text.flags, seed=seed, steps=steps),
        loss=lambda batch: step_loss(model, batch, digits, train_vision=stage.train_vit),
    )


def _look(name: str, model: Molmo2ForConditionalGeneration, taught: _Taught, run: Run) -> Evaluation:
    """Measure on batches that are not trained on, and keep the weights as they are, numbered in order."""
    batches = taught.batches(run.seed + HELD_OUT_SEED, 1)

    def look() -> dict[str, float]:
        with torch.no_grad():
            loss, hits = taught.loss(on_device(tensors(batches[0]), run.device))
        before = len(list(run.work.glob(f"every-{name}-*.safetensors")))
        save_weights(model, run.work / f"every-{name}-{before:03d}.safetensors")
        found = {"loss": float(loss), **{key: float(value) for key, value in hits.items()}}
        return {key: value for key, value in found.items() if math.isfinite(value)}  # NaN: none of it

    return look


def _along_so_far(folder: Path) -> float:
    """How far along its schedule a hurried run was at its last snapshot, in updates; 0 for a new one."""
    snapshot = SnapshotStore(folder / "snapshots").latest()
    if snapshot is None:
        return 0.0
    steps = (line for line in read_lines(folder / LOG_FILE) if line["step"] == snapshot.step)
    return max((float(line.get("along", 0.0)) for line in steps), default=0.0)


def split_parameters(named: Iterable[tuple[str, Parameter]]) -> tuple[list[Parameter], list[Parameter]]:
    """(matrices, others): what Muon updates, and the embeddings, tables, norms and biases that AdamW does.

    The output table is tied to the input table during training, so it is left out.
    """
    matrices: list[Parameter] = []
    others: list[Parameter] = []
    for name, parameter in named:
        if name.startswith("lm_head"):
            continue
        table = ("embed" in name and "patch" not in name) or "positional" in name
        (matrices if parameter.ndim == 2 and not table else others).append(parameter)
    return matrices, others


def save_weights(model: Molmo2ForConditionalGeneration, path: Path) -> None:
    """Write the weights as they are."""
    with atomic_path(path) as unfinished:
        save_model(model, str(unfinished))

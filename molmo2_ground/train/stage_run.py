"""`train_stage`: one stage over folders of rows, from a checkpoint to the next one.

    data = open_root("data", stage.mixture)
    done = train_stage(stage, data, model="stage1", out=Path("stage2"))

All that a `StageConfig` says is heeded but `reduce_precision`: one process has no gradients of others to add.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from molmo2_ground import __version__
from molmo2_ground._wanted import NUMBER, WHOLE, WORDS, YES_OR_NO, check_kinds
from molmo2_ground.errors import TrainingError
from molmo2_ground.eval.candidate import files_digest
from molmo2_ground.model.checkpoint import load_network, open_checkpoint
from molmo2_ground.model.molmo2 import chosen_device
from molmo2_ground.train.curves import CURVES_FILE
from molmo2_ground.train.export import check_target, export_checkpoint
from molmo2_ground.train.loader import LoaderOptions, PackedLoader
from molmo2_ground.train.on_device import fast_dtype
from molmo2_ground.train.packed_batch import BatchShape
from molmo2_ground.train.packed_step import PackedStep, StepOptions
from molmo2_ground.train.parts import is_tied, split_parts, tie_head
from molmo2_ground.train.row_data import RowData, row_maker
from molmo2_ground.train.step import StepOutcome, StepPlace
from molmo2_ground.train.trainer import RunPlan, Trainer

if TYPE_CHECKING:
    from transformers import Molmo2ForConditionalGeneration

    from molmo2_ground.model.checkpoint import Checkpoint
    from molmo2_ground.model.flags import InputFlags
    from molmo2_ground.train.feed import Json
    from molmo2_ground.train.packed_batch import PackedBatch
    from molmo2_ground.train.stages import StageConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is carried out.

    device        `auto` takes an accelerator when there is one.
    rows_at_once  packed rows of a micro-batch; the stage's rows are a multiple of it.
    workers       processes that read media and make examples; 0: this one does.
    skip_bad      rows that no example can be made of are left out, named once and counted; otherwise, and
                  when no row is good, they end the run.
    seconds       stop with a snapshot after so long. log_every: steps between lines of progress.
    bar           draw a bar; None: on a terminal.
    """

    device: str = "auto"
    rows_at_once: int = 1
    workers: int = 0
    skip_bad: bool = False
    seconds: float | None = None
    log_every: int = 10
    bar: bool | None = None


_OPTIONS = {
    "device": WORDS,
    **dict.fromkeys(("rows_at_once", "workers", "log_every"), WHOLE),
    "skip_bad": YES_OR_NO,
    "seconds": NUMBER.or_nothing(),
    "bar": YES_OR_NO.or_nothing(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedStage:
    """How a run ended.

    checkpoint  the trained one, None when the run was stopped before its end. curves: the picture of the log.
    skipped     rows that were left out, by data set.
    """

    checkpoint: Path | None
    work: Path
    curves: Path
    step: int
    skipped: dict[str, int]


def train_stage(
    stage: StageConfig,
    data: RowData,
    *,
    model: str | Path,
    out: Path,
    work: Path | None = None,
    options: RunOptions | None = None,
) -> TrainedStage:
    """Train `model` for the stage's steps and write the checkpoint `out`.

    model  `tiny`, a folder or a hub id. work: snapshots, log and curves; by default beside `out`. The same
           call with the same work folder goes on where it stopped, and ends in the same weights.

    Raises `TrainingError` for a run that cannot go on or a taken folder, `ExampleError` for an example that
    cannot be made, `CheckpointError`, `ValueError` for a stage that does not go with the options.
    """
    options = RunOptions() if options is None else options
    check_kinds(_OPTIONS, {name: getattr(options, name) for name in _OPTIONS})
    _check_amounts(options)
    if options.rows_at_once < 1 or stage.rows % options.rows_at_once:
        raise ValueError(
            f"the rows of a step are a multiple of those at once; got {stage.rows} and {options.rows_at_once}"
        )
    work = _work_folder(out, work)
    source = open_checkpoint(model)
    device = chosen_device(options.device)
    network = load_network(source, device=device, dtype=torch.float32)
    tied = is_tied(network)
    parts = split_parts(network, frozen=stage.frozen, train_embedding=stage.train_embedding, tied=tied)
    identity = _identity(stage, data, source, rows_at_once=options.rows_at_once)
    with _loader(stage, data, source, options, on_cpu=device.type == "cpu") as loader:
        end = Trainer(
            work,
            network,
            stage.optimizer(parts),
            loader,
            _loss(stage, network, source.flags, device, tied=tied),
            plan=_plan(stage, options),
            identity=identity,
        ).run()
        skipped = loader.skipped
    curves = work / CURVES_FILE
    checkpoint = None
    if end.finished:
        if tied and stage.train_embedding:
            tie_head(network)
        note: dict[str, Json] = {"made_by": f"molmo2_ground {__version__}", "step": end.step, "run": identity}
        checkpoint = _exported(network, out, source=source, stage=stage, note=note, curves=curves)
    return TrainedStage(checkpoint=checkpoint, work=work, curves=curves, step=end.step, skipped=skipped)


def _exported(
    network: Molmo2ForConditionalGeneration,
    out: Path,
    *,
    source: Checkpoint,
    stage: StageConfig,
    note: Mapping[str, Json],
    curves: Path,
) -> Path:
    flags = trained_flags(source.flags, stage)
    extra = {CURVES_FILE: curves}
    written = export_checkpoint(network.eval(), out, source=source, flags=flags, note=note, extra=extra)
    logger.info("wrote %s", written)
    return written


def fitted(stage: StageConfig, flags: InputFlags, *, longer: bool = False) -> StageConfig:
    """The stage with no more crops and frames than the checkpoint itself is asked with, and its sight.

    longer  the stage may show more frames than that: it is there to learn them.
    """
    return replace(
        stage,
        max_frames=stage.max_frames if longer else min(stage.max_frames, flags.max_frames),
        max_fps=min(stage.max_fps, flags.max_fps),
        image_crops=min(stage.image_crops, flags.max_crops),
        # What was made with pictures that see only what came before goes on so.
        bidirectional=stage.bidirectional and flags.mutual_sight,
        # A checkpoint that looks at pictures whole has never seen them in parts.
        image_share_large=stage.image_share_large if flags.max_crops > 1 else 0.0,
    )


def on_this_device(stage: StageConfig, device: str) -> StageConfig:
    """The stage in float32 where the device does not compute in bfloat16."""
    fast = fast_dtype(chosen_device(device)) is torch.bfloat16
    return stage if fast else replace(stage, precision="float32")


def trained_flags(flags: InputFlags, stage: StageConfig) -> InputFlags:
    """How the trained checkpoint is asked: with the sight it was trained with, and as many frames as it saw.

    Never with fewer frames than before.
    """
    return replace(
        flags, max_frames=max(flags.max_frames, stage.max_frames), mutual_sight=stage.bidirectional
    )


def _loader(
    stage: StageConfig, data: RowData, source: Checkpoint, options: RunOptions, *, on_cpu: bool
) -> PackedLoader:
    maker = row_maker(
        data, stage, codec=source.codec, flags=source.flags, context_tokens=source.context_tokens
    )
    return PackedLoader(
        maker,
        data.mixture.shares(data.sizes),
        limits=stage.limits,
        # An accelerator compiles for each size it meets; a CPU only pays for what fills rows up.
        shape=BatchShape() if on_cpu else BatchShape.of(stage.limits, rows=options.rows_at_once),
        options=LoaderOptions(
            rows=options.rows_at_once, processes=options.workers, skip_failures=options.skip_bad
        ),
    )


def _loss(
    stage: StageConfig, network: torch.nn.Module, flags: InputFlags, device: torch.device, *, tied: bool
) -> Callable[[PackedBatch, StepPlace], StepOutcome]:
    on_cpu = device.type == "cpu"
    step = PackedStep(
        network,
        flags=flags,
        options=StepOptions(
            z_loss=stage.z_loss,
            response_dropout=stage.response_dropout,
            other_dropout=stage.other_dropout,
            tied_head=tied,
            bidirectional=stage.bidirectional,
            recompute_vision=not on_cpu,
            recompute_language=not on_cpu,
        ),
    ).train()

    def loss(batch: PackedBatch, place: StepPlace) -> StepOutcome:
        low = stage.precision == "bfloat16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=low):
            found = step(batch, weight_sum=place.weight_sum, dropout_seed=place.seed)
        return StepOutcome(loss=found.loss, numbers=found.numbers)

    return loss


def _plan(stage: StageConfig, options: RunOptions) -> RunPlan:
    return RunPlan(
        steps=stage.steps,
        accumulate=stage.rows // options.rows_at_once,
        seed=stage.seed,
        log_every=options.log_every,
        save_every=stage.save_every,
        seconds=options.seconds,
        bar=options.bar,
    )


def _check_amounts(options: RunOptions) -> None:
    for name, least in (("rows_at_once", 1), ("workers", 0), ("log_every", 1)):
        if (number := getattr(options, name)) < least:
            raise ValueError(f"{name} must be {least} or more; got {number}")
    if options.seconds is not None and not 0 <= options.seconds < math.inf:
        raise ValueError(f"seconds must be 0 or more, or None for no end; got {options.seconds}")


def _work_folder(out: Path, work: Path | None) -> Path:
    """Before anything runs: a checkpoint that cannot be written at the end would cost all of it."""
    if not out.name:
        raise ValueError(
            f"the new checkpoint is a folder with a name of its own; got '{out}' (--out names it)"
        )
    check_target(out)
    work = out.with_name(f"{out.name}-work") if work is None else work
    if work.exists() and not work.is_dir():
        raise TrainingError(f"{work} is a file; expected a folder for snapshots and log (--work names it)")
    if out.resolve() in (work.resolve(), *work.resolve().parents):
        raise ValueError(
            f"the run's files need a folder outside the checkpoint's; got {work} for {out} (--work names it)"
        )
    return work


def _identity(stage: StageConfig, data: RowData, source: Checkpoint, *, rows_at_once: int) -> dict[str, Json]:
    """What must be equal for a run to go on; of rows and weights the content counts, not the place."""
    return {
        "stage": stage.identity(),
        "data": {name: rows.fingerprint for name, rows in data.folders.items()},
        "model": files_digest(source.folder),
        "rows_at_once": rows_at_once,
    }

"""The bundled tiny model from nothing: vision, pictures, clips, long clips.

`python -m molmo2_ground.train.tiny --work runs/tiny --out runs/tiny/checkpoint` runs every stage that has not
left its weights in the work folder yet. A run that was stopped goes on inside the stage it was in; on a CPU,
and without --minutes, it ends with the very weights of one that was not. What each stage is for, and what was
tried without it, is told in train/README.md.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_model

from molmo2_ground._parser import Parser, number_from_1, whole_number
from molmo2_ground.errors import GroundError
from molmo2_ground.model.molmo2 import chosen_device
from molmo2_ground.train.tiny_checkpoint import write_checkpoint
from molmo2_ground.train.tiny_model import new_model
from molmo2_ground.train.tiny_start import begun_with, leave_weights
from molmo2_ground.train.tiny_text import Text
from molmo2_ground.train.tiny_trainer import Run, save_weights, stage_trainer
from molmo2_ground.train.toy_examples import StageData
from molmo2_ground.train.vision_stage import VisionBatches, normalise_visual_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import Molmo2ForConditionalGeneration

logger = logging.getLogger(__name__)

STOPPED = 3
"""Exit code of a run that a signal stopped with a snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the recipe.

    data  how its examples are made; None for the vision stage, which has examples of its own.
    batch  pictures a step of the vision stage.
    matrix_lr, other_lr  Muon's and AdamW's learning rates at their height.
    vision_share  the vision part's learning rates as a share of these. At the full rate the connector's
                  output grew fifty-fold in 200 steps and the language model learnt nothing.
    train_vit  False keeps the ViT as it is and trains the connector alone.
    floor     what is left of the rates at the end.
    share     of the time of a run that has been given a time to end.
    """

    name: str
    steps: int
    data: StageData | None
    matrix_lr: float
    other_lr: float
    decay_from: float
    batch: int = 384
    warmup: int = 40
    vision_share: float = 0.1
    train_vit: bool = True
    floor: float = 0.02
    share: float = 0.25


PICTURES = StageData(
    tokens=90_000,
    frames=(1,),
    image_share=0.35,
    looks=6,
    lists=0.5,
    questions=8,
    slots=4,
    tasks=("point", "point", "count", "track"),
    views=4,
)
CLIPS = replace(
    PICTURES,
    tokens=90_000,
    frames=(1, 2, 3, 4, 6, 8, 8, 8, 12, 16),
    looks=4,
    questions=10,
    first_last=1,
    follow=1,
    tasks=("point", "count", "count", "track", "track"),
    views=2,
)
LONG = replace(CLIPS, frames=(1, 4, 8, 8, 12, 16, 16, 24, 32, 32), looks=3, lists=0.4, first_last=2)
STAGES = (
    Stage(
        name="0-vision", steps=1800, data=None, matrix_lr=7e-3, other_lr=1.5e-3, decay_from=0.15, share=0.17
    ),
    Stage(
        name="1-pictures",
        steps=900,
        data=PICTURES,
        matrix_lr=1e-2,
        other_lr=2e-3,
        decay_from=0.4,
        vision_share=0.04,
        train_vit=False,
        floor=0.5,
        share=0.12,
    ),
    Stage(
        name="2-clips",
        steps=2800,
        data=CLIPS,
        matrix_lr=8e-3,
        other_lr=1.5e-3,
        decay_from=0.2,
        vision_share=0.12,
        floor=0.4,
        share=0.41,
    ),
    Stage(
        name="3-long",
        steps=1950,
        data=LONG,
        matrix_lr=3.2e-3,
        other_lr=8e-4,
        decay_from=0.0,
        vision_share=0.25,
        floor=0.01,
        share=0.3,
    ),
)


def on_two_cores(stage: Stage) -> Stage:
    """The stage in steps that a small CPU can take: a twentieth of the examples each, more of them."""
    data = None if stage.data is None else replace(stage.data, tokens=stage.data.tokens // 20)
    return replace(stage, data=data, batch=48, steps=2 * stage.steps)


def train(
    out: Path, run: Run, *, stages: Sequence[Stage], minutes: float | None = None, text: Text | None = None
) -> Path | None:
    """Run every stage whose weights are not in the work folder yet, then write the checkpoint to `out`.

    minutes: about when to be through, from now; each stage gets its share of what is left.
    text: what the model reads and writes, in place of the recipe's.
    None: a signal asked for a stop; running again goes on.
    """
    run.work.mkdir(parents=True, exist_ok=True)
    ends_at = None if minutes is None else time.monotonic() + 60 * minutes
    text = Text.build() if text is None else text
    model = new_model(text.tokenizer, seed=run.seed, device=run.device)
    for number, stage in enumerate(stages):
        finished = run.work / f"{stage.name}.safetensors"
        if finished.exists():
            logger.info("%s: taken from %s", stage.name, finished)
            load_model(model, finished)
            continue
        left = sum(later.share for later in stages[number:])
        seconds = None if ends_at is None else max(1e-3, ends_at - time.monotonic()) * stage.share / left
        logger.info("%s: in %s", stage.name, run.work / stage.name)
        end = stage_trainer(stage, model, text, run, seconds=seconds).run()
        if end.interrupted:
            return None
        if stage.data is None:
            _normalise(model, text, run)
        save_weights(model, finished)
    return write_checkpoint(model, text.tokenizer, out, flags=text.flags)


def _normalise(model: Molmo2ForConditionalGeneration, text: Text, run: Run) -> None:
    """Between the vision stage and the first one with words; not twice, so it belongs to the former."""
    sample = VisionBatches(frames=96, views=4, seed=run.seed + 1000, steps=1)[0]
    patch_id = text.flags.special.image_patch
    normalise_visual_tokens(model, sample.frames_FNV, patch_id=patch_id)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """What every command that trains by these stages is told: how long, where, and by what chance."""
    parser.add_argument("--scale", type=float, default=1.0, help="shorten or lengthen every stage")
    parser.add_argument("--seed", type=whole_number, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=number_from_1, default=2, help="threads for the network on a CPU")
    parser.add_argument("--workers", type=whole_number, default=1, help="processes that make examples")
    parser.add_argument("--uses", type=number_from_1, help="steps a batch is used for (a GPU: 4, else 1)")


def begin(
    parser: argparse.ArgumentParser, options: argparse.Namespace, *, stages: Sequence[Stage] | None = None
) -> tuple[Run, Sequence[Stage]]:
    """Set this process up by `add_run_options`, --work and --minutes; the run, and the stages to its scale.

    stages: exactly these in place of the recipe's. Ends the process, as parsers do, when an option is wrong.
    """
    for name in ("scale", "minutes", "every"):
        value = getattr(options, name, None)
        if value is not None and not 0 < value < math.inf:
            parser.error(f"--{name} must be above 0; got {value}")
    try:
        device = chosen_device(options.device)
    except ValueError as error:
        parser.error(f"--{error}")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    torch.set_num_threads(options.threads)
    on_cpu = device.type == "cpu"
    if stages is None:
        stages = tuple(map(on_two_cores, STAGES)) if on_cpu else STAGES
        stages = [replace(stage, steps=max(2, round(stage.steps * options.scale))) for stage in stages]
    run = Run(
        work=options.work,
        seed=options.seed,
        device=device,
        workers=options.workers,
        uses=options.uses or (1 if on_cpu else 4),
    )
    return run, stages


def main(arguments: list[str] | None = None, *, stages: Sequence[Stage] | None = None) -> int:
    """The command line; `stages`: exactly these in place of the recipe's."""
    parser = Parser(prog="python -m molmo2_ground.train.tiny", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--work", type=Path, default=Path("runs/tiny"), help="folder for snapshots")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny/checkpoint"), help="the finished model")
    parser.add_argument(
        "--start", help="a finished toy-street model (tiny, or a folder): train the last stage alone, from it"
    )
    parser.add_argument("--minutes", type=float, help="be through after about so many, and hurry; not exact")
    parser.add_argument("--every", type=float, help="measure and keep the weights each so many seconds too")
    parser.add_argument(
        "--save-every", type=number_from_1, default=500, help="steps between snapshots to go on from"
    )
    parser.add_argument("--no-curves", dest="curves", action="store_false", help="draw none (no matplotlib)")
    add_run_options(parser)
    options = parser.parse_args(arguments)
    try:
        start = None if options.start is None else begun_with(options.start)
    except (GroundError, ValueError) as error:
        parser.error(f"--start: {error}")
    run, stages = begin(parser, options, stages=stages)
    if start is not None:
        stages = stages[-2:]
        try:
            leave_weights(start, run.work / f"{stages[0].name}.safetensors")
        except ValueError as error:
            parser.error(f"--work: {error}")
    run = replace(run, save_every=options.save_every, every_s=options.every, curves=options.curves)
    folder = train(options.out, run, stages=stages, minutes=options.minutes)
    if folder is None:
        print(f"stopped; the same command goes on from the snapshots in {options.work}", file=sys.stderr)
        return STOPPED
    print(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

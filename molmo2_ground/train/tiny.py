"""The bundled tiny model from nothing: vision, then the three stages: pictures, clips, long clips.

`python -m molmo2_ground.train.tiny --work runs/tiny --out runs/tiny/checkpoint` runs every stage that has no
snapshot in the work folder yet, so a run that was stopped goes on with the stage it was in. What each stage
is for, and what was tried without it, is told in train/README.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_model, save_model

from molmo2_ground._atomic import atomic_path
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.train.loop import Mark, Pace, run_steps
from molmo2_ground.train.muon import Muon
from molmo2_ground.train.schedule import LevelSchedule
from molmo2_ground.train.tiny_checkpoint import tiny_flags, write_checkpoint
from molmo2_ground.train.tiny_model import Digits, new_model, step_loss
from molmo2_ground.train.tiny_vocab import TURN_END, build_tokenizer
from molmo2_ground.train.toy.questions import all_phrases
from molmo2_ground.train.toy_examples import StageData, ToyBatches
from molmo2_ground.train.tree import BranchWriter
from molmo2_ground.train.vision_stage import VisionBatches, VisionHeads, normalise_visual_tokens, vision_loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenizers import Tokenizer
    from torch.nn import Parameter
    from transformers import Molmo2ForConditionalGeneration

logger = logging.getLogger(__name__)


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
        name="0-vision", steps=4000, data=None, matrix_lr=7e-3, other_lr=1.5e-3, decay_from=0.15, share=0.17
    ),
    Stage(
        name="1-pictures",
        steps=2500,
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
        steps=6000,
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
        steps=4000,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The tiny model's words, and what trees need of them."""

    tokenizer: Tokenizer
    writer: BranchWriter

    @classmethod
    def build(cls) -> Text:
        """The tokenizer over every word of the toy street's questions."""
        words = sorted({word for phrase in all_phrases() for word in phrase.split()})
        tokenizer = build_tokenizer(words)
        codec = TextCodec(tokenizer, bos_word=TURN_END, eos_word=TURN_END, where="the tiny model")
        digits = frozenset(int(tokenizer.token_to_id(str(digit)) or 0) for digit in range(10))
        # The last digit is a pixel or less; what a coordinate is worth lies in the first two.
        writer = BranchWriter(codec=codec, digit_ids=digits, digit_weights=(1.0, 1.0, 0.4))
        return cls(tokenizer=tokenizer, writer=writer)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the stages of a run share: the seed, where it runs, and where it writes.

    every_s  seconds between snapshots of the weights within stages, for a look at how the quality grew.
    """

    work: Path
    seed: int
    device: torch.device
    every_s: float | None = None
    started: float = field(default_factory=time.monotonic)

    def note(self, mark: Mark, model: Molmo2ForConditionalGeneration) -> None:
        """Append a log line to `log.jsonl` in the work folder, and keep the weights when it is time to."""
        at_s = time.monotonic() - self.started
        with (self.work / "log.jsonl").open("a") as log:
            log.write(json.dumps({"at_s": round(at_s, 1), **asdict(mark)}) + "\n")
        if self.every_s is not None:
            path = self.work / f"every-{int(at_s / self.every_s):03d}.safetensors"
            if at_s > self.every_s and not path.exists():
                save(model, path)


def save(model: Molmo2ForConditionalGeneration, path: Path) -> None:
    """Write the weights as they are."""
    with atomic_path(path) as unfinished:
        save_model(model, str(unfinished))


def run_stage(stage: Stage, model: Molmo2ForConditionalGeneration, text: Text, run: Run, pace: Pace) -> None:
    """Train one stage."""
    if stage.data is None:
        _see(stage, model, text, run, pace)
    else:
        _read(stage, stage.data, model, text, run, pace)


def _schedule(stage: Stage) -> LevelSchedule:
    return LevelSchedule(
        steps=stage.steps,
        warmup=min(stage.warmup, stage.steps),
        decay_from=stage.decay_from,
        floor=stage.floor,
    )


def _see(stage: Stage, model: Molmo2ForConditionalGeneration, text: Text, run: Run, pace: Pace) -> None:
    """The vision stage: tower and connector with heads that are thrown away."""
    matrices, others = split_parameters(
        [*model.model.vision_tower.named_parameters(), *model.model.multi_modal_projector.named_parameters()]
    )
    # The library types its sub-configs as optional dicts; after construction they are objects.
    config: Any = model.config
    heads = VisionHeads(config.text_config.hidden_size, 2 * config.vision_config.hidden_size)
    heads.to(run.device, model.dtype)
    others += heads.parameters()
    run_steps(
        stage.name,
        VisionBatches(frames=stage.batch, views=8, seed=run.seed, steps=stage.steps),
        lambda batch: vision_loss(model, heads, batch),
        [Muon(matrices, others, matrix_lr=stage.matrix_lr, other_lr=stage.other_lr)],
        _schedule(stage),
        device=run.device,
        pace=pace,
        on_log=lambda mark: run.note(mark, model),
    )
    sample = VisionBatches(frames=96, views=4, seed=run.seed + 1000, steps=1)[0]
    patch_id = tiny_flags(text.tokenizer).special.image_patch
    normalise_visual_tokens(model, sample.frames_FNV, patch_id=patch_id)


def _read(
    stage: Stage,
    data: StageData,
    model: Molmo2ForConditionalGeneration,
    text: Text,
    run: Run,
    pace: Pace,
) -> None:
    """A stage of questions and answers: the language model, and the vision part at lower rates."""
    vision = list(model.model.multi_modal_projector.named_parameters())
    if stage.train_vit:
        vision += model.model.vision_tower.named_parameters()
    optimizers = [
        Muon(*split_parameters(named), matrix_lr=share * stage.matrix_lr, other_lr=share * stage.other_lr)
        for named, share in (
            (model.model.language_model.named_parameters(), 1.0),
            (vision, stage.vision_share),
        )
    ]
    digits = Digits.build(text.tokenizer, vocab_size=model.lm_head.weight.shape[0], device=run.device)
    run_steps(
        stage.name,
        ToyBatches(data, text.writer, tiny_flags(text.tokenizer), seed=run.seed, steps=stage.steps),
        lambda batch: step_loss(model, batch, digits, train_vision=stage.train_vit),
        optimizers,
        _schedule(stage),
        device=run.device,
        pace=pace,
        on_log=lambda mark: run.note(mark, model),
    )


def train(out: Path, run: Run, *, stages: Sequence[Stage], pace: Pace, minutes: float | None = None) -> Path:
    """Run every stage that has no snapshot in the work folder yet, then write the checkpoint to `out`.

    minutes: about when to be through, from now; each stage gets its share of what is left.
    """
    run.work.mkdir(parents=True, exist_ok=True)
    ends_at = None if minutes is None else time.monotonic() + 60 * minutes
    text = Text.build()
    model = new_model(text.tokenizer, seed=run.seed, device=run.device)
    for number, stage in enumerate(stages):
        snapshot = run.work / f"{stage.name}.safetensors"
        if snapshot.exists():
            logger.info("%s: taken from %s", stage.name, snapshot)
            load_model(model, snapshot)
            continue
        left = sum(later.share for later in stages[number:])
        now = time.monotonic()
        stage_ends = None if ends_at is None else now + (ends_at - now) * stage.share / left
        run_stage(stage, model, text, run, replace(pace, ends_at=stage_ends))
        save(model, snapshot)
    return write_checkpoint(model, text.tokenizer, out)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m molmo2_ground.train.tiny", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--work", type=Path, default=Path("runs/tiny"), help="folder for snapshots")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny/checkpoint"), help="the finished model")
    parser.add_argument("--scale", type=float, default=1.0, help="shorten or lengthen every stage")
    parser.add_argument("--minutes", type=float, help="be through after about so many, and hurry for it")
    parser.add_argument("--every", type=float, help="keep the weights each so many seconds too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="threads for the network on a CPU")
    parser.add_argument("--workers", type=int, default=1, help="processes that make examples")
    parser.add_argument("--uses", type=int, help="steps a batch is used for (a GPU: 4, else 1)")
    options = parser.parse_args(arguments)
    if options.scale <= 0:
        parser.error(f"--scale must be above 0; got {options.scale}")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    stages = STAGES if device.type != "cpu" else tuple(map(on_two_cores, STAGES))
    stages = tuple(replace(stage, steps=max(2, round(stage.steps * options.scale))) for stage in stages)
    uses = options.uses or (1 if device.type == "cpu" else 4)
    folder = train(
        options.out,
        Run(work=options.work, seed=options.seed, device=device, every_s=options.every),
        stages=stages,
        pace=Pace(workers=options.workers, uses=uses),
        minutes=options.minutes,
    )
    print(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The bundled tiny model from nothing: vision, then single pictures, then clips, then all parts together.

`python -m molmo2_ground.train.tiny --work runs/tiny --out runs/tiny/checkpoint` runs every stage that has no
snapshot in the work folder yet, so a run that was stopped goes on with the stage it was in. Two cores need
about three hours. What each stage is for, and what was tried without it, is told in train/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from molmo2_ground._atomic import atomic_path
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.train.loop import run_steps
from molmo2_ground.train.muon import Muon
from molmo2_ground.train.schedule import LevelSchedule
from molmo2_ground.train.tiny_checkpoint import tiny_flags, write_checkpoint
from molmo2_ground.train.tiny_model import new_model, soft_targets, step_loss
from molmo2_ground.train.tiny_vocab import COORDINATES, TURN_END, build_tokenizer, coordinate_text
from molmo2_ground.train.toy.questions import all_phrases
from molmo2_ground.train.toy_examples import StageData, ToyBatches
from molmo2_ground.train.tree import BranchWriter
from molmo2_ground.train.vision_stage import VisionBatches, VisionHeads, normalise_visual_tokens, vision_loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tokenizers import Tokenizer
    from torch import Tensor
    from torch.nn import Parameter
    from transformers import Molmo2ForConditionalGeneration

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the recipe.

    data  how its examples are made; None for the vision stage, which has examples of its own.
    matrix_lr, other_lr  Muon's and AdamW's learning rates at their height.
    vision_share  the vision part's learning rates as a share of these. At the full rate the connector's
                  output grew fifty-fold in 200 steps and the language model learnt nothing.
    train_vit  False keeps the ViT as it is and trains the connector alone.
    """

    name: str
    steps: int
    data: StageData | None
    matrix_lr: float
    other_lr: float
    decay_from: float
    warmup: int = 30
    vision_share: float = 0.1
    train_vit: bool = True


PICTURES = StageData(
    tokens=4800,
    frames=(1,),
    image_share=0.0,
    looks=5,
    lists=0.5,
    questions=6,
    slots=4,
    tasks=("point", "point", "count", "track"),
    views=4,
)
CLIPS = replace(
    PICTURES,
    tokens=5200,
    frames=(1, 2, 4, 6, 8, 8, 12),
    image_share=0.6,
    looks=4,
    questions=9,
    slots=3,
    tasks=("point", "count", "track", "track"),
)
# At the end, more of what takes a whole clip in.
_POINTING = replace(CLIPS, image_share=0.4, looks=2, tasks=("point", "count", "count", "track", "point"))
STAGES = (
    Stage(name="vision", steps=3500, data=None, matrix_lr=5e-3, other_lr=1e-3, decay_from=0.2),
    Stage(
        name="pictures",
        steps=1300,
        data=PICTURES,
        matrix_lr=8e-3,
        other_lr=1e-3,
        decay_from=0.45,
        vision_share=0.03,
        train_vit=False,
    ),
    Stage(
        name="clips",
        steps=2000,
        data=CLIPS,
        matrix_lr=5e-3,
        other_lr=1e-3,
        decay_from=0.3,
        vision_share=0.05,
        train_vit=False,
    ),
    Stage(
        name="everything",
        steps=3600,
        data=replace(CLIPS, frames=(1, 3, 4, 4, 6, 8, 8), image_share=0.4, looks=3),
        matrix_lr=5e-3,
        other_lr=1e-3,
        decay_from=0.15,
        warmup=60,
        vision_share=0.15,
    ),
    Stage(
        name="sharpen",
        steps=1150,
        data=replace(_POINTING, frames=(1, 3, 4, 4, 6, 6, 8)),
        matrix_lr=2.5e-3,
        other_lr=5e-4,
        decay_from=0.05,
        vision_share=0.3,
    ),
    Stage(
        name="short",
        steps=800,
        data=replace(_POINTING, frames=(1, 3, 4, 4, 4, 6)),
        matrix_lr=2e-3,
        other_lr=4e-4,
        decay_from=0.05,
        vision_share=0.3,
    ),
)

AVERAGED = 2
"""The finished weights are the mean of those after the last so many stages: scores of single ones vary."""


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
        ids = frozenset(int(tokenizer.token_to_id(coordinate_text(v)) or 0) for v in COORDINATES)
        return cls(tokenizer=tokenizer, writer=BranchWriter(codec=codec, coordinate_ids=ids))


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


def run_stage(
    stage: Stage,
    model: Molmo2ForConditionalGeneration,
    text: Text,
    *,
    seed: int,
    workers: int,
    snapshot: Path,
) -> None:
    """Train one stage and save the model as it then is."""
    if stage.data is None:
        _see(stage, model, text, seed=seed, workers=workers)
    else:
        _read(stage, stage.data, model, text, seed=seed, workers=workers)
    with atomic_path(snapshot) as unfinished:
        torch.save(model.state_dict(), unfinished)


def _schedule(stage: Stage) -> LevelSchedule:
    return LevelSchedule(steps=stage.steps, warmup=stage.warmup, decay_from=stage.decay_from)


def _see(stage: Stage, model: Molmo2ForConditionalGeneration, text: Text, *, seed: int, workers: int) -> None:
    """The vision stage: tower and connector with heads that are thrown away."""
    matrices, others = split_parameters(
        [*model.model.vision_tower.named_parameters(), *model.model.multi_modal_projector.named_parameters()]
    )
    # The library types its sub-configs as optional dicts; after construction they are objects.
    config: Any = model.config
    heads = VisionHeads(config.text_config.hidden_size, 2 * config.vision_config.hidden_size)
    heads.to(torch.bfloat16)
    others += heads.parameters()
    run_steps(
        stage.name,
        VisionBatches(frames=48, views=4, seed=seed, steps=stage.steps),
        lambda batch: vision_loss(model, heads, batch),
        [Muon(matrices, others, matrix_lr=stage.matrix_lr, other_lr=stage.other_lr)],
        _schedule(stage),
        workers=workers,
    )
    sample = VisionBatches(frames=96, views=4, seed=seed + 1000, steps=1)[0]
    patch_id = tiny_flags(text.tokenizer).special.image_patch
    normalise_visual_tokens(model, sample.frames_FNV, patch_id=patch_id)


def _read(
    stage: Stage,
    data: StageData,
    model: Molmo2ForConditionalGeneration,
    text: Text,
    *,
    seed: int,
    workers: int,
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
    targets = soft_targets(text.tokenizer, vocab_size=model.lm_head.weight.shape[0])
    run_steps(
        stage.name,
        ToyBatches(data, text.writer, tiny_flags(text.tokenizer), seed=seed, steps=stage.steps),
        lambda batch: step_loss(model, batch, targets, train_vision=stage.train_vit),
        optimizers,
        _schedule(stage),
        workers=workers,
    )


def train(work: Path, out: Path, *, scale: float, seed: int, workers: int) -> Path:
    """Run every stage that has no snapshot in `work` yet, then write the checkpoint to `out`.

    The weights are the mean over the last `AVERAGED` stages.
    """
    work.mkdir(parents=True, exist_ok=True)
    text = Text.build()
    model = new_model(text.tokenizer, seed=seed)
    snapshots = [work / f"{number}-{stage.name}.pt" for number, stage in enumerate(STAGES, start=1)]
    for number, (stage, snapshot) in enumerate(zip(STAGES, snapshots, strict=True), start=1):
        if snapshot.exists():
            logger.info("%s is done: %s", stage.name, snapshot)
            model.load_state_dict(torch.load(snapshot, weights_only=True))
            continue
        shorter = replace(stage, steps=max(1, round(stage.steps * scale)))
        run_stage(shorter, model, text, seed=seed + number, workers=workers, snapshot=snapshot)
    model.load_state_dict(_mean([torch.load(path, weights_only=True) for path in snapshots[-AVERAGED:]]))
    return write_checkpoint(model, text.tokenizer, out)


def _mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {
        name: torch.stack([state[name].float() for state in states]).mean(0).to(first.dtype)
        for name, first in states[0].items()
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m molmo2_ground.train.tiny", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--work", type=Path, default=Path("runs/tiny"), help="folder for snapshots")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny/checkpoint"), help="the finished model")
    parser.add_argument("--scale", type=float, default=1.0, help="shorten or lengthen every stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="threads for the network")
    parser.add_argument("--workers", type=int, default=1, help="processes that make examples")
    options = parser.parse_args(arguments)
    if options.scale <= 0:
        parser.error(f"--scale must be above 0; got {options.scale}")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    torch.set_num_threads(options.threads)
    folder = train(options.work, options.out, scale=options.scale, seed=options.seed, workers=options.workers)
    print(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The three stages of the recipe as three functions: `stage1_images`, `stage2_joint`, `stage3_long`.

Every number of a stage is a field of `StageConfig`; change what you want with `dataclasses.replace`.
Values are the paper's. Those of the released training code, where they differ, come with `values="released"`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from molmo2_ground.train import mixture_tables, packer
from molmo2_ground.train.mixture import Mixture
from molmo2_ground.train.packer import PackLimits
from molmo2_ground.train.parts import PART_NAMES, PartName
from molmo2_ground.train.schedule import CosineSchedule
from molmo2_ground.train.task_rules import FINE_TUNING, PRETRAINING, TaskRules
from molmo2_ground.train.weights import WeightRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from molmo2_ground.train.feed import Json
    from molmo2_ground.train.optimizer import AdamGroup, PartAdamW
    from molmo2_ground.train.parts import Piece

Values = Literal["paper", "released"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """One stage, on one screen.

    steps                    updates. rows: packed rows in each, over all processes and micro-batches.
    limits                   what a row may hold, tokens and crops, and how rows are packed.
    rate_*, warmup_*         peak learning rate and updates of linear rise of each part. All then fall along a
                             cosine to `floor` of the peak at `steps`.
    betas, eps, weight_decay, clip_norm    AdamW's, and the bound on the norm of each part's gradient.
    frozen                   parts that stay as they are. train_embedding: learn the base words' table too.
    precision                of products; weights and moments are always kept in float32.
    reduce_precision         of gradients while processes add them up.
    response_dropout         chance to drop, of what layers add to tokens that carry loss; other_dropout: to
                             all others.
    z_loss                   factor on the squared logsumexp in the loss.
    weight_rule              how much the tokens of an answer count; see `branch_weight`.
    bidirectional            words of pictures see each other both ways.
    mixture                  which data sets, and how often. rules: how their rows become questions.
    image_crops              at most so many crops of a picture, besides its small view; image_share_large of
                             pictures of image pointing use up to image_crops_large.
    max_images               of a list of pictures. max_frames: of a video, at most max_fps of them a second.
    data_seed, seed          of the stream of examples; of dropout and all else.
    save_every               updates between snapshots.
    """

    name: str
    steps: int
    rows: int = 128
    limits: PackLimits
    rate_vit: float
    rate_connector: float
    rate_llm: float
    warmup_vit: int = 200
    warmup_connector: int = 200
    warmup_llm: int = 200
    floor: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-6
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    frozen: tuple[PartName, ...] = ()
    train_embedding: bool = False
    precision: Precision = "bfloat16"
    reduce_precision: Precision = "float32"
    response_dropout: float = 0.1
    other_dropout: float = 0.1
    z_loss: float = 1e-4
    weight_rule: WeightRule = "paper"
    bidirectional: bool = True
    mixture: Mixture
    rules: TaskRules = FINE_TUNING
    image_crops: int = 8
    image_crops_large: int = 24
    image_share_large: float = 0.3
    max_images: int = 5
    max_frames: int
    max_fps: float = 2.0
    data_seed: int = 50189
    seed: int = 6198
    save_every: int = 2000

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows must be 1 or more, got {self.rows}")
        if self.max_frames > max(1, self.limits.max_crops):
            raise ValueError(
                f"a video of {self.max_frames} frames fits in no row of {self.limits.max_crops} crops; "
                "lower max_frames or raise limits.max_crops"
            )
        if len(self.frozen) == len(PART_NAMES):
            raise ValueError("every part is frozen; leave one that is trained")
        for part in PART_NAMES:
            self.schedule(part)  # says what is wrong with a warm-up

    def rate(self, part: PartName) -> float:
        """The peak learning rate of a part."""
        return {"vit": self.rate_vit, "connector": self.rate_connector, "llm": self.rate_llm}[part]

    def schedule(self, part: PartName) -> CosineSchedule:
        """How a part's rate goes over the stage."""
        warmups = {"vit": self.warmup_vit, "connector": self.warmup_connector, "llm": self.warmup_llm}
        return CosineSchedule(steps=self.steps, warmup=warmups[part], floor=self.floor)

    def shortened(self, steps: int) -> StageConfig:
        """The stage in `steps` updates: warm-ups shrink with it, everything else stays."""
        share = steps / self.steps
        return replace(
            self,
            steps=steps,
            warmup_vit=int(self.warmup_vit * share),
            warmup_connector=int(self.warmup_connector * share),
            warmup_llm=int(self.warmup_llm * share),
        )

    def optimizer(self, parts: Mapping[PartName, Sequence[Piece]]) -> PartAdamW:
        """AdamW over what `split_parts` found, one group a part."""
        from molmo2_ground.train.optimizer import AdamGroup, PartAdamW

        groups: list[AdamGroup] = [
            AdamGroup(name=part, pieces=pieces, peak_rate=self.rate(part), schedule=self.schedule(part))
            for part, pieces in parts.items()
        ]
        return PartAdamW(
            groups,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
        )

    def identity(self) -> dict[str, Json]:
        """All that must be equal for a run of this stage to go on; how often it is saved may change."""
        found: dict[str, Json] = asdict(self)
        del found["save_every"]
        return found


def stage1_images(*, values: Values = "paper") -> StageConfig:
    """Pictures: captions, points and text, with the language model fresh from its own training.

    The summary of the paper that we hold gives the language model the connector's rate, 2e-4; the released
    code has a tenth of it, as Molmo had, and so does this stage with either `values`. 2e-4 is one
    `replace(stage1_images(), rate_llm=STAGE1_LLM_RATE_OF_THE_SUMMARY)` away.
    """
    paper = StageConfig(
        name="stage1-images",
        steps=32_000,
        limits=packer.STAGE1,
        rate_vit=6e-6,
        rate_connector=2e-4,
        rate_llm=2e-5,
        warmup_vit=2000,
        warmup_llm=2000,
        response_dropout=0.1,
        other_dropout=0.0,
        weight_rule="even",
        mixture=mixture_tables.STAGE1,
        rules=PRETRAINING,
        image_share_large=0.0,
        max_images=1,
        max_frames=16,
        data_seed=95818,
        save_every=4000,
    )
    if values == "paper":
        return paper
    return replace(paper, steps=31_000, limits=packer.STAGE1_RELEASED, bidirectional=False)


STAGE1_LLM_RATE_OF_THE_SUMMARY = 2e-4


def stage2_joint(*, values: Values = "paper") -> StageConfig:
    """Pictures, lists of pictures, videos and text together.

    `released` has the launch script's length, 300,000 steps: one that is stopped at 30,000 has hardly lowered
    its rates. Its gradients are added up in bfloat16.
    """
    paper = StageConfig(
        name="stage2-joint",
        steps=30_000,
        limits=packer.STAGE2,
        rate_vit=5e-6,
        rate_connector=5e-6,
        rate_llm=1e-5,
        mixture=mixture_tables.STAGE2,
        max_frames=128,
    )
    if values == "paper":
        return paper
    return replace(
        paper,
        steps=300_000,
        mixture=mixture_tables.STAGE2_RELEASED,
        weight_rule="released",
        bidirectional=False,
        reduce_precision="bfloat16",
    )


def stage3_long(*, values: Values = "paper") -> StageConfig:
    """Stage 2 for a short while on rows of 36,864 tokens and videos of 384 frames."""
    return replace(
        stage2_joint(values=values), name="stage3-long", steps=2000, limits=packer.STAGE3, max_frames=384
    )

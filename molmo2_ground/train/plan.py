"""What a stage costs before it runs: tokens, arithmetic, hours, memory, disk.

`python -m molmo2_ground.train.plan --model 8B` prints a table of the three stages.

Arithmetic, in floating-point operations (FLOPs), every row taken as full:

    a weight used by a token: 2 forward, 4 backward, 2 more where the forward pass is run again; a frozen one
    passes gradients on with 2 instead of 4, or none when nothing before it is trained. So 8 a weight and
    token for all that is trained.
    attention: 4 · width · keys forward for each token and layer, twice that backward, and once more again; a
    token of a row of L tokens has about L / 2 keys, of a tree in it fewer, of a crop all of its patches.

The hours follow from a share of the GPU's peak that is really used, `utilisation`. 0.17 is ours: with it the
totals of the paper's nine runs come out within a factor of `AGREEMENT` (tests hold it to that).
Memory is of one GPU that holds everything: float32 weights, gradients and two moments (16 bytes a trained
number), a bf16 copy for the products, and what must be kept of one row for its backward pass: the inputs of
each layer, which is run again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from molmo2_ground._parser import Parser
from molmo2_ground.train.stages import StageConfig, Values, stage1_images, stage2_joint, stage3_long

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import Molmo2Config

ModelName = Literal["4B", "8B", "O-7B", "tiny"]

H100_FLOPS = 989e12
"""An H100's products a second in bfloat16, without sparsity; NVIDIA's data sheet."""
UTILISATION = 0.17
AGREEMENT = 2.1
PAPER_GPU_HOURS: dict[str, tuple[float, float, float]] = {
    "4B": (490, 7_500, 3_200),
    "8B": (780, 8_100, 3_300),
    "O-7B": (720, 7_600, 3_300),
}
"""H100 hours of the three stages; Molmo2 paper."""
CHUNK_BYTES = 256 * 2**20
EXTRA_ROWS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """A Molmo2 by its measures; the released ones' are their config files'.

    width, layers, heads_width, kv_width, mlp    of the language model; heads_width: heads times their width.
    vocab          rows of the base table. tied: the output table was the same one while it trained.
    vit_*          of the picture tower. vit_layers: those that run. patches: of a crop.
    pooled         most words that a crop makes.
    """

    name: str
    width: int
    layers: int
    heads_width: int
    kv_width: int
    mlp: int
    vocab: int
    extra_rows: int = EXTRA_ROWS
    tied: bool = False
    vit_width: int = 1152
    vit_layers: int = 25
    vit_mlp: int = 4304
    vit_patch_values: int = 588
    patches: int = 729
    pooled: int = 196
    connector_width: int = 1152
    connector_mlp: int

    @property
    def llm_layers_numbers(self) -> int:
        """Numbers of the decoder layers' matrices."""
        attention = self.width * (2 * self.heads_width + 2 * self.kv_width)
        return self.layers * (attention + 3 * self.width * self.mlp)

    @property
    def table_numbers(self) -> int:
        """Numbers of one table of the base words."""
        return self.vocab * self.width

    @property
    def vit_numbers(self) -> int:
        """Numbers of the picture tower's matrices and its table of places."""
        layer = 4 * self.vit_width**2 + 2 * self.vit_width * self.vit_mlp
        return self.vit_layers * layer + (self.vit_patch_values + self.patches) * self.vit_width

    @property
    def connector_numbers(self) -> int:
        """Numbers of the pooling, which reads two layers' states, and of the projector's three matrices."""
        c = self.connector_width
        pooling = 3 * 2 * self.vit_width * c + c * c
        return pooling + self.connector_mlp * (2 * c + self.width)

    def trained(self, stage: StageConfig) -> int:
        """Numbers that a stage learns."""
        tables = self.table_numbers * (int(not self.tied) + int(stage.train_embedding))
        parts = {
            "vit": self.vit_numbers,
            "connector": self.connector_numbers + self.extra_rows * self.width,
            "llm": self.llm_layers_numbers + tables,
        }
        return sum(numbers for part, numbers in parts.items() if part not in stage.frozen)

    @property
    def numbers(self) -> int:
        """All numbers, as the files hold them: two tables, tied or not."""
        tables = 2 * self.table_numbers + self.extra_rows * self.width
        return self.llm_layers_numbers + self.vit_numbers + self.connector_numbers + tables

    @classmethod
    def of_config(cls, config: Molmo2Config, *, name: str, tied: bool = False) -> ModelSize:
        """The measures of a model by its config."""
        # The library types its sub-configs as optional dicts; after construction they are objects.
        text: Any = config.text_config
        vision: Any = config.vision_config
        adapter: Any = config.adapter_config
        used = max(layer % vision.num_hidden_layers for layer in adapter.vision_feature_layer) + 1
        return cls(
            name=name,
            width=text.hidden_size,
            layers=text.num_hidden_layers,
            heads_width=text.num_attention_heads * text.head_dim,
            kv_width=text.num_key_value_heads * text.head_dim,
            mlp=text.intermediate_size,
            vocab=text.vocab_size,
            extra_rows=text.additional_vocab_size,
            tied=tied,
            vit_width=vision.hidden_size,
            vit_layers=used,
            vit_mlp=vision.intermediate_size,
            vit_patch_values=3 * vision.patch_size**2,
            patches=vision.num_position_embeddings,
            pooled=-(-vision.num_position_embeddings // 4),
            connector_width=adapter.num_attention_heads * adapter.head_dim,
            connector_mlp=adapter.intermediate_size,
        )


def released_size(name: ModelName) -> ModelSize:
    """A released model, or the tiny one of this package."""
    if name == "tiny":
        from molmo2_ground.model.checkpoint import open_checkpoint

        return ModelSize.of_config(open_checkpoint("tiny").config, name="tiny", tied=True)
    width, layers, kv_width, mlp, vocab = {
        "4B": (2560, 36, 1024, 9728, 151_936),
        "8B": (4096, 36, 1024, 12_288, 151_936),
        "O-7B": (4096, 32, 4096, 11_008, 100_278),
    }[name]
    return ModelSize(
        name=name,
        width=width,
        layers=layers,
        heads_width=4096,
        kv_width=kv_width,
        mlp=mlp,
        vocab=vocab,
        tied=name == "4B",
        connector_mlp=mlp,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """What a stage costs.

    tokens, crops      at most, over the whole stage. *_flops: of the whole stage.
    gpu_hours          on one kind of GPU, added up over all of them.
    *_gb               10^9 bytes; activations_gb of one row. paper_hours: what the paper reports, if it does.
    """

    model: str
    stage: str
    steps: int
    tokens: float
    crops: float
    llm_flops: float
    vision_flops: float
    gpu_hours: float
    paper_hours: float | None
    weights_gb: float
    optimizer_gb: float
    activations_gb: float
    snapshot_gb: float

    @property
    def flops(self) -> float:
        """Floating-point operations of the whole stage."""
        return self.llm_flops + self.vision_flops

    @property
    def memory_gb(self) -> float:
        """Of one GPU that holds everything and trains a row at a time."""
        return self.weights_gb + self.optimizer_gb + self.activations_gb

    @property
    def ratio(self) -> float | None:
        """Our hours to the paper's."""
        return None if self.paper_hours is None else self.gpu_hours / self.paper_hours


def plan_stage(
    stage: StageConfig,
    size: ModelSize,
    *,
    utilisation: float = UTILISATION,
    gpu_flops: float = H100_FLOPS,
    paper_hours: float | None = None,
) -> StagePlan:
    """The cost of a stage by the formulas above.

    Raises `ValueError` for a utilisation that is not over 0 and at most 1.
    """
    if not 0.0 < utilisation <= 1.0:
        raise ValueError(f"utilisation must be over 0 and at most 1, got {utilisation}")
    row_tokens, row_crops = stage.limits.max_tokens, stage.limits.max_crops
    rows = float(stage.steps * stage.rows)
    llm, vision = rows * _llm_flops(stage, size), rows * _vision_flops(stage, size)
    trained = size.trained(stage)
    kept = 2 * (
        row_tokens * size.width * size.layers + row_crops * size.patches * size.vit_width * size.vit_layers
    )
    return StagePlan(
        model=size.name,
        stage=stage.name,
        steps=stage.steps,
        tokens=rows * row_tokens,
        crops=rows * row_crops,
        llm_flops=llm,
        vision_flops=vision,
        gpu_hours=(llm + vision) / (gpu_flops * utilisation) / 3600,
        paper_hours=paper_hours,
        weights_gb=(4 * size.numbers + (2 * size.numbers if stage.precision == "bfloat16" else 0)) / 1e9,
        optimizer_gb=12 * trained / 1e9,
        activations_gb=(kept + min(CHUNK_BYTES, 4 * row_tokens * size.vocab)) / 1e9,
        snapshot_gb=(4 * size.numbers + 8 * trained) / 1e9,
    )


def _llm_flops(stage: StageConfig, size: ModelSize) -> float:
    """Of one row in the language model and its output table."""
    tokens = stage.limits.max_tokens
    # Gradients pass through the language model to the connector even when it is frozen itself.
    each = 6 if "llm" in stage.frozen else 8
    head = each if not size.tied or stage.train_embedding else 6
    attention = 4 * 4 * size.heads_width * (tokens / 2) * size.layers
    return float(tokens * (each * size.llm_layers_numbers + head * size.table_numbers + attention))


def _vision_flops(stage: StageConfig, size: ModelSize) -> float:
    """Of one row's crops in the picture tower and the connector."""
    crops, patches = stage.limits.max_crops, size.patches
    frozen = "vit" in stage.frozen
    tower = (2 if frozen else 8) * size.vit_numbers
    attention = (1 if frozen else 4) * 4 * size.vit_width * patches * size.vit_layers
    connector = (8 if "connector" not in stage.frozen else 2 if frozen else 6) * size.connector_numbers
    return float(crops * (patches * (tower + attention) + size.pooled * connector))


def plan_stages(
    name: ModelName, *, utilisation: float = UTILISATION, values: Values = "paper"
) -> list[StagePlan]:
    """The three stages for a model."""
    size = released_size(name)
    hours = PAPER_GPU_HOURS.get(name, (None, None, None))
    stages = (stage1_images(values=values), stage2_joint(values=values), stage3_long(values=values))
    return [
        plan_stage(stage, size, utilisation=utilisation, paper_hours=paper)
        for stage, paper in zip(stages, hours, strict=True)
    ]


def plan_table(plans: Sequence[StagePlan]) -> str:
    """The plans side by side, in words and numbers."""
    rows: list[tuple[str, list[str]]] = [
        ("", [plan.stage for plan in plans]),
        ("steps", [f"{plan.steps:,}" for plan in plans]),
        ("tokens, at most", [f"{plan.tokens / 1e9:,.1f} billion" for plan in plans]),
        ("crops, at most", [f"{plan.crops / 1e6:,.1f} million" for plan in plans]),
        ("language model, FLOPs", [f"{plan.llm_flops:.2e}" for plan in plans]),
        ("pictures, FLOPs", [f"{plan.vision_flops:.2e}" for plan in plans]),
        ("H100 hours", [f"{plan.gpu_hours:,.0f}" for plan in plans]),
        ("H100 hours, the paper's", [_or_none(plan.paper_hours, ",.0f") for plan in plans]),
        ("ours to the paper's", [_or_none(plan.ratio, ".2f") for plan in plans]),
        ("weights and their bf16 copy", [f"{plan.weights_gb:,.2f} GB" for plan in plans]),
        ("gradients and moments", [f"{plan.optimizer_gb:,.2f} GB" for plan in plans]),
        ("kept for the backward pass of a row", [f"{plan.activations_gb:,.2f} GB" for plan in plans]),
        ("together, on one GPU", [f"{plan.memory_gb:,.2f} GB" for plan in plans]),
        ("a snapshot on disk", [f"{plan.snapshot_gb:,.2f} GB" for plan in plans]),
    ]
    left = max(len(name) for name, _ in rows)
    wide = max(len(cell) for _, cells in rows for cell in cells)
    return "\n".join(
        f"{name:<{left}}  " + "  ".join(f"{cell:>{wide}}" for cell in cells) for name, cells in rows
    )


def _or_none(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m molmo2_ground.train.plan") -> int:
    """The command line."""
    parser = Parser(prog=prog, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", choices=("4B", "8B", "O-7B", "tiny"), default="4B")
    parser.add_argument("--values", choices=("paper", "released"), default="paper")
    parser.add_argument(
        "--utilisation", type=float, default=UTILISATION, help="share of the GPU's peak that is used"
    )
    options = parser.parse_args(arguments)
    if not 0.0 < options.utilisation <= 1.0:
        parser.error(f"--utilisation must be over 0 and at most 1, got {options.utilisation}")
    plans = plan_stages(options.model, utilisation=options.utilisation, values=options.values)
    print(
        f"Molmo2 {options.model}, {options.values} values, {options.utilisation:.0%} of an H100's peak used\n"
    )
    print(plan_table(plans))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""`fine_tune`: a checkpoint, folders of rows, and a better checkpoint for what they show.

fine_tune(["street/rows"], model="tiny", out="street/model", settings=FineTuning(steps=60, rate=5e-4))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from molmo2_ground._wanted import NUMBER, PATH, WHOLE, WORDS, Wanted, check_kinds
from molmo2_ground.model.checkpoint import open_checkpoint
from molmo2_ground.train.packer import PackLimits
from molmo2_ground.train.parts import PartName
from molmo2_ground.train.row_data import RowData, open_folders
from molmo2_ground.train.stage_run import RunOptions, TrainedStage, fitted, on_this_device, train_stage
from molmo2_ground.train.stages import StageConfig, stage2_joint

_SETTINGS = {**dict.fromkeys(("steps", "rows", "tokens", "seed"), WHOLE), "rate": NUMBER.or_nothing()}
_POOL = 8  # examples that wait for a row: few data need no more, and each is in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """How stage 2 is scaled down to one's own data.

    steps   updates. rows: packed rows in each. tokens: of a row at most.
    rate    peak learning rate of the language model; the other parts keep their share of it. None: the
            recipe's, which is for models of billions.
    frozen  parts that stay as they are.
    seed    of the stream of examples and of dropout.
    """

    steps: int = 300
    rows: int = 8
    tokens: int = 16_384
    rate: float | None = None
    frozen: tuple[PartName, ...] = ()
    seed: int = 6198

    def stage(self, data: RowData) -> StageConfig:
        """Stage 2 with these numbers; a tenth of the updates, at most 200, are warm-up."""
        check_kinds(_SETTINGS, {name: getattr(self, name) for name in _SETTINGS})
        WORDS.all_of("frozen", self.frozen)
        if self.steps < 1 or self.tokens < 1:
            raise ValueError(f"steps and tokens are 1 or more; got {self.steps} and {self.tokens}")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise ValueError(f"the learning rate is a number over 0; got {self.rate}")
        if self.seed < 0:
            raise ValueError(f"the seed is 0 or more; got {self.seed}")
        recipe = stage2_joint()
        factor = 1.0 if self.rate is None else self.rate / recipe.rate_llm
        warmup = min(200, self.steps // 10)
        return replace(
            recipe,
            name="fine-tuning",
            steps=self.steps,
            rows=self.rows,
            limits=PackLimits(max_tokens=self.tokens, max_crops=recipe.limits.max_crops, pool=_POOL),
            rate_vit=recipe.rate_vit * factor,
            rate_connector=recipe.rate_connector * factor,
            rate_llm=recipe.rate_llm * factor,
            warmup_vit=warmup,
            warmup_connector=warmup,
            warmup_llm=warmup,
            frozen=self.frozen,
            mixture=data.mixture,
            data_seed=self.seed,
            seed=self.seed,
            save_every=100,
        )


def fine_tune(
    folders: Sequence[str | Path],
    *,
    model: str | Path,
    out: str | Path,
    work: str | Path | None = None,
    rates: Sequence[float] = (),
    settings: FineTuning | None = None,
    options: RunOptions | None = None,
) -> TrainedStage:
    """Train a checkpoint on folders of rows, and write a new one to `out`.

    rates  how often each folder is drawn, only their ratio counts; without, by the root of its size.
    The rest, and what is raised, as for `train_stage`; `SourceError` for a folder without rows.
    """
    Wanted("a FineTuning", (FineTuning,), or_none=True).check("settings", settings)
    Wanted("a RunOptions", (RunOptions,), or_none=True).check("options", options)
    options = RunOptions() if options is None else options
    data = open_folders(PATH.all_of("folders", folders), rates=NUMBER.all_of("rates", rates))
    flags = open_checkpoint(model).flags
    stage = fitted((settings or FineTuning()).stage(data), flags)
    return train_stage(
        on_this_device(stage, options.device),
        data,
        model=model,
        out=Path(out),
        work=None if work is None else Path(work),
        options=options,
    )

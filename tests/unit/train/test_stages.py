from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from molmo2_ground.train import mixture_tables
from molmo2_ground.train.packer import PackLimits
from molmo2_ground.train.stages import StageConfig, stage1_images, stage2_joint, stage3_long

# Molmo2 paper, as facts of the recipe list it.
TABLE = {
    "stage1-images": (32_000, 2_560, 16, (6e-6, 2e-4, 2e-5), (2000, 200, 2000), (0.1, 0.0), "even"),
    "stage2-joint": (30_000, 16_384, 128, (5e-6, 5e-6, 1e-5), (200, 200, 200), (0.1, 0.1), "paper"),
    "stage3-long": (2_000, 36_864, 384, (5e-6, 5e-6, 1e-5), (200, 200, 200), (0.1, 0.1), "paper"),
}


@pytest.mark.parametrize("stage", [stage1_images(), stage2_joint(), stage3_long()], ids=lambda s: s.name)
def test_the_stages_are_those_of_the_paper(stage: StageConfig) -> None:
    assert (
        stage.steps,
        stage.limits.max_tokens,
        stage.limits.max_crops,
        (stage.rate_vit, stage.rate_connector, stage.rate_llm),
        (stage.warmup_vit, stage.warmup_connector, stage.warmup_llm),
        (stage.response_dropout, stage.other_dropout),
        stage.weight_rule,
    ) == TABLE[stage.name]
    assert (stage.rows, stage.betas, stage.eps, stage.weight_decay, stage.clip_norm, stage.floor) == (
        128,
        (0.9, 0.95),
        1e-6,
        0.0,
        1.0,
        0.1,
    )
    assert (stage.z_loss, stage.image_crops, stage.max_fps, stage.seed) == (1e-4, 8, 2.0, 6198)
    assert stage.bidirectional
    assert not stage.frozen
    assert not stage.train_embedding


def test_the_released_values_are_an_option() -> None:
    first, second = stage1_images(values="released"), stage2_joint(values="released")
    assert (first.steps, first.limits.max_tokens, first.bidirectional) == (31_000, 2536, False)
    assert (second.steps, second.weight_rule, second.reduce_precision) == (300_000, "released", "bfloat16")
    assert second.mixture is mixture_tables.STAGE2_RELEASED
    assert stage3_long(values="released").weight_rule == "released"


def test_a_shortened_stage_keeps_everything_but_its_length() -> None:
    short = stage1_images().shortened(160)
    assert (short.steps, short.warmup_vit, short.warmup_connector) == (160, 10, 1)
    assert (
        replace(short, steps=32_000, warmup_vit=2000, warmup_connector=200, warmup_llm=2000)
        == stage1_images()
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        pytest.param({"steps": 100}, "warm-up must be shorter than the run, got 200 of 100", id="warm-up"),
        pytest.param({"rows": 0}, "rows must be 1 or more", id="rows"),
        pytest.param({"max_frames": 129}, "129 frames fits in no row of 128 crops", id="frames"),
        pytest.param({"limits": PackLimits(max_crops=4)}, "fits in no row of 4 crops", id="crops"),
        pytest.param({"frozen": ("vit", "connector", "llm")}, "every part is frozen", id="frozen"),
    ],
)
def test_senseless_stages_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(stage2_joint(), **changes)


def test_the_identity_of_a_stage_is_plain_json_without_what_may_change() -> None:
    told = json.loads(json.dumps(stage2_joint().identity()))
    assert told["limits"]["max_tokens"] == 16_384
    assert "save_every" not in told
    assert replace(stage2_joint(), save_every=10).identity() == stage2_joint().identity()
    assert replace(stage2_joint(), z_loss=0.0).identity() != stage2_joint().identity()

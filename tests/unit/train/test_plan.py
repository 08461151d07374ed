from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from molmo2_ground.model.checkpoint import open_checkpoint
from molmo2_ground.train import plan
from molmo2_ground.train.plan import AGREEMENT, PAPER_GPU_HOURS, ModelSize, plan_stage, plan_stages
from molmo2_ground.train.stages import stage2_joint

# (ViT, connector, all) of the released files, all with norms and biases, which a plan leaves out.
RELEASED: dict[Any, tuple[int, int, int]] = {
    "4B": (382_505_936, 56_611_328, 4_850_869_200),
    "8B": (382_505_936, 87_937_536, 8_661_703_120),
    "O-7B": (382_505_936, 79_745_536, 7_760_786_896),
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_numbers_of_a_model_are_those_of_its_files(name: Any) -> None:
    size = plan.released_size(name)
    assert (size.vit_numbers, size.connector_numbers, size.numbers) == pytest.approx(RELEASED[name], rel=2e-3)


def test_the_numbers_of_the_tiny_model_are_those_of_its_file() -> None:
    checkpoint = open_checkpoint("tiny")
    size = ModelSize.of_config(checkpoint.config, name="tiny")
    assert size.numbers == pytest.approx(checkpoint.parameters, rel=5e-3)


@pytest.mark.parametrize("name", PAPER_GPU_HOURS)
def test_the_hours_are_those_of_the_paper_within_the_stated_factor(name: Any) -> None:
    for stage in plan_stages(name):
        assert stage.ratio is not None
        assert 1 / AGREEMENT < stage.ratio < AGREEMENT


@pytest.mark.slow
def test_the_arithmetic_is_what_torch_counts() -> None:
    """Matrix products of a decoder layer's and the tower's weights, counted by torch on the tiny model."""
    from torch.utils.flop_counter import FlopCounterMode

    size = plan.released_size("tiny")
    layer = [
        torch.nn.Linear(columns, rows, bias=False)
        for rows, columns in (
            (size.heads_width, size.width),
            (size.kv_width, size.width),
            (size.kv_width, size.width),
            (size.width, size.heads_width),
            (size.mlp, size.width),
            (size.mlp, size.width),
            (size.width, size.mlp),
        )
    ]
    tokens = 10
    with FlopCounterMode(display=False) as counter:
        for one in layer:
            one(torch.ones(tokens, one.in_features, requires_grad=True)).sum().backward()
    # 2 forward and 4 backward; the eighth part is the forward pass that runs again.
    assert counter.get_total_flops() == 6 * tokens * size.llm_layers_numbers // size.layers


def test_a_frozen_tower_costs_a_quarter_and_no_moments() -> None:
    size = plan.released_size("8B")
    all_of_it = plan_stage(stage2_joint(), size)
    frozen = plan_stage(replace(stage2_joint(), frozen=("vit",)), size)
    assert frozen.vision_flops < 0.35 * all_of_it.vision_flops
    assert frozen.llm_flops == all_of_it.llm_flops
    assert all_of_it.optimizer_gb - frozen.optimizer_gb == pytest.approx(12 * size.vit_numbers / 1e9)


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(["--model", "8B"]) == 0
    told = capsys.readouterr().out
    assert "H100 hours, the paper's" in told
    assert "8,100" in told
    with pytest.raises(SystemExit):
        plan.main(["--utilisation", "0"])
    with pytest.raises(ValueError, match="utilisation must be over 0"):
        plan_stage(stage2_joint(), plan.released_size("8B"), utilisation=1.5)

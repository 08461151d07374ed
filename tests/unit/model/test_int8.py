from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.checkpoint import memory_line
from molmo2_ground.model.int8 import Int8Linear, saved_parameters


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_layer_is_off_by_half_a_step_of_its_rows(bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(64, 48, bias=bias).to(dtype)
    with torch.no_grad():
        plain.weight[3] *= 100  # a row of its own size
        plain.weight[4] = 0
    whole = Int8Linear(plain)
    assert whole.get_buffer("weight").dtype is torch.int8
    inputs = torch.randn(5, 64, dtype=dtype)
    steps = plain.weight.detach().float().abs().amax(1) / 127
    bound = 0.5 * steps * inputs.float().abs().sum(1, keepdim=True) + (
        1e-4 if dtype == torch.float32 else 0.5
    )
    assert ((whole(inputs) - plain(inputs)).float().abs() <= bound * 1.01).all()


@pytest.fixture(scope="module")
def whole(folders: dict[str, Path]) -> dict[str, Molmo2]:
    return {kind: load_checkpoint(folder, device="cpu", dtype="int8") for kind, folder in folders.items()}


def test_answers_are_nearly_the_same(models: dict[str, Molmo2], whole: dict[str, Molmo2]) -> None:
    clip = Clip.from_arrays(
        np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8), fps=2.0
    )
    for kind, model in models.items():
        logits = [one.logits(one.build_inputs(clip, "Track it.")) for one in (model, whole[kind])]
        apart = (logits[0] - logits[1]).abs()
        assert 0 < apart.mean() < 0.1 * logits[0].std()
        assert whole[kind].generate(whole[kind].build_inputs(clip, "a"), max_new_tokens=3).token_ids


def test_the_memory_is_what_is_told(whole: dict[str, Molmo2]) -> None:
    for model in whole.values():
        network: Any = model.network
        held = [*network.parameters(), *(b for name, b in network.named_buffers() if "inv_freq" not in name)]
        scales = sum(b.numel() for name, b in network.named_buffers() if name.endswith("scale"))
        checkpoint = model.checkpoint
        told = 4 * checkpoint.parameters - 3 * saved_parameters(checkpoint.config.text_config)
        assert sum(tensor.nbytes for tensor in held) == told + 4 * scales
    line = memory_line(checkpoint, device=torch.device("cpu"), dtype=torch.float32, int8=True)
    assert "int8 and float32" in line
    assert f"{told / 1e6:.1f} MB" in line

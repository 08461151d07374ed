"""Projections as one product: the same numbers as one each, and parameters that stay what they are."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.int8 import Int8Linear
from molmo2_ground.model.joined_linear import _spanned, lay_together, linear_together
from molmo2_ground.model.random_checkpoint import Kind, write_random_checkpoint


def layers(widths: list[int], *, bias: bool = False) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(12, width, bias=bias).requires_grad_(False) for width in widths]


def attentions(model: Molmo2) -> list[Any]:
    return [layer.self_attn for layer in model.network.model.language_model.layers]


def projections(attention: Any) -> list[Any]:
    return [attention.q_proj, attention.k_proj, attention.v_proj]


def taken_apart(model: Molmo2) -> Molmo2:
    """A copy whose weights each have a place of their own, as after a move to another device."""
    network: Any = copy.deepcopy(model.network)
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()
    return Molmo2(model.checkpoint, network)


CLIP = Clip.from_arrays(np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), dtype=np.uint8), fps=2.0)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Molmo2]:
    """`qwen` shares keys between heads and norms each, `olmo` norms all at once."""
    variants: list[tuple[str, Kind, bool]] = [
        ("qwen", "qwen", False),
        ("qwen-bias", "qwen", True),
        ("olmo", "olmo", False),
        ("olmo-bias", "olmo", True),
    ]
    made = {}
    for name, kind, bias in variants:
        folder = tmp_path_factory.mktemp(name)
        write_random_checkpoint(folder, kind=kind, sizes={"text_config": {"qkv_bias": bias}})
        made[name] = load_checkpoint(folder, device="cpu")
    return made


@pytest.mark.parametrize("name", ["qwen", "qwen-bias", "olmo", "olmo-bias"])
def test_one_product_gives_what_three_give(name: str, kinds: dict[str, Molmo2]) -> None:
    joined, apart = kinds[name], taken_apart(kinds[name])
    assert all(_spanned(projections(attention)) is not None for attention in attentions(joined))
    assert all(_spanned(projections(attention)) is None for attention in attentions(apart))
    inputs = joined.build_inputs(CLIP, "Track it.")
    expected = apart.logits(inputs)
    torch.testing.assert_close(joined.logits(inputs), expected, atol=1e-5, rtol=0)
    lay_together(apart.network)
    assert all(_spanned(projections(attention)) is not None for attention in attentions(apart))
    torch.testing.assert_close(apart.logits(inputs), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["qwen-bias", "olmo"])
def test_parameters_are_views_and_keep_their_names_and_numbers(name: str, kinds: dict[str, Molmo2]) -> None:
    model = taken_apart(kinds[name])
    network: Any = model.network
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    objects = dict(network.named_parameters())
    lay_together(network)
    assert all(parameter is objects[key] for key, parameter in network.named_parameters())
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    for attention in attentions(model):
        places = {linear.weight.untyped_storage().data_ptr() for linear in projections(attention)}
        assert len(places) == 1
        storage = attention.q_proj.weight.untyped_storage()
        assert storage.nbytes() == sum(linear.weight.nbytes for linear in projections(attention))
    changed = {key: tensor + 1 for key, tensor in before.items()}
    network.load_state_dict(changed)  # into the views
    spanned = _spanned(projections(attentions(model)[0]))
    assert spanned is not None
    key = "model.language_model.layers.0.self_attn.{}_proj.weight"
    assert torch.equal(spanned[0], torch.cat([changed[key.format(part)] for part in "qkv"]))


@pytest.mark.slow
def test_other_layers_are_run_one_by_one(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        whole = load_checkpoint(folder, device="cpu", dtype="int8")
        lay_together(whole.network)
        for attention in attentions(whole):
            three = projections(attention)
            assert all(isinstance(linear, Int8Linear) for linear in three)
            inputs = torch.randn(5, attention.config.hidden_size)
            expected = torch.cat([linear(inputs) for linear in three], dim=-1)
            assert torch.equal(linear_together(three, inputs), expected)


class Doubled(nn.Linear):
    """Inherits from a plain layer and does something else."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def laid_together(widths: list[int], *, bias: bool = False) -> list[nn.Linear]:
    made = layers(widths, bias=bias)
    whole = torch.cat([linear.weight for linear in made])
    for linear, rows in zip(made, whole.split(widths), strict=True):
        linear.weight.data = rows
    return made


@pytest.mark.parametrize(
    "case", ["together", "gradients", "order", "one-bias", "apart-bias", "subclass", "type"]
)
def test_only_frozen_plain_layers_in_their_order_are_spanned(case: str) -> None:
    made: list[Any] = laid_together([3, 5, 4], bias=case == "apart-bias")
    if case == "gradients":
        made[1].requires_grad_(True)
    elif case == "order":
        made.reverse()
    elif case == "one-bias":
        made[2].bias = nn.Parameter(torch.ones(4), requires_grad=False)
    elif case == "subclass":
        other = Doubled(12, 5, bias=False).requires_grad_(False)
        other.weight.data = made[1].weight.data
        made[1] = other
    elif case == "type":
        made[1].weight.data = made[1].weight.data.view(torch.int32)
    assert (_spanned(made) is not None) == (case == "together")
    if case != "type":
        inputs = torch.randn(2, 12)
        expected = torch.cat([linear(inputs) for linear in made], dim=-1)
        torch.testing.assert_close(linear_together(made, inputs), expected)

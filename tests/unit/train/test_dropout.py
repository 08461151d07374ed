from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from molmo2_ground.model import load_checkpoint
from molmo2_ground.model.random_checkpoint import Kind, write_random_checkpoint
from molmo2_ground.train.dropout import ResidualDropout, response_tokens, token_dropout
from molmo2_ground.train.tree import IGNORE

RESPONSE = torch.tensor([[False, False, True, True, True, False]])


def test_response_tokens_are_those_with_a_target_and_a_weight() -> None:
    targets = torch.tensor([IGNORE, 4, 5])
    assert response_tokens(targets, torch.tensor([1.0, 1.0, 0.0])).tolist() == [False, True, False]


def test_only_tokens_of_their_kind_are_dropped_from_and_the_mean_stays() -> None:
    added = torch.ones(1, 6, 20_000)
    dropped = token_dropout(added, RESPONSE, response_p=0.25, other_p=0.0, seed=3)
    assert torch.equal(dropped[~RESPONSE], added[~RESPONSE])
    kept = dropped[RESPONSE]
    assert kept.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert float((kept == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.02)


def test_other_tokens_have_a_chance_of_their_own() -> None:
    added = torch.ones(1, 6, 20_000)
    dropped = token_dropout(added, RESPONSE, response_p=0.0, other_p=0.1, seed=3)
    assert torch.equal(dropped[RESPONSE], added[RESPONSE])
    assert float((dropped[~RESPONSE] == 0).float().mean()) == pytest.approx(0.1, abs=0.01)


def test_equal_seeds_drop_alike_whatever_else_is_random() -> None:
    added = torch.ones(1, 6, 50)
    one, again, other = (
        token_dropout(added + 0 * torch.rand(1), RESPONSE, response_p=0.5, other_p=0.0, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_no_chance_changes_nothing_and_draws_nothing() -> None:
    added = torch.randn(1, 6, 4)
    assert token_dropout(added, RESPONSE, response_p=0.0, other_p=0.0, seed=0) is added


@pytest.mark.parametrize("chance", [-0.1, 1.0, float("nan")])
def test_a_chance_that_is_none_is_refused(chance: float) -> None:
    with pytest.raises(ValueError, match="chance of dropout"):
        token_dropout(torch.ones(1, 6, 2), RESPONSE, response_p=chance, other_p=0.0, seed=0)


@pytest.fixture(scope="module", params=["qwen", "olmo"])
def language(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    kind: Kind = request.param
    folder = write_random_checkpoint(tmp_path_factory.mktemp(kind), kind=kind)
    model = load_checkpoint(folder, device="cpu", dtype="float32")
    language_model: torch.nn.Module = model.network.model.language_model
    return language_model


def run(language: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    hidden: torch.Tensor = language(input_ids=ids, use_cache=False).last_hidden_state
    return hidden


def test_a_language_model_drops_inside_and_sleeps_outside(language: torch.nn.Module) -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    plain = run(language, ids)
    dropout = ResidualDropout(language.layers)  # type: ignore[arg-type]  # typed as a tensor or module
    assert torch.equal(run(language, ids), plain)
    with dropout.active(RESPONSE, seed=7):
        one = run(language, ids)
    with dropout.active(RESPONSE, seed=7):
        again = run(language, ids)
    with dropout.active(RESPONSE, seed=8):
        other = run(language, ids)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    # The first two tokens are no response, and see none.
    assert torch.equal(one[:, :2], plain[:, :2])
    assert not torch.isclose(one[:, 2:5], plain[:, 2:5]).all(-1).any()
    assert torch.equal(run(language, ids), plain)


def test_every_layer_drops_twice_and_differently(language: torch.nn.Module) -> None:
    dropout = ResidualDropout([])
    layers = list(language.layers)  # type: ignore[arg-type]  # typed as a tensor or module
    hooks = [dropout._hook(site) for site in range(2 * len(layers))]
    with dropout.active(RESPONSE, seed=1, response_p=0.5):
        masks = [hook(language, (), torch.ones(1, 6, 40)) for hook in hooks]
    assert len({mask.numpy().tobytes() for mask in masks}) == len(hooks) == 6


def test_layers_that_are_recomputed_drop_the_same_again() -> None:
    dropout = ResidualDropout([])
    hook = dropout._hook(0)
    weight = torch.ones(1, 6, 30, requires_grad=True)

    def layer(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = hook(torch.nn.Identity(), (), x * x)
        return found

    with dropout.active(RESPONSE, seed=1, response_p=0.5):
        (plain,) = torch.autograd.grad(layer(weight).sum(), [weight])
        recomputed = checkpoint(layer, weight, use_reentrant=False, preserve_rng_state=False)
        (gradient,) = torch.autograd.grad(recomputed.sum(), [weight])
    assert torch.equal(gradient, plain)

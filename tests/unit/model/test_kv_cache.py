from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from molmo2_ground.model.kv_cache import BranchCache


def states(tokens: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, 1, 3, tokens, 4, generator=generator)
    return keys, values


@pytest.mark.slow
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 40))
@settings(deadline=None)
def test_holds_what_the_librarys_cache_holds(steps: list[int], room: int) -> None:
    ours, library = BranchCache(layers=2), DynamicCache()
    ours.reserve(room)
    for step, tokens in enumerate(steps):
        for layer in range(2):
            keys, values = states(tokens, seed=10 * step + layer)
            found = ours.update(keys, values, layer)
            expected = library.update(keys, values, layer)
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])
    assert ours.get_seq_length() == library.get_seq_length() == sum(steps)


def test_questions_branch_off_the_prefix() -> None:
    cache = BranchCache(layers=1)
    prefix, first, second = (states(n, seed=n) for n in (5, 7, 3))
    cache.update(*prefix, 0)
    cache.update(*first, 0)
    cache.cut_back(5)
    keys, values = cache.update(*second, 0)
    assert torch.equal(keys, torch.cat([prefix[0], second[0]], dim=2))
    assert torch.equal(values, torch.cat([prefix[1], second[1]], dim=2))


def test_a_run_broken_off_between_layers_is_forgotten() -> None:
    cache = BranchCache(layers=2)
    for layer in range(2):
        cache.update(*states(4, seed=layer), layer)
    cache.update(*states(1, seed=9), 0)
    cache.cut_back(4)
    assert [cache.get_seq_length(layer) for layer in range(2)] == [4, 4]


def test_cutting_back_to_what_is_not_there_is_refused() -> None:
    cache = BranchCache(layers=1)
    cache.update(*states(2, seed=0), 0)
    with pytest.raises(ValueError, match="holds 2 tokens"):
        cache.cut_back(3)

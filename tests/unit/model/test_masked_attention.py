"""Attention under a rule: how many rows and columns are looked at together changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2, masked_attention
from molmo2_ground.model.decoding import Sampling
from molmo2_ground.model.masked_attention import Mask, attend_by
from molmo2_ground.model.prefix import answer_together

CLIP = Clip.from_arrays(np.random.default_rng(0).integers(0, 256, (5, 30, 40, 3), dtype=np.uint8), fps=2.0)


class Written:
    """A rule that was written down; obeys `Rule`."""

    def __init__(self, allowed: torch.Tensor | None, *, free: int) -> None:
        self._allowed, self.free = allowed, free

    def rows(self, start: int, stop: int) -> torch.Tensor | None:
        return None if self._allowed is None else self._allowed[start:stop].clone()


@pytest.mark.parametrize("least_free", [1, 10**6], ids=["free-apart", "one-product"])
@pytest.mark.parametrize("entries", [1, 500, 2**24], ids=["row-by-row", "blocks", "at-once"])
def test_blocks_of_rows_and_columns_change_no_prompt(
    entries: int, least_free: int, models: dict[str, Molmo2], monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in models.values():
        inputs = model.build_inputs(CLIP, "Track it.")
        expected = model.logits(inputs)
        with monkeypatch.context() as patch:
            patch.setattr(masked_attention, "_MASK_ENTRIES_CPU", entries)
            patch.setattr(masked_attention, "LEAST_FREE", least_free)
            torch.testing.assert_close(model.logits(inputs), expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_answers_are_the_same_with_their_prefix_apart(
    models: dict[str, Molmo2], monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in models.values():
        found = []
        for least_free in (1, 10**6):
            monkeypatch.setattr(masked_attention, "LEAST_FREE", least_free)
            prefix = model.prefix(CLIP)
            turns = [prefix.turn(words, max_new_tokens=20) for words in ("Track it.", "Where is it?")]
            found.append([answer.token_ids for answer in answer_together(turns, sampling=Sampling())])
        assert found[0] == found[1]


@pytest.mark.parametrize(("free", "behind"), [(0, 1), (0, 20), (300, 0), (300, 1), (300, 20)])
def test_a_rule_that_allows_everything_needs_no_mask(
    free: int, behind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masked_attention, "LEAST_FREE", 256)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, rows, 16, generator=generator)
        for heads, rows in ((4, 3), (2, free + behind), (2, free + behind))
    )
    found = [
        attend_by(Mask(Written(allowed, free=free)), query, key, value, scale=0.25)
        for allowed in (None, torch.ones(3, behind, dtype=torch.bool))
    ]
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=0)

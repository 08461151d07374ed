"""One attention rule as a dense mask and as a block mask. Numbers are those of the recipe's invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, create_mask, flex_attention

from molmo2_ground.train import attention_rule, block_mask
from molmo2_ground.train.block_mask import build_block_mask, dense_mask, mask_mod, row_tokens
from molmo2_ground.train.tree import FlatPack, flatten, pack_trees
from tests.trees import random_pack, random_tree

SEEDS = range(6)
BIDIRECTIONAL = pytest.mark.parametrize("bidirectional", [True, False], ids=["both-ways", "causal"])


def rule_of(pack: FlatPack, *, bidirectional: bool = True) -> torch.Tensor:
    visual = torch.from_numpy(pack.visual)
    return attention_rule(
        visual if bidirectional else torch.zeros_like(visual),
        valid_L=torch.from_numpy(pack.valid),
        tree_ids_L=torch.from_numpy(pack.tree_ids),
        branch_ids_L=torch.from_numpy(pack.branch_ids),
    )


def by_segments(pack: FlatPack) -> torch.Tensor:
    """The released code's arithmetic: later branches have larger numbers, a shared prefix the largest."""
    branches = torch.from_numpy(pack.branch_ids)
    trees = torch.from_numpy(pack.tree_ids)
    segment = 100_000 * trees + torch.where(branches == 0, 10_000, branches - 1)
    place = torch.arange(len(pack))
    visual = torch.from_numpy(pack.visual)
    pictures = visual[:, None] & visual[None, :] & (trees[:, None] == trees[None, :])
    looking_back = place[None, :] <= place[:, None]
    valid = torch.from_numpy(pack.valid)
    return valid[None, :] & (looking_back | pictures) & (segment[:, None] <= segment[None, :])


@pytest.mark.parametrize("seed", SEEDS)
def test_invariant_04_nobody_sees_another_tree_another_branch_or_padding(seed: int) -> None:
    pack = random_pack(seed)
    seen = np.argwhere(rule_of(pack).numpy())
    assert len(seen) > len(pack)
    for query, key in seen:
        assert pack.valid[key]
        assert pack.tree_ids[query] == pack.tree_ids[key]
        assert pack.branch_ids[key] in (0, pack.branch_ids[query])


@pytest.mark.parametrize("seed", SEEDS)
def test_invariant_05_pictures_of_one_tree_see_each_other_and_are_causal_when_that_is_off(seed: int) -> None:
    pack = random_pack(seed)
    both = np.outer(pack.visual, pack.visual)
    same_tree = pack.tree_ids[:, None] == pack.tree_ids[None, :]
    earlier = np.tri(len(pack), dtype=np.bool_)
    assert (both & ~same_tree).any()
    assert (rule_of(pack).numpy()[both] == same_tree[both]).all()
    assert (rule_of(pack, bidirectional=False).numpy()[both] == (same_tree & earlier)[both]).all()


@BIDIRECTIONAL
@pytest.mark.parametrize("seed", SEEDS)
def test_invariant_06_the_mask_mod_evaluated_everywhere_is_the_dense_rule(
    seed: int, bidirectional: bool
) -> None:
    pack = random_pack(seed)
    tokens = row_tokens([pack], bidirectional=bidirectional)
    everywhere = create_mask(mask_mod(tokens), 1, 1, len(pack), len(pack), device="cpu")
    assert torch.equal(everywhere[0, 0], rule_of(pack, bidirectional=bidirectional))


@pytest.mark.parametrize("seed", SEEDS)
def test_invariant_06_the_rule_is_the_segment_arithmetic_of_the_released_code(seed: int) -> None:
    pack = random_pack(seed)
    assert torch.equal(rule_of(pack)[pack.valid], by_segments(pack)[pack.valid])


def rows_of_one_length(*seeds: int, multiple_of: int) -> list[FlatPack]:
    longest = max(len(random_pack(seed, pad=1)) for seed in seeds)
    length = -(-longest // multiple_of) * multiple_of
    return [random_pack(seed, pad=length - len(random_pack(seed, pad=0))) for seed in seeds]


@BIDIRECTIONAL
@pytest.mark.parametrize("multiple_of", [16, 1], ids=["whole-blocks", "with-a-rest"])
@pytest.mark.parametrize("strip_entries", [1, 2**24], ids=["strip-by-strip", "at-once"])
def test_invariant_06_the_block_mask_is_torchs_own(
    bidirectional: bool, multiple_of: int, strip_entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_mask, "STRIP_ENTRIES", strip_entries)
    rows = rows_of_one_length(0, 1, 2, multiple_of=multiple_of)
    tokens = row_tokens(rows, bidirectional=bidirectional)
    ours = build_block_mask(tokens, block_size=16)
    length = len(rows[0])
    torchs = create_block_mask(mask_mod(tokens), 3, None, length, length, device="cpu", BLOCK_SIZE=16)
    assert ours.seq_lengths == torchs.seq_lengths == (length, length)
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"):
        assert torch.equal(getattr(ours, name), getattr(torchs, name)), name
    for name in ("q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices"):  # the backward pass's
        assert torch.equal(getattr(ours, name), getattr(torchs, name)), name


@BIDIRECTIONAL
def test_invariant_06_a_block_is_computed_exactly_where_the_dense_rule_has_one_pair(
    bidirectional: bool,
) -> None:
    size = 16
    rows = rows_of_one_length(0, 1, 2, multiple_of=size)
    found = build_block_mask(row_tokens(rows, bidirectional=bidirectional), block_size=size)
    for row, pack in enumerate(rows):
        blocks = rule_of(pack, bidirectional=bidirectional).reshape(len(pack) // size, size, -1, size)
        assert torch.equal(found.to_dense()[row, 0].bool(), blocks.any(3).any(1))
    assert found.sparsity() > 30  # per cent of the blocks that cost nothing


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_invariant_06_flex_attention_gives_what_the_dense_mask_gives() -> None:
    rows = rows_of_one_length(0, 1, multiple_of=1)
    length = len(rows[0])
    tokens = row_tokens(rows)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, length, 8, generator=generator) for _ in range(3))
    flexed = flex_attention(query, key, value, block_mask=build_block_mask(tokens, block_size=16))
    dense = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=dense_mask(tokens))
    real = torch.from_numpy(np.stack([row.valid for row in rows]))[:, None, :, None]
    assert isinstance(flexed, torch.Tensor)
    assert torch.allclose(flexed * real, dense * real, atol=1e-5)


def test_padding_in_the_dense_mask_sees_itself_alone() -> None:
    pack = random_pack(0, pad=3)
    mask = dense_mask(row_tokens([pack]))[0, 0]
    assert torch.equal(mask[pack.valid], rule_of(pack)[pack.valid])
    assert torch.equal(mask[~pack.valid], torch.eye(len(pack), dtype=torch.bool)[~pack.valid])


def test_new_values_in_the_captured_tensors_change_the_rule_without_a_new_function() -> None:
    pack = random_pack(0)
    tokens = row_tokens([pack])
    rule = mask_mod(tokens)
    assert tokens.tree is not None
    tokens.tree.copy_(torch.arange(len(pack)))  # every token a tree of its own
    everywhere = create_mask(rule, 1, 1, len(pack), len(pack), device="cpu")[0, 0]
    assert torch.equal(everywhere, torch.diag(torch.from_numpy(pack.valid)))


def test_rows_of_different_lengths_are_refused() -> None:
    flat = flatten(random_tree(np.random.default_rng(0)))
    rows = [pack_trees([flat], pad_id=0), pack_trees([flat], pad_id=0, length=len(flat) + 1)]
    with pytest.raises(ValueError, match="rows of one length"):
        row_tokens(rows)

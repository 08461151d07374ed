from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.model.attention import attention_rule


def rows(mask: torch.Tensor) -> list[str]:
    return ["".join(".x"[int(seen)] for seen in row) for row in mask]


@pytest.mark.parametrize(
    ("visual", "expected"),
    [
        pytest.param("000", ["x..", "xx.", "xxx"], id="text-is-causal"),
        pytest.param("111", ["xxx", "xxx", "xxx"], id="pictures-see-each-other"),
        pytest.param(
            "01011", ["x....", "xx.xx", "xxx..", "xxxxx", "xxxxx"], id="time-between-frames-is-causal"
        ),
    ],
)
def test_visual_words_see_each_other_both_ways(visual: str, expected: list[str]) -> None:
    assert rows(attention_rule(torch.tensor([c == "1" for c in visual]))) == expected


def test_padding_is_seen_by_nobody() -> None:
    mask = attention_rule(
        torch.tensor([False, True, True]), valid_L=torch.tensor([False, True, True]), query_start=1
    )
    assert rows(mask) == [".xx", ".xx"]


def test_branches_see_the_shared_part_and_themselves() -> None:
    mask = attention_rule(
        torch.tensor([True, True, False, False, False, False]),
        branch_ids_L=torch.tensor([0, 0, 1, 1, 2, 2]),
    )
    assert rows(mask) == ["xx....", "xx....", "xxx...", "xxxx..", "xx..x.", "xx..xx"]


def test_pictures_of_packed_trees_do_not_see_each_other() -> None:
    mask = attention_rule(torch.tensor([True, True, True]), tree_ids_L=torch.tensor([0, 0, 1]))
    assert rows(mask) == ["xx.", "xx.", "..x"]


token = st.tuples(st.booleans(), st.booleans(), st.integers(0, 2), st.integers(0, 2))


@pytest.mark.slow
@given(st.lists(token, min_size=1, max_size=12), st.data())
def test_the_rule_is_its_sentence(tokens: list[tuple[bool, bool, int, int]], data: st.DataObject) -> None:
    visual, valid, tree, branch = (torch.tensor(part) for part in zip(*tokens, strict=True))
    start = data.draw(st.integers(0, len(tokens) - 1))
    stop = data.draw(st.integers(start, len(tokens)))
    mask = attention_rule(
        visual, valid_L=valid, tree_ids_L=tree, branch_ids_L=branch, query_start=start, query_stop=stop
    )
    assert mask.shape == (stop - start, len(tokens))
    for q in range(start, stop):
        for k in range(len(tokens)):
            expected = (
                tokens[k][1]
                and (k <= q or (tokens[q][0] and tokens[k][0]))
                and tokens[q][2] == tokens[k][2]
                and tokens[k][3] in (0, tokens[q][3])
            )
            assert bool(mask[q - start, k]) == expected


def test_a_batch_is_carried_along() -> None:
    visual = torch.tensor([[True, False, True], [False, True, True]])
    trees = torch.tensor([[0, 0, 0], [0, 1, 1]])
    together = attention_rule(visual, tree_ids_L=trees)
    assert together.shape == (2, 3, 3)
    for row in range(2):
        assert torch.equal(together[row], attention_rule(visual[row], tree_ids_L=trees[row]))

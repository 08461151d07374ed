"""A prompt in the order in which it is run: who sees whom, and that all come back to their places."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.model.attention import attention_rule
from molmo2_ground.model.prompt_order import PromptOrder


@pytest.mark.slow
@given(st.lists(st.booleans(), min_size=1, max_size=20), st.data())
def test_everyone_sees_what_the_rule_says(visual: list[bool], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(visual) - 1))
    visual_L = torch.tensor(visual)
    order = PromptOrder(visual_L, start=start)
    columns = [*range(start), *order.positions_Q.tolist()]
    known = attention_rule(visual_L)
    words = len(visual) - start - order.pictures
    parts = [(order.rule_of_pictures(), order.pictures), (order.rule_of_words(), words)]
    found: dict[int, set[int]] = {}
    for rule, count in parts:
        for row in range(count):
            behind = rule.rows(row, row + 1)
            seen = torch.ones(len(columns), dtype=torch.bool)
            if behind is not None:
                seen[rule.free :] = behind[0]
            found[columns[start + len(found)]] = {
                column for column, sees in zip(columns, seen.tolist(), strict=True) if sees
            }
    assert found == {row: set(known[row].nonzero()[:, 0].tolist()) for row in range(start, len(visual))}


@pytest.mark.slow
@given(st.lists(st.booleans(), min_size=1, max_size=20), st.data())
def test_rows_come_back_to_their_places(visual: list[bool], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(visual) - 1))
    order = PromptOrder(torch.tensor(visual), start=start)
    rows = torch.arange(len(visual) - start)[:, None]
    assert torch.equal(order.restored(order.sorted(rows)), rows)
    assert torch.equal(order.sorted(rows)[:, 0] + start, order.positions_Q)

"""Message trees: what a branch learns, where it stands, and how trees are packed into slots."""

from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.train.tiny_text import Text
from molmo2_ground.train.tree import IGNORE, MARK_PLACE, MARK_START, Branch, MessageTree, flatten, pack_slots

TEXT = Text.build()
POINT = Branch(user_text="Point to the red car.", answer='<points coords="1 1 100 200">the red car</points>')
NONE = Branch(user_text="How many dogs are there in the picture?", answer="There are none.")


def tree(*branches: Branch, n_prefix: int = 5) -> MessageTree:
    visual = np.zeros(n_prefix, dtype=np.bool_)
    visual[1:4] = True
    return MessageTree(prefix_ids=np.arange(n_prefix), prefix_visual=visual, branches=branches)


def learnt_text(ids: np.ndarray) -> str:
    return TEXT.tokenizer.decode([int(i) for i in ids if i != IGNORE], skip_special_tokens=False)


@pytest.mark.parametrize("branch", [POINT, NONE], ids=["points", "none"])
def test_a_branch_learns_its_answer_and_its_end_and_nothing_else(branch: Branch) -> None:
    flat = TEXT.writer.write(branch)
    assert learnt_text(flat.targets) == branch.answer + "<|im_end|>"
    assert ((flat.weights > 0) == (flat.targets != IGNORE)).all()
    # Each target is the next token, so that teacher forcing and generation see the same.
    known = np.nonzero(flat.targets[:-1] != IGNORE)[0]
    assert (flat.ids[known + 1] == flat.targets[known]).all()


def test_answer_tokens_weigh_four_over_the_root_of_their_number_and_the_first_coordinate_more() -> None:
    flat = TEXT.writer.write(POINT)
    n = int((flat.targets != IGNORE).sum())
    place = flat.marks == MARK_PLACE
    assert learnt_text(flat.targets[place]) == "1"
    assert flat.weights[place] == pytest.approx(TEXT.writer.place_boost * 4 / n**0.5)
    assert flat.weights[flat.marks == MARK_START] == pytest.approx(4 / n**0.5)


def test_flattened_branches_go_on_from_the_prefix_and_carry_their_numbers() -> None:
    flat = flatten(tree(POINT, NONE), TEXT.writer)
    lengths = [5, len(TEXT.writer.write(POINT)), len(TEXT.writer.write(NONE))]
    assert np.bincount(flat.branch_ids).tolist() == lengths
    for number in (1, 2):
        assert flat.positions[flat.branch_ids == number].tolist() == list(range(5, 5 + lengths[number]))
    assert flat.visual.sum() == 3
    assert (flat.targets[:5] == IGNORE).all()


def test_slots_hold_the_same_tokens_as_the_flat_row() -> None:
    made = tree(POINT, NONE, POINT)
    packed = pack_slots([made, tree(NONE, n_prefix=3)], TEXT.writer, slots=2, slot_len=80, pad_id=0)
    flat = flatten(made, TEXT.writer)
    for number in (1, 2, 3):
        here = packed.branch_ids[0] == number
        there = flat.branch_ids == number
        for name in ("ids", "targets", "positions", "weights"):
            assert getattr(packed, name)[0][here].tolist() == getattr(flat, name)[there].tolist()
    assert packed.prefix_valid.sum(axis=1).tolist() == [5, 3]
    assert (packed.targets[packed.branch_ids == 0] == IGNORE).all()


def test_a_branch_that_fits_nowhere_is_left_out_and_the_next_one_is_not() -> None:
    long = Branch(user_text="Track the red car.", answer="There are none. " * 40)
    packed = pack_slots([tree(long, NONE)], TEXT.writer, slots=1, slot_len=40, pad_id=0)
    assert sorted(set(packed.branch_ids.reshape(-1).tolist())) == [0, 2]


def test_a_branch_of_a_kind_that_has_no_weight_is_refused() -> None:
    with pytest.raises(
        ValueError, match="kind must be one of answer, video_caption, pointing, tracking; got"
    ):
        Branch(user_text="Why?", answer="Because.", kind="foo")  # type: ignore[arg-type]

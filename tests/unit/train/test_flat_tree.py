"""Trees in rows: places, targets, turns, what is left out. Numbers are those of the recipe's invariants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from molmo2_ground.model.inputs import answer_ids, prompt_ids
from molmo2_ground.train import Branch, MessageTree, flatten
from molmo2_ground.train.tree import (
    IGNORE,
    MARK_START,
    BranchWriter,
    FlatBranch,
    FlatTree,
    Turn,
    pack_trees,
    write_branches,
)
from molmo2_ground.train.weights import WeightRule
from tests.trees import CODEC, WRITER, random_pack, random_tree

SHORT = Branch(user_text="Point to the dog.", answer="There are none.", kind="pointing")
TALK = Branch(
    user_text="What is this?",
    answer="A horse.",
    later_turns=(
        Turn(user_text="Its colour?", answer="Brown, with a white foot."),
        Turn(user_text="Sure?", answer="Yes."),
    ),
)
PICTURE = CODEC.token_id("<im_patch>")


def tree_of(*branches: Branch | FlatBranch, patches: int = 3) -> MessageTree:
    assert PICTURE is not None
    return MessageTree(
        prefix_ids=np.array([CODEC.bos_id, *[PICTURE] * patches]),
        prefix_visual=np.array([False, *[True] * patches]),
        branches=branches,
    )


@pytest.mark.parametrize("seed", range(4))
def test_invariant_07_every_branch_starts_behind_the_prefix_and_every_tree_at_nought(seed: int) -> None:
    pack = random_pack(seed)
    for tree in range(1, pack.tree_ids.max() + 1):
        positions, branches = pack.positions[pack.tree_ids == tree], pack.branch_ids[pack.tree_ids == tree]
        n_prefix = int((branches == 0).sum())
        assert positions[branches == 0].tolist() == list(range(n_prefix))
        assert branches.max() >= 1
        for branch in range(1, branches.max() + 1):
            length = int((branches == branch).sum())
            assert positions[branches == branch].tolist() == list(range(n_prefix, n_prefix + length))


def test_invariant_07_the_layout_is_the_one_seen_in_the_released_code() -> None:
    def branch(asked: int, answered: int) -> FlatBranch:
        zeros = np.zeros(asked + answered, dtype=np.int64)
        return FlatBranch(ids=zeros, targets=zeros, weights=zeros.astype(np.float32), marks=zeros)

    flat = flatten(tree_of(branch(2, 3), branch(1, 1), branch(2, 4), patches=4))
    assert flat.branch_ids.tolist() == [0] * 5 + [1] * 5 + [2] * 2 + [3] * 6
    assert flat.positions.tolist() == [*range(5), *range(5, 10), *range(5, 7), *range(5, 11)]


@pytest.mark.parametrize("rule", ["paper", "released", "even"])
def test_invariant_08_each_branch_ends_in_the_end_word_at_its_own_weight(rule: WeightRule) -> None:
    flat = flatten(tree_of(SHORT, TALK, SHORT), replace(WRITER, rule=rule))
    for number in (1, 2, 3):
        targets, weights = (part[flat.branch_ids == number] for part in (flat.targets, flat.weights))
        assert targets[-1] == CODEC.eos_id
        assert weights[-1] > 0
        assert set(weights[targets != IGNORE].tolist()) == {float(weights[-1])}


def test_invariant_08_no_word_of_a_picture_or_of_a_turn_is_ever_learnt() -> None:
    flat = flatten(tree_of(SHORT, TALK), WRITER)
    learnt = flat.targets[flat.weights > 0]
    assert (flat.targets[flat.weights == 0] == IGNORE).all()
    assert PICTURE not in learnt
    assert CODEC.turn_start_id not in learnt
    answers = [turn.answer for branch in (SHORT, TALK) for turn in branch.turns]
    assert learnt.tolist() == [token for answer in answers for token in answer_ids(CODEC, answer)]


def test_a_later_turn_sees_the_conversation_as_the_chat_template_writes_it() -> None:
    first, second, third = TALK.turns
    flat = WRITER.write(TALK)
    newline = CODEC.encode("\n")
    expected = [
        *prompt_ids(CODEC, first.user_text),
        *answer_ids(CODEC, first.answer),
        *newline,
        *prompt_ids(CODEC, second.user_text),
        *answer_ids(CODEC, second.answer),
        *newline,
        *prompt_ids(CODEC, third.user_text),
        *answer_ids(CODEC, third.answer),
    ]
    assert flat.ids.tolist() == expected[:-1]
    known = np.nonzero(flat.targets[:-1] != IGNORE)[0]
    assert (flat.ids[known + 1] == flat.targets[known]).all()
    assert (flat.marks == MARK_START).sum() == 3


def test_the_released_code_writes_the_end_of_a_turn_twice() -> None:
    once, twice = WRITER.write(TALK), replace(WRITER, double_turn_end=True).write(TALK)
    assert len(twice) == len(once) + 2
    ends = np.nonzero((twice.ids[:-1] == CODEC.eos_id) & (twice.ids[1:] == CODEC.turn_end_id))[0]
    assert len(ends) == 2
    assert np.delete(twice.ids, ends + 1).tolist() == once.ids.tolist()
    assert (twice.targets != IGNORE).sum() == (once.targets != IGNORE).sum()


def test_a_branch_of_one_turn_is_the_same_with_or_without_room_for_more() -> None:
    flat = WRITER.write(SHORT)
    whole = [*prompt_ids(CODEC, SHORT.user_text), *answer_ids(CODEC, SHORT.answer)]
    assert flat.ids.tolist() == whole[:-1]


@pytest.mark.parametrize("spare", [0, 1, 5], ids=lambda spare: f"{spare}-to-spare")
def test_invariant_16_a_row_too_long_loses_whole_branches_from_the_end(spare: int) -> None:
    tree = tree_of(SHORT, TALK, SHORT)
    lengths = [len(branch) for branch in write_branches(tree, WRITER)]
    flat = flatten(tree, WRITER, max_tokens=4 + lengths[0] + spare)
    assert np.bincount(flat.branch_ids).tolist() == [4, lengths[0]]
    assert flat.dropped == 2
    assert flat.visual.sum() == 3
    alone = flatten(tree_of(SHORT), WRITER)
    assert flat.ids.tolist() == alone.ids.tolist()
    assert flat.targets.tolist() == alone.targets.tolist()


def test_invariant_16_a_short_branch_behind_one_that_does_not_fit_is_left_out_too() -> None:
    tree = tree_of(SHORT, TALK, SHORT)
    lengths = [len(branch) for branch in write_branches(tree, WRITER)]
    assert flatten(tree, WRITER, max_tokens=4 + lengths[0] + lengths[2]).dropped == 2


def test_invariant_16_pictures_are_never_cut() -> None:
    tree = tree_of(SHORT)
    needed = len(flatten(tree, WRITER))
    assert len(flatten(tree, WRITER, max_tokens=needed)) == needed
    with pytest.raises(ValueError, match="prefix and first branch"):
        flatten(tree, WRITER, max_tokens=needed - 1)
    with pytest.raises(ValueError, match="prefix and first branch"):
        flatten(tree_of(), WRITER, max_tokens=3)


def test_branches_that_are_dropped_do_not_share_in_the_weights_of_the_rest() -> None:
    writer = replace(WRITER, rule="released")
    talk = replace(TALK, kind="answer")
    tree = tree_of(talk, talk)
    one = len(write_branches(tree, writer)[0])
    cut = flatten(tree, writer, max_tokens=4 + one)
    assert cut.weights.tolist() == flatten(tree_of(talk), writer).weights.tolist()


def test_a_pack_is_its_trees_behind_one_another_and_padding() -> None:
    rng = np.random.default_rng(0)
    flat = [flatten(random_tree(rng)) for _ in range(3)]
    total = sum(len(tree) for tree in flat)
    pack = pack_trees(flat, pad_id=9, length=total + 4)
    assert len(pack) == total + 4
    assert pack.valid.tolist() == [True] * total + [False] * 4
    assert (pack.ids[~pack.valid] == 9).all()
    assert (pack.targets[~pack.valid] == IGNORE).all()
    for number, tree in enumerate(flat, start=1):
        for name in ("ids", "targets", "weights", "positions", "branch_ids", "visual", "marks"):
            packed = getattr(pack, name)
            assert packed.dtype == getattr(tree, name).dtype
            assert packed[pack.tree_ids == number].tolist() == getattr(tree, name).tolist()
    assert pack.weight_sum == pytest.approx(sum(float(tree.weights.sum()) for tree in flat))


def test_trees_longer_than_the_row_are_refused() -> None:
    flat = flatten(tree_of(SHORT), WRITER)
    with pytest.raises(ValueError, match="do not fit"):
        pack_trees([flat, flat], pad_id=0, length=2 * len(flat) - 1)


def test_a_pack_of_nothing_is_padding() -> None:
    pack = pack_trees([], pad_id=0, length=5)
    assert not pack.valid.any()
    assert pack.weight_sum == 0.0


def test_branches_as_arrays_need_no_writer_and_words_do() -> None:
    written = write_branches(tree_of(SHORT, TALK), WRITER)
    by_hand: FlatTree = flatten(tree_of(*written))
    by_writer = flatten(tree_of(SHORT, TALK), WRITER)
    assert by_hand.ids.tolist() == by_writer.ids.tolist()
    assert by_hand.weights.tolist() == by_writer.weights.tolist()
    with pytest.raises(ValueError, match="needs a writer"):
        flatten(tree_of(SHORT))


def test_a_prefix_must_say_of_each_token_whether_it_is_visual() -> None:
    with pytest.raises(ValueError, match="prefix_visual"):
        MessageTree(prefix_ids=np.arange(3), prefix_visual=np.zeros(2, dtype=np.bool_), branches=())


def test_a_checkpoint_whose_answers_end_in_another_word_still_ends_its_turns() -> None:
    class OtherEnd:
        """A codec as some checkpoints have it: answers end in a word of their own."""

        bos_id = eos_id = CODEC.token_id("<|endoftext|>")
        turn_start_id, turn_end_id = CODEC.turn_start_id, CODEC.turn_end_id
        encode = staticmethod(CODEC.encode)

    writer = BranchWriter(codec=OtherEnd())  # type: ignore[arg-type]  # all it is asked for
    flat = writer.write(TALK)
    ends = np.nonzero(flat.ids == OtherEnd.eos_id)[0]
    assert len(ends) == 2
    assert (flat.ids[ends + 1] == CODEC.turn_end_id).all()

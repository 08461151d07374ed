"""`MessageTree`: one visual input and the questions asked about it, each a branch of its own.

A branch sees the visual prefix and itself, never another branch, and its positions go on from the prefix.
So many questions cost one pass over the frames, in training as in a `Session`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molmo2_ground.model.inputs import answer_ids, prompt_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molmo2_ground.model.text_codec import TextCodec

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

IGNORE = -100  # target of a token that carries no loss
MARK_START, MARK_PLACE = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One turn: what the user asks, what the model should write, and a factor on the loss of the answer."""

    user_text: str
    answer: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTree:
    """A visual prefix, as token ids, and its branches."""

    prefix_ids: IntArray
    prefix_visual: BoolArray
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlatBranch:
    """One branch as arrays of equal length n: tokens, the token that should follow each, its weight and mark.

    marks: MARK_START where the answer's first token is due, MARK_PLACE where its first coordinate is, else 0.
    """

    ids: IntArray
    targets: IntArray
    weights: FloatArray
    marks: IntArray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlatTree:
    """A tree in one row.

    ids, targets  int64[L]; targets are IGNORE where nothing is learnt.
    weights       float32[L].
    positions     int64[L]: every branch goes on from the prefix's last position.
    branch_ids    int64[L]: 0 for the prefix, 1, 2, … for the branches.
    visual        bool[L]: tokens that see each other in both directions.
    """

    ids: IntArray
    targets: IntArray
    weights: FloatArray
    positions: IntArray
    branch_ids: IntArray
    visual: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchWriter:
    """Turns branches into tokens with the functions that inference uses.

    coordinate_ids  tokens that start a coordinate.
    place_boost     the first coordinate of an answer counts this much more: an answer that starts at the
                    wrong object is wrong as a whole, and averages over tokens hide it.
    """

    codec: TextCodec
    coordinate_ids: frozenset[int]
    place_boost: float = 4.0

    def write(self, branch: Branch) -> FlatBranch:
        """The branch as arrays: `user turn, answer, end`; loss on the answer and its end only."""
        question = prompt_ids(self.codec, branch.user_text)
        answer = answer_ids(self.codec, branch.answer)
        ids = np.array([*question, *answer[:-1]], dtype=np.int64)
        targets = np.full(len(ids), IGNORE, dtype=np.int64)
        targets[len(question) - 1 :] = answer
        weights = np.zeros(len(ids), dtype=np.float32)
        # 4 / sqrt(n) for each of n tokens: long answers count for more, but not in proportion to their
        # length (Molmo2 paper, §3.4).
        weights[len(question) - 1 :] = branch.weight * 4.0 / math.sqrt(len(answer))
        marks = np.zeros(len(ids), dtype=np.int64)
        marks[len(question) - 1] = MARK_START
        first = next((i for i, token in enumerate(answer) if token in self.coordinate_ids), None)
        if first is not None:
            weights[len(question) - 1 + first] *= self.place_boost
            marks[len(question) - 1 + first] = MARK_PLACE
        return FlatBranch(ids=ids, targets=targets, weights=weights, marks=marks)


def flatten(tree: MessageTree, writer: BranchWriter) -> FlatTree:
    """The whole tree in one row, prefix first."""
    n_prefix = len(tree.prefix_ids)
    written = [writer.write(branch) for branch in tree.branches]
    return FlatTree(
        ids=np.concatenate([tree.prefix_ids, *(b.ids for b in written)]),
        targets=np.concatenate([np.full(n_prefix, IGNORE, dtype=np.int64), *(b.targets for b in written)]),
        weights=np.concatenate([np.zeros(n_prefix, dtype=np.float32), *(b.weights for b in written)]),
        positions=np.concatenate(
            [np.arange(n_prefix), *(n_prefix + np.arange(len(b)) for b in written)]
        ).astype(np.int64),
        branch_ids=np.concatenate(
            [np.zeros(n_prefix, dtype=np.int64), *(np.full(len(b), i + 1) for i, b in enumerate(written))]
        ).astype(np.int64),
        visual=np.concatenate([tree.prefix_visual, *(np.zeros(len(b), dtype=np.bool_) for b in written)]),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotBatch:
    """Trees side by side, the branches of each in K slots of b tokens.

    A slot holds several short branches, told apart by `branch_ids` (0 where it is empty). The prefix is
    computed once a tree, and a slot's tokens attend to it and to their own slot only: a fraction of the
    scores that one long row would need.

    prefix_ids int64[B, P] · prefix_valid, prefix_visual bool[B, P]
    ids, targets, positions, branch_ids, marks int64[B, K, b] · weights float32[B, K, b]
    """

    prefix_ids: IntArray
    prefix_valid: BoolArray
    prefix_visual: BoolArray
    ids: IntArray
    targets: IntArray
    positions: IntArray
    branch_ids: IntArray
    weights: FloatArray
    marks: IntArray

    @property
    def fill(self) -> float:
        """Share of the slots' tokens that are used."""
        return float((self.branch_ids > 0).mean())


def pack_slots(
    trees: Sequence[MessageTree], writer: BranchWriter, *, slots: int, slot_len: int, pad_id: int
) -> SlotBatch:
    """Put each tree's branches into its slots, first fit in the given order.

    A branch that fits in no slot is left out.
    """
    n_trees, n_prefix = len(trees), max(len(tree.prefix_ids) for tree in trees)
    prefix_ids = np.full((n_trees, n_prefix), pad_id, dtype=np.int64)
    prefix_valid = np.zeros((n_trees, n_prefix), dtype=np.bool_)
    prefix_visual = np.zeros((n_trees, n_prefix), dtype=np.bool_)
    shape = (n_trees, slots, slot_len)
    ids = np.full(shape, pad_id, dtype=np.int64)
    targets = np.full(shape, IGNORE, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    branch_ids = np.zeros(shape, dtype=np.int64)
    marks = np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    for row, tree in enumerate(trees):
        n = len(tree.prefix_ids)
        prefix_ids[row, :n], prefix_valid[row, :n], prefix_visual[row, :n] = (
            tree.prefix_ids,
            True,
            tree.prefix_visual,
        )
        used = [0] * slots
        for number, branch in enumerate(tree.branches, start=1):
            flat = writer.write(branch)
            slot = next((i for i in range(slots) if used[i] + len(flat) <= slot_len), None)
            if slot is None:
                continue
            place = slice(used[slot], used[slot] + len(flat))
            ids[row, slot, place], targets[row, slot, place] = flat.ids, flat.targets
            positions[row, slot, place] = n + np.arange(len(flat))
            branch_ids[row, slot, place], weights[row, slot, place] = number, flat.weights
            marks[row, slot, place] = flat.marks
            used[slot] += len(flat)
    return SlotBatch(
        prefix_ids=prefix_ids,
        prefix_valid=prefix_valid,
        prefix_visual=prefix_visual,
        ids=ids,
        targets=targets,
        positions=positions,
        branch_ids=branch_ids,
        weights=weights,
        marks=marks,
    )

"""`MessageTree`: one visual input and the conversations about it, each a branch of its own.

A branch is one turn or several. It sees the visual prefix and itself, never another branch, and its positions
go on from the prefix. So many questions cost one pass over the frames, in training as in a `Session`.

    tree = MessageTree(prefix_ids=…, prefix_visual=…, branches=(Branch(user_text=…, answer=…), …))
    flat = flatten(tree, writer)                    one tree in one row
    pack = pack_trees([flat, other], pad_id=0)      several trees in one row, told apart by `tree_ids`
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from molmo2_ground.model.inputs import answer_ids, prompt_ids
from molmo2_ground.train.weights import BranchKind, branch_weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molmo2_ground.model.text_codec import TextCodec
    from molmo2_ground.train.weights import WeightRule

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_KINDS = get_args(BranchKind)
IGNORE = -100  # target of a token that carries no loss
MARK_START, MARK_PLACE = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the user says, and what the model should write."""

    user_text: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One conversation: its first turn, further turns if there are any, and how its answers count.

    weight  a factor on the loss of all its answers.
    kind    what `branch_weight` goes by; `ValueError` for one that it does not know.
    """

    user_text: str
    answer: str
    weight: float = 1.0
    kind: BranchKind = "answer"
    later_turns: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}; got {self.kind!r}")

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, the first one included."""
        return (Turn(user_text=self.user_text, answer=self.answer), *self.later_turns)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTree:
    """A visual prefix, as token ids, and its branches: in words, or as arrays already.

    The prefix is the first word of the prompt and the pictures; a tree of text alone has only the first word.
    """

    prefix_ids: IntArray
    prefix_visual: BoolArray
    branches: tuple[Branch | FlatBranch, ...]

    def __post_init__(self) -> None:
        if self.prefix_ids.shape != self.prefix_visual.shape:
            raise ValueError(
                "prefix_visual must say for each of prefix_ids whether it belongs to a picture; "
                f"got shapes {self.prefix_visual.shape} and {self.prefix_ids.shape}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlatTree:
    """A tree in one row.

    ids, targets  int64[L]; targets are IGNORE where nothing is learnt.
    weights       float32[L].
    positions     int64[L]: every branch goes on from the prefix's last position.
    branch_ids    int64[L]: 0 for the prefix, 1, 2, … for the branches.
    visual        bool[L]: tokens that see each other in both directions.
    marks         int64[L]: as in `FlatBranch`.
    dropped       how many of the tree's last branches are left out because the row would be too long.
    """

    ids: IntArray
    targets: IntArray
    weights: FloatArray
    positions: IntArray
    branch_ids: IntArray
    visual: BoolArray
    marks: IntArray
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlatPack:
    """Several trees in one row, one behind the other, and padding behind the last.

    As in `FlatTree`; positions start at 0 in every tree.
    tree_ids  int64[L]: 1, 2, … for the trees, 0 for padding.
    """

    ids: IntArray
    targets: IntArray
    weights: FloatArray
    positions: IntArray
    tree_ids: IntArray
    branch_ids: IntArray
    visual: BoolArray
    marks: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def valid(self) -> BoolArray:
        """bool[L]: true where a token stands, false for padding."""
        return self.tree_ids > 0

    @property
    def weight_sum(self) -> float:
        """Sum of the weights of all learnt tokens: this row's part of what the loss is divided by."""
        return float(self.weights[self.targets != IGNORE].sum(dtype=np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchWriter:
    """Turns branches into tokens with the functions that inference uses.

    digit_ids        the ten digits' tokens, for `place_boost` and `digit_weights`; three or more of them in
                     a row are a coordinate (ids and whole seconds are shorter).
    place_boost      the two leading digits of an answer's first coordinate count this much more: an answer
                     that starts at the wrong object is wrong as a whole, and averages over tokens hide it.
    digit_weights    factors on the first, second and third digit of every coordinate.
    rule             how `branch_weight` weighs.
    double_turn_end  True writes the word that ends a turn a second time between turns, as the released
                     training code does; the chat template writes it once, and so do we.
    """

    codec: TextCodec
    digit_ids: frozenset[int] = frozenset()
    place_boost: float = 4.0
    digit_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    rule: WeightRule = "paper"
    double_turn_end: bool = False

    def write(self, branch: Branch, *, n_branches: int = 1) -> FlatBranch:
        """The branch as arrays: user turn, answer, end, and so on; loss on the answers and their ends only.

        n_branches: how many branches of the tree are trained on, for `rule`.
        """
        row: list[int] = []
        answers: list[tuple[int, list[int]]] = []  # where each starts in the row
        for turn in branch.turns:
            if row:
                row += self._between_turns()
            row += prompt_ids(self.codec, turn.user_text)
            answer = answer_ids(self.codec, turn.answer)
            answers.append((len(row), answer))
            row += answer
        n_tokens = sum(len(answer) for _, answer in answers)
        weight = branch.weight * branch_weight(
            n_tokens, kind=branch.kind, rule=self.rule, n_branches=n_branches
        )
        # The last end is learnt and never read.
        ids = np.array(row[:-1], dtype=np.int64)
        targets = np.full(len(ids), IGNORE, dtype=np.int64)
        weights = np.zeros(len(ids), dtype=np.float32)
        marks = np.zeros(len(ids), dtype=np.int64)
        for start, answer in answers:
            due = slice(start - 1, start - 1 + len(answer))
            targets[due], weights[due] = answer, weight
            marks[start - 1] = MARK_START
            places = self._coordinates(answer)
            for place in places:
                weights[start - 1 + place : start + 2 + place] *= self.digit_weights
            if places:
                weights[start - 1 + places[0] : start + 1 + places[0]] *= self.place_boost
                marks[start - 1 + places[0]] = MARK_PLACE
        return FlatBranch(ids=ids, targets=targets, weights=weights, marks=marks)

    def _coordinates(self, answer: Sequence[int]) -> list[int]:
        """Where in the answer coordinates start."""
        found, run = [], 0
        for index, token in enumerate(answer):
            run = run + 1 if token in self.digit_ids else 0
            if run == 3:
                found.append(index - 2)
        return found

    def _between_turns(self) -> list[int]:
        # Where the answer's end and the turn's end are one word, the answer has written it.
        again = self.double_turn_end or self.codec.eos_id != self.codec.turn_end_id
        return [*([self.codec.turn_end_id] if again else []), *self.codec.encode("\n")]


def write_branches(
    tree: MessageTree, writer: BranchWriter | None, *, max_tokens: int | None = None
) -> list[FlatBranch]:
    """The tree's branches as arrays; those that are arrays already stay as they are.

    max_tokens: the prefix and the branches are to fit into so many. The first branch that does not fit is
    left out with all behind it: never a part of a branch, never a visual token.
    Raises `ValueError` when words have no writer, or not even the first branch fits.
    """
    written = _write(tree.branches, writer)
    if max_tokens is None:
        return written
    ends = len(tree.prefix_ids) + np.cumsum([len(branch) for branch in written])
    kept = int((ends <= max_tokens).sum())
    needed = len(tree.prefix_ids) + (len(written[0]) if written else 0)
    if max_tokens < needed:
        raise ValueError(
            f"a tree does not fit into {max_tokens} tokens: its prefix and first branch have {needed}, the "
            f"prefix alone {len(tree.prefix_ids)}. Show fewer frames or crops, or allow longer rows."
        )
    # Weights may depend on how many branches are left.
    return written if kept == len(written) else _write(tree.branches[:kept], writer)


def _write(branches: Sequence[Branch | FlatBranch], writer: BranchWriter | None) -> list[FlatBranch]:
    written = []
    for branch in branches:
        if isinstance(branch, FlatBranch):
            written.append(branch)
        elif writer is None:
            raise ValueError("a branch of words needs a writer, which knows the model's tokenizer; got None")
        else:
            written.append(writer.write(branch, n_branches=len(branches)))
    return written


def flatten(
    tree: MessageTree, writer: BranchWriter | None = None, *, max_tokens: int | None = None
) -> FlatTree:
    """The whole tree in one row, prefix first; see `write_branches` for `writer` and `max_tokens`."""
    written = write_branches(tree, writer, max_tokens=max_tokens)
    n_prefix = len(tree.prefix_ids)
    nothing = np.zeros(n_prefix, dtype=np.int64)
    return FlatTree(
        ids=np.concatenate([tree.prefix_ids, *(b.ids for b in written)]).astype(np.int64),
        targets=np.concatenate([np.full(n_prefix, IGNORE, dtype=np.int64), *(b.targets for b in written)]),
        weights=np.concatenate([np.zeros(n_prefix, dtype=np.float32), *(b.weights for b in written)]),
        positions=np.concatenate(
            [np.arange(n_prefix), *(n_prefix + np.arange(len(b)) for b in written)]
        ).astype(np.int64),
        branch_ids=np.concatenate([nothing, *(np.full(len(b), i + 1) for i, b in enumerate(written))]).astype(
            np.int64
        ),
        visual=np.concatenate([tree.prefix_visual, *(np.zeros(len(b), dtype=np.bool_) for b in written)]),
        marks=np.concatenate([nothing, *(b.marks for b in written)]),
        dropped=len(tree.branches) - len(written),
    )


def pack_trees(trees: Sequence[FlatTree], *, pad_id: int, length: int | None = None) -> FlatPack:
    """Put flattened trees behind one another, in the given order, and fill up to `length` tokens.

    Raises `ValueError` when they are longer than that: a packer that lets this happen is wrong.
    """
    total = sum(len(tree) for tree in trees)
    length = total if length is None else length
    if total > length:
        raise ValueError(f"{len(trees)} trees of {total} tokens do not fit into a row of {length}")
    pad = length - total

    def joined(name: str, fill: int, dtype: type) -> npt.NDArray[Any]:
        return np.concatenate(
            [*(getattr(tree, name) for tree in trees), np.full(pad, fill, dtype=dtype)]
        ).astype(dtype)

    numbers = [*range(1, len(trees) + 1), 0]
    return FlatPack(
        ids=joined("ids", pad_id, np.int64),
        targets=joined("targets", IGNORE, np.int64),
        weights=joined("weights", 0, np.float32),
        positions=joined("positions", 0, np.int64),
        tree_ids=np.repeat(numbers, [*(len(tree) for tree in trees), pad]).astype(np.int64),
        branch_ids=joined("branch_ids", 0, np.int64),
        visual=joined("visual", 0, np.bool_),
        marks=joined("marks", 0, np.int64),
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
    # A multiple of 8: fused kernels of attention copy masks of any other width.
    n_trees, n_prefix = len(trees), 8 * math.ceil(max(len(tree.prefix_ids) for tree in trees) / 8)
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
        for number, flat in enumerate(write_branches(tree, writer), start=1):
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

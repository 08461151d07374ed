"""`Writing`: one answer as it is written, and `write_together`, which writes several in the same runs.

Shapes: Q words, D width of the language model, V words of the base vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from molmo2_ground.model.branch_room import BranchRoom, Part
from molmo2_ground.model.decoding import Sampling, choose, likeliest, run_answers, word_logits
from molmo2_ground.model.draft_tree import DraftTree
from molmo2_ground.model.drafting import NOTHING_KNOWN, Expected, draft

if TYPE_CHECKING:
    from molmo2_ground.model.guide import Guide
    from molmo2_ground.model.text_codec import TextCodec
    from molmo2_ground.model.text_layers import RunLayers


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """An answer's token ids without the word that ended it, and how many times the network ran for them.

    cuts: where the answer's rules ended an element, one reason each.
    """

    token_ids: tuple[int, ...]
    stop_reason: Literal["end", "length"]
    forwards: int
    cuts: tuple[str, ...] = ()


class Writing:
    """One answer, word by word; whoever runs the network gives it logits and takes its words.

    on_token is called with each id as it is chosen, and may raise.
    drafter: guesses words ahead, which one run of the network checks together; only those that it would have
    chosen anyway are taken, so the answer is the same. So is a drawn one: each word taken is drawn once.
    guide: the rules that the answer keeps; None lets the model write anything.
    """

    def __init__(
        self,
        *,
        max_new_tokens: int,
        stop_ids: Collection[int],
        sampling: Sampling,
        drafter: Guesses | None = None,
        guide: Guide | None = None,
        on_token: Callable[[int], None] | None = None,
    ) -> None:
        """Begin with nothing written."""
        self._answer: Decoded | None = None
        self._max_new_tokens = max_new_tokens
        self._stop_ids = stop_ids
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._drafter = drafter
        self._guide = guide
        self._on_token = on_token
        self._token_ids: list[int] = []
        self._tree = DraftTree.chain([0])  # the question's last word, before anything is written
        self._forwards = 0

    @property
    def ended(self) -> bool:
        """Whether the answer is whole, or cut at its limit."""
        return self._answer is not None

    def answer(self) -> Decoded:
        """The answer, once it has ended. Raises ValueError before."""
        if self._answer is None:
            raise ValueError("the answer is still being written")
        return self._answer

    def next_words(self, *, tree_rows: int = 0) -> DraftTree:
        """The words for the next run: the last one taken, and guesses at those behind it.

        tree_rows: how many words the run may have where guesses branch; a row of guesses may be longer.
        """
        self._forwards += 1
        room = self._max_new_tokens - len(self._token_ids) - 1
        guesses = [] if self._drafter is None else self._drafter.guess(self._token_ids)
        last = self._token_ids[-1]
        if self._guide is None:
            self._tree = DraftTree.chain([last, *guesses[:room]])
        else:
            ahead = self._guide.ahead(guesses, at_most=room)
            self._tree = DraftTree.chain([last, *ahead])
            if room > 0:
                self._tree = self._guide.branched(self._tree, at_most=tree_rows)
        return self._tree

    def take(self, rows_QV: torch.Tensor) -> list[int]:
        """Choose words by the logits behind each word of the last run, or behind the question's last word.

        Returns which of the run's words stand in the answer, by their places: not those guessed wrongly.
        """
        place, kept = 0, [0]
        best_Q = likeliest(rows_QV)
        while True:
            token = self._choose(rows_QV[place], best_Q[place])
            if token in self._stop_ids:
                self._end("end")
                break
            self._token_ids.append(token)
            if self._on_token is not None:
                self._on_token(token)
            if len(self._token_ids) == self._max_new_tokens:
                self._end("length")
                break
            guessed = self._tree.child(place, token)
            if guessed is None:
                break
            place = guessed
            kept.append(place)
        return kept

    def _choose(self, logits_V: torch.Tensor, best: int) -> int:
        guide, sampling = self._guide, self._sampling
        drawn = sampling.temperature > 0
        if guide is None:
            return choose(logits_V, sampling=sampling, generator=self._generator) if drawn else best
        # Nearly always the likeliest word may come, and a greedy answer then needs no mask.
        token = best
        if drawn or not guide.admits(best):
            masked = guide.masked(logits_V, likeliest=best)
            token = choose(masked, sampling=sampling, generator=self._generator)
        guide.take(token, likeliest=best)
        return token

    def _end(self, reason: Literal["end", "length"]) -> None:
        self._answer = Decoded(
            token_ids=tuple(self._token_ids),
            stop_reason=reason,
            forwards=self._forwards,
            cuts=() if self._guide is None else self._guide.cuts,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seat:
    """Where an answer is written: a branch of a room."""

    writing: Writing
    room: BranchRoom
    branch: int


def read_turns(
    network: Any, turns: Sequence[torch.Tensor], seats: Sequence[Seat], *, layers: RunLayers | None = None
) -> None:
    """Read users' turns, int64[Q], each behind its own prefix, and choose the first word of each answer.

    Seats in one room stand next to each other. layers: what runs the layers, as for `run_answers`.
    """
    hidden = _run(network, [DraftTree.chain(turn.tolist()) for turn in turns], seats, layers)
    logits = word_logits(network, torch.cat([part[-1:] for part in hidden]))
    for seat, rows in zip(seats, logits.split(1), strict=True):
        seat.writing.take(rows)
    _settle(seats, [range(len(turn)) for turn in turns])


def write_together(
    network: Any, seats: Sequence[Seat], *, tree_rows: int = 0, layers: RunLayers | None = None
) -> None:
    """Write answers to their ends behind the turns that `read_turns` has read.

    One run of the network serves the next words of all that have not ended. Each is what it would be alone,
    up to the rounding of floats. tree_rows: words of one run, of all answers, up to which guesses branch.
    layers: what runs the layers, as for `run_answers`.
    """
    while running := [seat for seat in seats if not seat.writing.ended]:
        trees = [seat.writing.next_words(tree_rows=tree_rows // len(running)) for seat in running]
        logits = word_logits(network, torch.cat(_run(network, trees, running, layers)))
        parts = logits.split([len(tree.words) for tree in trees])
        _settle(running, [seat.writing.take(rows) for seat, rows in zip(running, parts, strict=True)])


def _run(
    network: Any, trees: Sequence[DraftTree], seats: Sequence[Seat], layers: RunLayers | None
) -> tuple[torch.Tensor, ...]:
    """Hidden states behind the new words of each seat; `_settle` is to follow."""
    table = network.model.language_model.embed_tokens
    ids = torch.tensor([word for tree in trees for word in tree.words])
    parts: dict[BranchRoom, list[Part]] = {}
    for seat, tree in zip(seats, trees, strict=True):
        parts.setdefault(seat.room, []).append((seat.branch, tree.parents))
    embeds = table(ids.to(table.weight.device))
    hidden = run_answers(network, embeds, rooms=list(parts.items()), layers=layers)
    split: tuple[torch.Tensor, ...] = hidden.split([len(tree.words) for tree in trees])
    return split


def _settle(seats: Sequence[Seat], kept: Sequence[Sequence[int]]) -> None:
    """Tell each room which of the last run's words stay, and which of its branches are through."""
    stay: dict[BranchRoom, list[Sequence[int]]] = {}
    for seat, places in zip(seats, kept, strict=True):
        stay.setdefault(seat.room, []).append(places)
    for room, parts in stay.items():
        room.settle(parts)
    for seat in seats:
        if seat.writing.ended:
            seat.room.leave(seat.branch)


class Guesses(Protocol):
    """What a `Writing` asks for words ahead."""

    def guess(self, token_ids: Sequence[int]) -> list[int]:
        """What may follow an answer of these tokens; they are the ones of the last call and more."""
        ...


# An opening tag and what stands before it where things are counted; see `drafting`.
_LEAD = len("Counting the ")


class Drafter:
    """Guesses the next words of an answer from its text; see `drafting.draft`."""

    def __init__(self, codec: TextCodec, *, expected: Expected = NOTHING_KNOWN, at_most: int) -> None:
        """Spell guesses with the model's own words, `at_most` of them: more are mostly wrong, and cost."""
        self._codec = codec
        self._expected = expected
        self._at_most = at_most
        self._text = ""
        self._read = 0

    def guess(self, token_ids: Sequence[int]) -> list[int]:
        """As `Guesses`."""
        # Word by word, a letter of several words can be misread: then the guess is wrong, and not taken.
        self._text += self._codec.decode(token_ids[self._read :])
        self._read = len(token_ids)
        opened = max(self._text.rfind("<tracks"), self._text.rfind("<points"))
        self._text = self._text[max(0, opened - _LEAD) :]
        return self._codec.encode(draft(self._text, self._expected))[: self._at_most]

"""`Guide`: an answer's rules at work on a model's words: which may come next, and which have to."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from molmo2_ground.errors import BackendError
from molmo2_ground.model.answer_rules import START, AnswerRules, State
from molmo2_ground.model.draft_tree import DraftTree
from molmo2_ground.model.token_table import TokenTable

_FEW = 12  # words that may come where a digit is due; a vocabulary of longer numbers has more
_TAIL = 5  # words behind another digit: a space, and the next coordinate


class Guide:
    """Follows one answer word by word."""

    def __init__(self, rules: AnswerRules, table: TokenTable) -> None:
        """Begin with nothing written."""
        self._rules = rules
        self._table = table
        self._state = START
        self._cuts: list[str] = []

    @property
    def cuts(self) -> tuple[str, ...]:
        """Why elements had to end where the model would have gone on, one reason each."""
        return tuple(self._cuts)

    def admits(self, token: int) -> bool:
        """Whether a word may come next."""
        return self._table.step(self._rules, self._state, token) is not None

    def masked(self, logits_V: torch.Tensor, *, likeliest: int) -> torch.Tensor:
        """The logits, those of words that may not come next at minus infinity.

        likeliest: the word that the model would like best. Where it may not come and ends a number, the
        number ends: 100 does not become 1000 because of what may not follow it.
        """
        closed = self._closed_V()
        if self._rules.ends_place(self._state) and not self._table.writes_digit(likeliest):
            closed = closed | self._table.digits_V
        return logits_V.masked_fill(closed.to(logits_V.device), float("-inf"))

    def take(self, token: int, *, likeliest: int | None = None) -> None:
        """Go on behind a word that may come next. Raises ValueError for one that may not.

        likeliest: the word that the model would have liked best; where it may not come, it was held back.
        """
        after = self._table.step(self._rules, self._state, token)
        if after is None:
            raise ValueError(f"token {token} may not stand here")
        reason = self._rules.cut(self._state) or self._rules.limit(self._state)
        held_back = reason and likeliest is not None and not self.admits(likeliest)
        if held_back and reason not in self._cuts:
            self._cuts.append(reason)
        self._state = after

    def ahead(self, guesses: Sequence[int], *, at_most: int) -> list[int]:
        """Words that will or may come: those that have to, and guesses as far as they may stand."""
        words: list[int] = []
        state, rest = self._state, list(guesses)
        while len(words) < at_most:
            after = self._table.step(self._rules, state, rest[0]) if rest else None
            if after is not None:
                words.append(rest.pop(0))
            else:
                # What may not stand here says nothing about what follows it.
                rest = []
                forced = self._forced(state)
                if forced is None:
                    break
                words.append(forced)
                after = self._table.step(self._rules, state, forced)
                assert after is not None
            state = after
        return words

    def branched(self, chain: DraftTree, *, at_most: int) -> DraftTree:
        """The guesses with other digits beside them where the next one is not known, up to `at_most` words.

        Where a row of guesses ends before a digit, every digit that may come; and beside the last digit of
        the first coordinate, which is the likeliest to be a little off, the other nine, each with what was
        guessed behind it.
        """
        if at_most <= len(chain.words):
            return chain
        tree, states = chain, [self._state]
        for word in chain.words[1:]:
            after = self._table.step(self._rules, states[-1], word)
            assert after is not None
            states.append(after)
        end = len(states) - 1
        close = next((n for n, s in enumerate(states[:end]) if self._rules.ends_number(s)), None)
        for place in (end, close):
            if place is None or (place == end and not self._rules.in_number(states[end])):
                continue
            tail = chain.words[place + 2 : place + 2 + _TAIL]
            for word in self._beside(states[place], chain.words[place + 1 : place + 2]):
                if len(tree.words) + 1 + len(tail) > at_most:
                    return tree
                tree = tree.with_branch(place, [word, *self._standing(states[place], word, tail)])
        return tree

    def _beside(self, state: State, guess: Sequence[int]) -> list[int]:
        """The words that may come in place of a guessed digit; none where there are many."""
        fitting = self._table.fitting(self._rules, state, at_most=_FEW + 1).tolist()
        return [word for word in fitting if word not in guess] if len(fitting) <= _FEW else []

    def _standing(self, state: State, word: int, tail: Sequence[int]) -> list[int]:
        """As much of a tail as may stand behind a word."""
        words: list[int] = []
        after = self._table.step(self._rules, state, word)
        for following in tail:
            after = None if after is None else self._table.step(self._rules, after, following)
            if after is None:
                break
            words.append(following)
        return words

    def _forced(self, state: State) -> int | None:
        """The only word that may come next; None when there are several."""
        choices = self._rules.choices(state)
        if choices is None or len(choices) > 1:
            return None
        allowed = self._allowed(state)
        return int(allowed[0]) if len(allowed) == 1 else None

    def _closed_V(self) -> torch.Tensor:
        """bool[V]: the words that may not come next."""
        if self._state.coords is None:
            return self._table.closed_outside(self._rules, self._state)
        return torch.ones(len(self._table), dtype=torch.bool).index_fill_(
            0, self._allowed(self._state), False
        )

    def _allowed(self, state: State) -> torch.Tensor:
        found = self._table.fitting(self._rules, state)
        if not len(found):
            raise BackendError(
                "the model's vocabulary cannot spell what has to come next in this answer; expected a word "
                "for each digit and mark. Ask with Decoding(constrained=False)."
            )
        return found

"""`TokenTable`: what each word of a vocabulary writes, sorted so that rules can be followed through it."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from molmo2_ground.model.answer_rules import AnswerRules, State

if TYPE_CHECKING:
    from molmo2_ground.model.text_codec import TextCodec

_DIGITS = frozenset("0123456789")
_REACHING = re.compile(r'(?:^|=)"[0-9]')  # behind the opening quote of `coords` stands a digit
_MOST_KEPT = 64  # masks, a byte a word each


class TokenTable:
    """What each token writes.

    Words that are no text (special ones, padding of the vocabulary) write nothing.
    """

    def __init__(self, texts: Sequence[str], *, stop_ids: Sequence[int]) -> None:
        """Take the text of each token by id, and the ids that end an answer."""
        self._texts = list(texts)
        self.stop_ids = frozenset(stop_ids)
        order = sorted(
            (token for token in range(len(self._texts)) if token not in self.stop_ids),
            key=self._texts.__getitem__,
        )
        self._ids = order
        self._sorted = [self._texts[token] for token in order]
        self._closed: dict[tuple[bool, State], torch.Tensor] = {}
        self._reaching = [token for token in order if _REACHING.search(self._texts[token])]
        self.digits_V = torch.tensor([text[:1] in _DIGITS for text in self._texts])

    def __len__(self) -> int:
        return len(self._texts)

    @classmethod
    def of(cls, codec: TextCodec, *, size: int) -> TokenTable:
        """The table of the first `size` tokens, those that a model can write."""
        return cls(codec.texts(size), stop_ids=sorted(codec.stop_ids))

    def step(self, rules: AnswerRules, state: State, token: int) -> State | None:
        """The state behind a token, None when it may not come; the end of the answer changes nothing."""
        if token in self.stop_ids:
            return state if rules.may_end(state) else None
        text = self._texts[token]
        if not text:
            return state if state.free else None
        for char in text:
            after = rules.step(state, char)
            if after is None:
                return None
            state = after
        return state

    def writes_digit(self, token: int) -> bool:
        """Whether a token's text begins with a digit."""
        return self._texts[token][:1] in _DIGITS

    def fitting(self, rules: AnswerRules, state: State, *, at_most: int | None = None) -> torch.Tensor:
        """int64[N]: the tokens that may come next, rising; no more than so many are looked for."""
        found = [token for token in sorted(self.stop_ids) if rules.may_end(state)]
        texts, ids = self._sorted, self._ids
        # Tokens low..high share their first `depth` characters, and `behind` is the state behind these.
        stack = [(0, len(texts), 0, state)]
        while stack and (at_most is None or len(found) < at_most):
            low, high, depth, behind = stack.pop()
            ended = low
            while ended < high and len(texts[ended]) == depth:
                ended += 1
            if depth or state.free:
                found += ids[low:ended]
            stack += self._branches(rules, behind, ended, high, depth)
        return torch.tensor(sorted(found), dtype=torch.int64)

    def closed_outside(self, rules: AnswerRules, state: State) -> torch.Tensor:
        """bool[V]: the tokens that may not come next outside of the quotes of `coords`.

        Kept from one answer to the next, because it takes a walk through the whole vocabulary; only tokens
        that reach into the quotes depend on the clip, and are looked at each time.
        """
        key = (rules.pointing, state)
        if key not in self._closed:
            if len(self._closed) >= _MOST_KEPT:
                self._closed.clear()
            open_ids = self.fitting(rules, state)
            self._closed[key] = torch.ones(len(self), dtype=torch.bool).index_fill_(0, open_ids, False)
        closed = self._closed[key]
        if self._reaching:
            closed = closed.clone()
            for token in self._reaching:
                closed[token] = self.step(rules, state, token) is None
        return closed

    def _branches(
        self, rules: AnswerRules, state: State, low: int, high: int, depth: int
    ) -> list[tuple[int, int, int, State]]:
        texts = self._sorted

        def at_depth(text: str) -> str:
            return text[depth]

        branches = []
        choices = rules.choices(state)
        if choices is not None:
            for char in choices:
                first = bisect_left(texts, char, low, high, key=at_depth)
                last = bisect_right(texts, char, first, high, key=at_depth)
                after = rules.step(state, char) if first < last else None
                if after is not None:
                    branches.append((first, last, depth + 1, after))
            return branches
        while low < high:
            char = texts[low][depth]
            last = bisect_right(texts, char, low, high, key=at_depth)
            after = rules.step(state, char)
            if after is not None:
                branches.append((low, last, depth + 1, after))
            low = last
        return branches

"""`DraftTree`: the words of one run of the network for one answer, of which some are guesses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DraftTree:
    """The word that was taken last, and guesses at what follows it, each behind its parent.

    words: token ids. parents: the place of the word that each stands behind, -1 for the first; a word comes
    after its parent. Words behind one parent are different.
    """

    words: tuple[int, ...]
    parents: tuple[int, ...]

    @classmethod
    def chain(cls, words: Sequence[int]) -> DraftTree:
        """One word behind the other."""
        return cls(tuple(words), tuple(range(-1, len(words) - 1)))

    def with_branch(self, place: int, words: Sequence[int]) -> DraftTree:
        """The tree with a row of words more, the first of them behind `place`."""
        end = len(self.words)
        behind = range(end, end + len(words) - 1)
        return DraftTree((*self.words, *words), (*self.parents, place, *behind))

    def child(self, place: int, word: int) -> int | None:
        """Where this word stands behind the one at `place`; None where it was not guessed."""
        for other in range(place + 1, len(self.words)):
            if self.parents[other] == place and self.words[other] == word:
                return other
        return None


def depths(parents: Sequence[int]) -> list[int]:
    """How many words stand before each."""
    found: list[int] = []
    for parent in parents:
        found.append(0 if parent < 0 else found[parent] + 1)
    return found


def lineage(parents: Sequence[int]) -> BoolArray:
    """bool[Q, Q]: for each word, itself and the words before it."""
    count = len(parents)
    if list(parents) == list(range(-1, count - 1)):
        return np.tri(count, dtype=np.bool_)
    seen = np.eye(count, dtype=np.bool_)
    for place, parent in enumerate(parents):
        if parent >= 0:
            seen[place] |= seen[parent]
    return seen

"""`BranchRoom`: one prefix in a cache, and any number of answers that branch off from it, word by word.

The prefix is kept once. Words of all branches stand behind it in the order in which they were run, each with
its branch's number; a branch sees the prefix and its own words. Words that were guessed wrongly belong to
nobody, and their places are taken back.
Shapes: L tokens in the cache, P of them the prefix, Q new words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from molmo2_ground.model.draft_tree import depths, lineage
from molmo2_ground.model.kv_cache import BranchCache

Part = tuple[int, Sequence[int]]
"""A branch's words in a run: its number, and the parents of the words as in `DraftTree`."""

_NOBODY = -1
# Dead words are moved out of the way when there are as many of them as this, and as many as living ones.
_MANY_DEAD = 256


class BranchRoom:
    """The branches of one prefix. A run is `begin`, the network's work on the cache, and `settle`.

    cache: holds the prefix and nothing else.
    """

    def __init__(self, cache: BranchCache) -> None:
        """Start with no branch."""
        self.cache = cache
        self._head = cache.get_seq_length()
        self._owners = np.empty(0, dtype=np.int64)  # of the words behind the prefix
        self._lengths: dict[int, int] = {}
        self._run: list[tuple[int, int]] = []  # branch, and how many words
        self._lineage = np.empty((0, 0), dtype=np.bool_)  # of the words of the run

    def begin(self, parts: Sequence[Part]) -> list[int]:
        """Make ready for a run of new words, in the order in which they will come.

        Returns the position of each: a branch goes on from the prefix, words behind one parent from the same
        place.
        """
        self._run = [(who, len(parents)) for who, parents in parts]
        new = [who for who, count in self._run for _ in range(count)]
        self._owners = np.append(self._owners, np.array(new, dtype=np.int64))
        self._lineage = np.zeros((len(new), len(new)), dtype=np.bool_)
        first = 0
        for _, parents in parts:
            own = slice(first, first + len(parents))
            self._lineage[own, own] = lineage(parents)
            first = own.stop
        positions = []
        for who, parents in parts:
            first = self._head + self._lengths.get(who, 0)
            positions += [first + depth for depth in depths(parents)]
        return positions

    @property
    def free(self) -> int:
        """Tokens of the prefix, which all words see, P."""
        return self._head

    def rows(self, start: int, stop: int) -> torch.Tensor | None:
        """bool[stop - start, L - P]: what the run's words from `start` to before `stop` see; None: all."""
        old = len(self._owners) - len(self._lineage)
        seen = np.empty((stop - start, len(self._owners)), dtype=np.bool_)
        seen[:, :old] = self._owners[:old] == self._owners[old + start : old + stop, None]
        seen[:, old:] = self._lineage[start:stop]
        if stop - start == 1 and bool(seen.all()):
            return None
        return torch.from_numpy(seen)

    def settle(self, kept: Sequence[Sequence[int]]) -> None:
        """Say of each part of the run which of its words stay, by their places in it, rising."""
        first = len(self._owners) - len(self._lineage)
        for (who, count), stay in zip(self._run, kept, strict=True):
            owners = self._owners[first : first + count]
            owners[:] = _NOBODY
            owners[list(stay)] = who
            self._lengths[who] = self._lengths.get(who, 0) + len(stay)
            first += count
        self._run = []
        self._lineage = self._lineage[:0, :0]
        self._take_back()

    def leave(self, who: int) -> None:
        """A branch is through: nobody will look at its words again."""
        self._owners[self._owners == who] = _NOBODY
        self._lengths.pop(who, None)
        self._take_back()

    def _take_back(self) -> None:
        alive = np.flatnonzero(self._owners != _NOBODY)
        end = int(alive[-1]) + 1 if len(alive) else 0
        self._owners = self._owners[:end]
        self.cache.cut_back(self._head + end)
        dead = end - len(alive)
        if dead >= max(_MANY_DEAD, len(alive)):
            self.cache.keep_only(self._head, torch.from_numpy(alive))
            self._owners = self._owners[alive]

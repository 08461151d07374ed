"""A room's branches against lists of words, one a branch."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.model import branch_room
from molmo2_ground.model.branch_room import BranchRoom
from molmo2_ground.model.kv_cache import BranchCache

HEAD = 3


@dataclass(slots=True)
class Written:
    """The same branches, kept the plain way; a word is a number of its own, the prefix is 0, 1, 2."""

    branches: dict[int, list[int]] = field(default_factory=dict)
    next_word: int = HEAD

    def new(self, count: int) -> list[int]:
        self.next_word += count
        return list(range(self.next_word - count, self.next_word))


def rooms_cache() -> BranchCache:
    cache = BranchCache(layers=2)
    fill(cache, range(HEAD))
    return cache


def fill(cache: BranchCache, words: range | list[int]) -> torch.Tensor:
    """Put words into every layer, as their own keys; returns all keys of the last layer, int64[L]."""
    keys = torch.tensor(list(words), dtype=torch.float32).reshape(1, 1, -1, 1)
    for layer in range(2):
        held, _ = cache.update(keys, -keys, layer)
    return held[0, 0, :, 0].long()


def chain(count: int) -> range:
    """Parents of words that follow each other."""
    return range(-1, count - 1)


def whole(room: BranchRoom, start: int, stop: int) -> torch.Tensor | None:
    """A room's rows with a column for each token of the prefix too."""
    rows = room.rows(start, stop)
    return None if rows is None else F.pad(rows, (room.free, 0), value=True)


RUN = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=4)


@pytest.mark.slow
@given(st.lists(st.tuples(RUN, st.integers(0, 9)), max_size=14), st.sampled_from([1, 4, 10**6]))
@settings(max_examples=25, deadline=None)
def test_every_word_sees_the_prefix_and_its_branch_up_to_itself(
    runs: list[tuple[list[tuple[int, int]], int]], many_dead: int
) -> None:
    cache, plain = rooms_cache(), Written()
    room = BranchRoom(cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(branch_room, "_MANY_DEAD", many_dead)
        for counts, leaving in runs:
            words = {who: plain.new(count) for who, (count, _) in enumerate(counts)}
            positions = room.begin([(who, chain(len(new))) for who, new in words.items()])
            expected = [
                HEAD + len(plain.branches.get(who, [])) + number
                for who, new in words.items()
                for number in range(len(new))
            ]
            assert positions == expected
            held = fill(cache, [word for new in words.values() for word in new])
            total = sum(map(len, words.values()))
            rows = whole(room, 0, total)
            row = 0
            for who, new in words.items():
                for number in range(len(new)):
                    seen = held if rows is None else held[rows[row]]
                    assert seen.tolist() == [0, 1, 2, *plain.branches.get(who, []), *new[: number + 1]]
                    one = whole(room, row, row + 1)
                    assert (held if one is None else held[one[0]]).tolist() == seen.tolist()
                    row += 1
            kept = [min(stay, count) for count, stay in counts]
            room.settle([range(stay) for stay in kept])
            for (who, new), stay in zip(words.items(), kept, strict=True):
                plain.branches.setdefault(who, []).extend(new[:stay])
            if leaving in words:
                room.leave(leaving)
                plain.branches[leaving] = []  # the number may be another branch's now
    assert cache.get_seq_length() >= HEAD


PARENTS = st.lists(st.integers(0, 10**6), max_size=9).map(
    lambda drawn: [-1, *(number % (place + 1) for place, number in enumerate(drawn))]
)


@pytest.mark.slow
@given(st.lists(st.tuples(PARENTS, PARENTS, st.integers(0, 9), st.integers(0, 9)), max_size=6))
@settings(max_examples=40, deadline=None)
def test_words_of_a_tree_see_those_they_stand_behind(
    runs: list[tuple[list[int], list[int], int, int]],
) -> None:
    cache, plain = rooms_cache(), Written()
    room = BranchRoom(cache)
    for *trees, first, second in runs:
        new = [plain.new(len(parents)) for parents in trees]
        positions = room.begin(list(enumerate(trees)))
        held = fill(cache, [word for words in new for word in words])
        rows = whole(room, 0, sum(map(len, trees)))
        kept, row = [], 0
        for who, (parents, words, last) in enumerate(zip(trees, new, (first, second), strict=True)):
            before = plain.branches.setdefault(who, [])
            lines: list[list[int]] = []
            for place, parent in enumerate(parents):
                lines.append([*(lines[parent] if parent >= 0 else []), place])
                seen = held if rows is None else held[rows[row]]
                line = [words[n] for n in lines[-1]]
                assert sorted(seen.tolist()) == sorted([0, 1, 2, *before, *line])
                assert positions[row] == HEAD + len(before) + len(line) - 1
                row += 1
            kept.append(lines[last % len(lines)])
        room.settle(kept)
        for who, places in enumerate(kept):
            plain.branches[who] += [new[who][place] for place in places]


def test_places_of_wrong_guesses_are_taken_back() -> None:
    cache = rooms_cache()
    room = BranchRoom(cache)
    room.begin([(7, chain(4))])
    fill(cache, [3, 4, 5, 6])
    room.settle([[0]])
    assert cache.get_seq_length() == HEAD + 1
    room.leave(7)
    assert cache.get_seq_length() == HEAD


def test_a_crowd_of_dead_words_is_moved_out_of_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch_room, "_MANY_DEAD", 3)
    cache = rooms_cache()
    room = BranchRoom(cache)
    room.begin([(0, chain(4)), (1, chain(2))])
    fill(cache, [3, 4, 5, 6, 7, 8])
    room.settle([[0], [0, 1]])
    assert cache.get_seq_length() == HEAD + 3  # 4, 5, 6 made room
    room.begin([(1, chain(1))])
    held = fill(cache, [9])
    rows = whole(room, 0, 1)
    assert rows is not None
    assert held.tolist() == [0, 1, 2, 3, 7, 8, 9]
    assert held[rows[0]].tolist() == [0, 1, 2, 7, 8, 9]

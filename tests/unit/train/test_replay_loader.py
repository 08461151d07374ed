"""Batches that are used again: which ones, and that a loader goes on where it was."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.errors import TrainingError
from molmo2_ground.train.feed import KeyedBatch, NumberedLoader
from molmo2_ground.train.replay import ReplayedLoader

NEW = 9


class Numbers:
    """Batch n is n; counts how often one was made."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __len__(self) -> int:
        return NEW

    def __getitem__(self, step: int) -> int:
        self.made.append(step)
        return step


def doubled(batch: KeyedBatch[int]) -> KeyedBatch[int]:
    return KeyedBatch(data=2 * batch.data, keys=batch.keys)


def replayed(uses: int, kept: int, *, seed: int = 5) -> tuple[ReplayedLoader[KeyedBatch[int]], Numbers]:
    numbers = Numbers()
    new = NumberedLoader(numbers, name="numbers")
    return ReplayedLoader(new, uses=uses, kept=kept, seed=seed, prepare=doubled), numbers


def taken(loader: ReplayedLoader[KeyedBatch[int]], count: int) -> list[int]:
    found = []
    for _ in range(count):
        batch = next(loader)
        assert batch.keys == (f"numbers:{batch.data // 2}",)
        found.append(batch.data // 2)
    return found


@pytest.mark.parametrize(("uses", "kept"), [(1, 3), (2, 1), (3, 2), (4, 64)])
def test_each_new_batch_comes_once_and_others_are_among_the_last_kept(uses: int, kept: int) -> None:
    loader, numbers = replayed(uses, kept)
    found = taken(loader, NEW * uses)
    assert found[::uses] == numbers.made == list(range(NEW))
    for step, number in enumerate(found):
        newest = step // uses
        assert max(0, newest - kept + 1) <= number <= newest
        if step % uses:
            pool = list(range(newest + 1))[-kept:]
            assert number == pool[int(np.random.default_rng([5, step]).integers(len(pool)))]
    with pytest.raises(StopIteration):
        next(loader)


@pytest.mark.slow
@given(st.integers(1, 4), st.integers(1, 5), st.data())
def test_invariant_18_a_loader_that_uses_batches_again_goes_on_where_it_was(
    uses: int, kept: int, data: st.DataObject
) -> None:
    stop = data.draw(st.integers(0, NEW * uses))
    straight = taken(replayed(uses, kept)[0], NEW * uses)
    first, _ = replayed(uses, kept)
    assert taken(first, stop) == straight[:stop]
    state: dict[str, Any] = json.loads(json.dumps(first.state()))
    second, numbers = replayed(uses, kept)
    second.restore(state)
    assert second.state() == state, "also before anything is made again"
    assert numbers.made == []
    assert taken(second, NEW * uses - stop) == straight[stop:]


def test_only_kept_batches_are_made_again() -> None:
    first, _ = replayed(2, 3)
    taken(first, 13)
    second, numbers = replayed(2, 3)
    second.restore(first.state())
    next(second)
    assert numbers.made == [4, 5, 6]


@pytest.mark.parametrize(
    ("uses", "kept", "seed"), [(3, 3, 5), (2, 4, 5), (2, 3, 6)], ids=["uses", "kept", "seed"]
)
def test_a_state_of_other_settings_is_refused(uses: int, kept: int, seed: int) -> None:
    saved = replayed(2, 3)[0].state()
    with pytest.raises(TrainingError, match="uses batches otherwise"):
        replayed(uses, kept, seed=seed)[0].restore(saved)


@pytest.mark.parametrize(("uses", "kept"), [(0, 1), (1, 0)])
def test_numbers_below_one_are_refused(uses: int, kept: int) -> None:
    with pytest.raises(ValueError, match="must be 1 or more, got 0"):
        replayed(uses, kept)

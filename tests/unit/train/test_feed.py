from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from molmo2_ground.errors import TrainingError
from molmo2_ground.train.feed import KeyedBatch, NumberedLoader, PrefetchedLoader
from molmo2_ground.train.on_device import tensors
from tests.small_run import PackedLoader


class Squares:
    """Batch n is an array of n squares."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, step: int) -> npt.NDArray[np.int64]:
        return np.full(3, step * step, dtype=np.int64)


def loader(workers: int = 0) -> NumberedLoader[npt.NDArray[np.int64]]:
    return NumberedLoader(Squares(), name="squares", workers=workers, weight_of=lambda data: float(len(data)))


def taken(source: NumberedLoader[npt.NDArray[np.int64]], count: int) -> list[tuple[str, list[int]]]:
    return [
        (batch.keys[0], np.asarray(batch.data).tolist()) for batch in (next(source) for _ in range(count))
    ]


@pytest.mark.parametrize(
    "workers", [0, pytest.param(2, marks=pytest.mark.slow)], ids=["in-process", "two-workers"]
)
def test_invariant_18_numbered_batches_go_on_where_they_were(workers: int) -> None:
    straight = taken(loader(), 9)
    assert straight[4] == ("squares:4", [16, 16, 16])
    first = loader(workers)
    assert taken(first, 4) == straight[:4]
    state = first.state()
    assert state == {"name": "squares", "next": 4}
    second = loader(workers)
    second.restore(state)
    assert taken(second, 5) == straight[4:]
    with pytest.raises(StopIteration):
        next(second)


@pytest.mark.slow
def test_workers_draw_nothing_from_the_generator_that_all_share() -> None:
    before = torch.random.get_rng_state()
    next(loader(workers=1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_batches_can_be_made_tensors_where_they_are_made() -> None:
    source = NumberedLoader(Squares(), name="squares", prepare=tensors)
    next(source)
    batch = next(source)
    assert isinstance(batch.data, torch.Tensor)
    assert batch.data.tolist() == [1, 1, 1]


def test_a_place_in_other_data_is_refused() -> None:
    with pytest.raises(TrainingError, match="expected a place in squares"):
        loader().restore({"name": "cubes", "next": 4})


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_invariant_18_a_loader_that_runs_ahead_tells_the_consumers_place(stop: int) -> None:
    plain = PackedLoader()
    straight = [next(plain) for _ in range(12)]
    first = PrefetchedLoader(PackedLoader(), depth=3)
    for wanted in straight[:stop]:
        assert next(first).keys == wanted.keys
    state = first.state()
    second = PrefetchedLoader(PackedLoader(), depth=3)
    second.restore(state)
    for wanted in straight[stop:]:
        batch = next(second)
        assert batch.keys == wanted.keys
        assert all(np.array_equal(a, b) for a, b in zip(batch.data, wanted.data, strict=True))
    first.close()
    second.close()


def test_a_loader_that_ran_ahead_can_be_set_back() -> None:
    source = PrefetchedLoader(PackedLoader())
    start = source.state()
    keys = [next(source).keys for _ in range(4)]
    source.restore(start)
    assert [next(source).keys for _ in range(4)] == keys
    source.close()


def test_batches_are_prepared_and_the_end_and_errors_come_through() -> None:
    def doubled(batch: KeyedBatch[npt.NDArray[np.int64]]) -> KeyedBatch[npt.NDArray[np.int64]]:
        if batch.data[0] == 9:
            raise RuntimeError("no three")
        return KeyedBatch(data=batch.data * 2, keys=batch.keys)

    source = PrefetchedLoader(loader(), prepare=doubled)
    assert [int(next(source).data[0]) for _ in range(3)] == [0, 2, 8]
    with pytest.raises(RuntimeError, match="no three"):
        next(source)
    short = PrefetchedLoader(loader())
    for _ in range(9):
        next(short)
    with pytest.raises(StopIteration):
        next(short)


def test_a_depth_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="depth must be 1 or more"):
        PrefetchedLoader(loader(), depth=0)

"""From a mixture to packed batches. Tests called after an invariant are those of the recipe's list.

Made-up data sets of every medium; batches are compared by all their bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from molmo2_ground.train.example_source import ExampleError
from molmo2_ground.train.loader import LoaderOptions, PackedLoader
from molmo2_ground.train.loader_state import LoaderState, reshare
from molmo2_ground.train.mixture import MixtureSampler
from molmo2_ground.train.packed_batch import PackedBatch
from molmo2_ground.train.packer import PackLimits
from tests.made_up_sets_to_train import SETS, SHARES, MadeUp, maker

LIMITS = PackLimits(max_tokens=512, max_crops=24, pool=6, patience=4)


def loader(
    sets: dict[str, MadeUp] | None = None, *, rank: int = 0, ranks: int = 1, seed: int = 7, **options: Any
) -> PackedLoader:
    made = maker(SETS if sets is None else sets, seed=seed)
    shares = {name: share for name, share in SHARES.items() if name in made.sources}
    return PackedLoader(made, shares, limits=LIMITS, options=LoaderOptions(**options), rank=rank, ranks=ranks)


def digest(batch: PackedBatch) -> str:
    """Of everything in a batch."""
    seen = hashlib.sha256(repr((batch.keys, batch.placed)).encode())
    for row in batch.rows:
        for field in fields(row):
            seen.update(getattr(row, field.name).tobytes())
    for tensor in (batch.patches_CNP, batch.pooling_TK, batch.places_T):
        seen.update(repr((tensor.shape, tensor.dtype)).encode() + tensor.numpy().tobytes())
    return seen.hexdigest()


def digests(source: PackedLoader, count: int) -> list[str]:
    return [digest(batch) for batch in islice(source, count)]


def stream(count: int, *, rank: int = 0, ranks: int = 1) -> list[str]:
    """The keys of a rank's first examples, of the sampler alone."""
    sizes = {name: len(made) for name, made in SETS.items()}
    return [str(k) for k in islice(MixtureSampler(SHARES, sizes, seed=7, worker=rank, workers=ranks), count)]


def keys_of(batches: Sequence[PackedBatch]) -> list[str]:
    return [key for batch in batches for key in batch.keys]


@pytest.mark.slow
def test_batches_are_full_rows_of_the_mixtures_examples() -> None:
    batches = list(islice(loader(rows=2), 10))
    assert all(len(batch.rows) == 2 and len(batch.rows[0]) == 512 for batch in batches)
    assert np.mean([batch.fill for batch in batches]) > 0.8
    assert {len(batch.patches_CNP) for batch in batches} <= {0, 6, 12, 24, 48}
    assert {key.split(":")[0] for key in keys_of(batches)} == set(SHARES)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 3])
def test_invariant_13_every_example_of_the_stream_comes_once(rows: int) -> None:
    source = loader(rows=rows, examples=60)
    batches = list(source)
    assert Counter(keys_of(batches)) == Counter(stream(60))
    assert all(len(batch.rows) == rows for batch in batches[:-1])
    assert next(source, None) is None


@pytest.mark.slow
def test_invariant_13_no_example_waits_longer_than_its_bound() -> None:
    source, order = loader(), {key: place for place, key in enumerate(stream(300))}
    batches = list(islice(source, 40))
    fed, came = 0, {}
    for number, batch in enumerate(batches):
        # Fed so far: those packed and those that wait.
        fed = len(keys_of(batches[: number + 1])) + LIMITS.pool
        for key in batch.keys:
            came[key] = number
    first_unpacked = min((order[k] for k in order if k not in came), default=fed)
    assert fed - first_unpacked < 8 * (LIMITS.patience + LIMITS.pool)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [0, 1, 7])
@pytest.mark.parametrize("rows", [1, 2])
def test_invariant_18_restored_at_any_step_the_next_packs_are_the_same_bytes(stop: int, rows: int) -> None:
    source = loader(rows=rows)
    digests(source, stop)
    saved = json.loads(json.dumps(source.state()))
    following = digests(source, 6)
    other = loader(rows=rows)
    digests(other, 2)  # what it did before does not matter
    other.restore(saved)
    assert other.state() == saved
    assert digests(other, 6) == following
    assert other.state() == source.state()


def test_invariant_18_the_end_of_a_stream_is_restored_too() -> None:
    source = loader(examples=30)
    states = [source.state() for _ in source]
    for left, saved in enumerate(reversed(states[-4:])):
        other = loader(examples=30)
        other.restore(saved)
        assert len(list(other)) == left


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_invariant_18_any_number_of_processes_gives_the_same_bytes(processes: int) -> None:
    expected = digests(loader(), 9)
    with loader(processes=processes, ahead=3) as source:
        assert digests(source, 4) == expected[:4]
        saved = source.state()  # of the batches handed out, not of what was made ahead
        assert digests(source, 2) == expected[4:6]
    alone = loader()
    alone.restore(saved)
    assert digests(alone, 5) == expected[4:]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_invariant_19_processes_started_afresh_give_the_same_bytes(method: str) -> None:
    with loader(processes=2, start_method=method) as source:
        assert digests(source, 3) == digests(loader(), 3)


def test_invariant_19_another_seed_gives_other_examples() -> None:
    assert digests(loader(), 3) != digests(loader(seed=8), 3)


@pytest.mark.slow
def test_a_closed_loader_goes_on_behind_its_last_batch() -> None:
    expected = digests(loader(), 6)
    source = loader()
    found = digests(source, 3)
    source.close()
    assert found + digests(source, 3) == expected


@pytest.mark.slow
def test_ranks_share_one_stream() -> None:
    parts = [list(loader(rank=rank, ranks=3, examples=20)) for rank in range(3)]
    for rank, batches in enumerate(parts):
        assert Counter(keys_of(batches)) == Counter(stream(20, rank=rank, ranks=3))
    assert Counter(key for batches in parts for key in keys_of(batches)) == Counter(stream(60))


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 3), (3, 2)])
def test_invariant_18_other_ranks_go_on_and_every_example_comes_once(before: int, after: int) -> None:
    sources = [loader(rank=rank, ranks=before) for rank in range(before)]
    # Ranks are at different places of the stream: packs take different numbers of examples.
    shown = [key for source in sources for key in keys_of(list(islice(source, 5)))]
    states = [LoaderState.model_validate_json(json.dumps(source.state())) for source in sources]
    assert before == 1 or len({state.sampler.drawn for state in states}) > 1
    resumed = [loader(rank=rank, ranks=after) for rank in range(after)]
    for source, state in zip(resumed, reshare(states[::-1], ranks=after), strict=True):
        source.restore(state.model_dump(mode="json"))
    batches = [list(islice(source, 12)) for source in resumed]
    again = [source.state() for source in resumed]
    for number, saved in enumerate(again):
        assert not saved["backlog"], number
        shown += keys_of(batches[number])
        shown += [one["key"] for one in saved["packer"]["waiting"]]
    assert max(Counter(shown).values()) == 1
    # Up to where the slowest rank is, nothing is missing.
    least = min(saved["sampler"]["drawn"] for saved in again)
    assert set(stream(least)) <= set(shown)


def test_states_of_an_incomplete_run_are_refused() -> None:
    states = [LoaderState.model_validate_json(json.dumps(loader(rank=1, ranks=2).state()))]
    with pytest.raises(ValueError, match="state of each rank"):
        reshare(states, ranks=1)


BROKEN = {"clips": MadeUp(medium="video", size=13, broken=frozenset({3, 8})), "words": SETS["words"]}


@pytest.mark.parametrize("processes", [0, 1])
def test_an_example_that_fails_is_an_error_that_names_it(processes: int) -> None:
    with (
        loader(BROKEN, processes=processes) as source,
        pytest.raises(ExampleError, match=r"of clips, row video-000[38].*OSError: the file is cut short"),
    ):
        for _ in islice(source, 40):
            pass
    # Nothing of the failed batch is kept: the state is that of the last good one.
    other = loader(BROKEN, skip_failures=True)
    other.restore(source.state())
    assert other.state() == source.state()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [0, 1])
def test_failures_are_left_out_logged_and_counted_when_asked(
    processes: int, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, logger="molmo2_ground.train.loader"),
        loader(BROKEN, processes=processes, skip_failures=True) as source,
    ):
        keys = keys_of(list(islice(source, 20)))
        state = source.state()
    assert not {key for key in keys if key.split(":")[0] == "clips" and key.endswith((":3", ":8"))}
    assert state["bad_rows"] == {"clips": [3, 8]}
    assert source.skipped == {"clips": 2}
    named = [text.partition(",")[0] for text in caplog.messages]  # once, though each epoch brings them
    assert sorted(named) == ["left out: example 3 of clips", "left out: example 8 of clips"]
    other = loader(BROKEN, skip_failures=True)
    other.restore(state)
    assert other.skipped == source.skipped
    caplog.clear()
    assert digests(other, 20)
    assert caplog.messages == []


def test_a_state_that_counted_failures_is_taken() -> None:
    saved = loader(BROKEN).state()
    del saved["bad_rows"]
    other = loader(BROKEN)
    other.restore({**saved, "skipped": {"clips": 12}})
    assert other.skipped == {}


def test_an_example_that_no_pack_can_hold_is_a_failure() -> None:
    limits = PackLimits(max_tokens=512, max_crops=4, pool=2)
    source = PackedLoader(maker(), SHARES, limits=limits)
    with pytest.raises(ExampleError, match=r"row .*fits in no pack: expected at most 512 tokens and 4 crops"):
        list(islice(source, 30))


def test_data_that_changed_since_the_state_was_taken_is_an_error() -> None:
    sets = {"clips": SETS["clips"]}
    source = loader(sets)
    digests(source, 3)
    other = loader({"clips": MadeUp(medium="images", size=13)})
    other.restore(source.state())
    with pytest.raises(ExampleError, match="is not what it was when the state was taken"):
        next(other)


def test_an_example_that_waited_and_can_no_longer_be_read_is_an_error() -> None:
    source = loader({"clips": SETS["clips"]})
    digests(source, 3)
    broken = MadeUp(medium="video", size=13, broken=frozenset(range(13)))
    other = loader({"clips": broken}, skip_failures=True)
    other.restore(source.state())
    with pytest.raises(ExampleError, match="it waited when the state was taken"):
        next(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"ranks": 2}, "of another rank", id="ranks"),
        pytest.param({"seed": 8}, "other seed", id="seed"),
        pytest.param({"sets": {"clips": SETS["clips"]}}, "other sizes", id="data-sets"),
    ],
)
def test_a_state_of_another_run_is_refused_and_changes_nothing(change: dict[str, Any], message: str) -> None:
    saved = loader().state()
    other = loader(**change)
    before = other.state()
    with pytest.raises(ValueError, match=message):
        other.restore(saved)
    assert other.state() == before


def test_what_waits_stays_below_the_stated_bound() -> None:
    source = loader(rows=2)
    for _ in islice(source, 5):
        assert 0 < source.held_bytes < source.most_bytes
    per_crop = 3 * 84 * 84
    assert source.most_bytes == (6 + 1 + 2 * 2) * 24 * per_crop


@pytest.mark.slow
def test_the_generator_that_all_share_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with loader(processes=1) as source:
        next(source)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"processes": -1}, {"ahead": 0}, {"examples": 0}], ids=str)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoaderOptions(**wrong)


@pytest.mark.parametrize(
    ("size", "message", "named"),
    [
        pytest.param(1, "the file is cut short; it is the only row: mend the data", 0, id="one-row"),
        pytest.param(3, "the file is cut short; and so it is with all 3 rows: mend the data", 2, id="three"),
        pytest.param(1500, "nor can 1,000 rows before it: mend the data", 1000, id="more-than-are-named"),
    ],
)
def test_data_of_which_nothing_can_be_used_ends_the_run_though_failures_are_skipped(
    size: int, message: str, named: int, caplog: pytest.LogCaptureFixture
) -> None:
    broken = MadeUp(medium="video", size=size, broken=frozenset(range(size)))
    source = loader({"clips": broken}, skip_failures=True)
    with pytest.raises(ExampleError, match=message):
        next(source)
    assert len(caplog.records) == named
    with pytest.raises(ExampleError, match=message):
        next(source)

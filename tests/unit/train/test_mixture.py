"""Mixing: the rates that were asked for, each example once an epoch, and any example made again alone.

Tests called after an invariant are those of the recipe's list of invariants.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import chisquare

from molmo2_ground.train.mixture import (
    ExampleKey,
    Group,
    Member,
    Mixture,
    MixtureSampler,
    SamplerState,
    example_rng,
)
from molmo2_ground.train.mixture_tables import STAGE1, STAGE2, STAGE2_MOLMO_POINT, STAGE2_RELEASED
from molmo2_ground.train.packer import Candidate, Pack, Packer, PackerState, PackLimits, TooLong
from molmo2_ground.train.weights import branch_weight

SMALL = Mixture(
    groups=(
        Group(name="pictures", rate=0.6, members=(Member(name="large"), Member(name="small"))),
        Group(
            name="clips",
            rate=0.5,
            members=(Member(name="capped", cap=100), Member(name="doubled", rate=2.0), Member(name="short")),
        ),
    )
)
SIZES = {"large": 900, "small": 400, "capped": 10_000, "doubled": 25, "short": 400}


def group_shares(mixture: Mixture, shares: dict[str, float]) -> dict[str, float]:
    return {group.name: sum(shares[member.name] for member in group.members) for group in mixture.groups}


def sampler(*, seed: int = 7, worker: int = 0, workers: int = 1) -> MixtureSampler:
    return MixtureSampler(SMALL.shares(SIZES), SIZES, seed=seed, worker=worker, workers=workers)


def test_invariant_17_shares_go_by_the_root_of_the_size_with_caps_and_rates() -> None:
    assert SMALL.shares(SIZES) == pytest.approx(
        {
            "large": 6 / 11 * 30 / 50,
            "small": 6 / 11 * 20 / 50,
            "capped": 5 / 11 * 10 / 40,
            "doubled": 5 / 11 * 2 * 5 / 40,
            "short": 5 / 11 * 20 / 40,
        }
    )
    assert list(SMALL.shares(SIZES)) == sorted(SIZES)


def test_invariant_17_groups_have_their_rates_divided_by_their_sum() -> None:
    sizes = {member.name: 10 + 7 * k for k, member in enumerate(STAGE2.members)}
    shares = STAGE2.shares(sizes)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert group_shares(STAGE2, shares) == pytest.approx(
        {
            "demo": 0.1364,
            "video_academic": 0.1818,
            "image_academic": 0.2273,
            "tracking": 0.1364,
            "video_pointing": 0.1364,
            "image_pointing": 0.0909,
            "nlp": 0.0905,
            "hardcodes": 0.00045,
        },
        abs=5e-5,
    )


@pytest.mark.slow
def test_invariant_17_examples_come_as_often_as_their_datasets_are_asked_for() -> None:
    shares = SMALL.shares(SIZES)
    drawn = Counter(key.dataset for key in islice(sampler(), 100_000))
    names = sorted(shares)
    seen, expected = [drawn[name] for name in names], [100_000 * shares[name] for name in names]
    assert chisquare(seen, expected).pvalue > 1e-3
    # The same test sees a share that is two hundredths off.
    off = {name: share * (1.02 if name == "large" else 1.0) for name, share in shares.items()}
    assert chisquare(seen, [100_000 * off[name] / sum(off.values()) for name in names]).pvalue < 1e-3


@pytest.mark.parametrize(
    ("size", "member", "released", "term"),
    [
        pytest.param(400, Member(name="a"), False, 20, id="root"),
        pytest.param(400, Member(name="a", cap=100), False, 10, id="over the cap"),
        pytest.param(25, Member(name="a", cap=100), False, 5, id="under the cap"),
        pytest.param(25, Member(name="a", cap=100), True, 10, id="under the cap, as released"),
        pytest.param(400, Member(name="a", by_size=False), False, 1, id="whatever the size"),
        pytest.param(400, Member(name="a", by_size=False, rate=0.3), False, 0.3, id="a share by hand"),
    ],
)
def test_what_a_dataset_counts_for(size: int, member: Member, released: bool, term: float) -> None:
    group = Group(name="g", rate=0.1, members=(member, Member(name="one")))
    shares = Mixture(groups=(group,), cap_is_size=released).shares({"a": size, "one": 1})
    assert shares["a"] / shares["one"] == pytest.approx(term)


def test_a_part_of_a_mixture_keeps_the_rates_of_its_groups() -> None:
    part = SMALL.only({"large", "capped", "short"})
    assert [[member.name for member in group.members] for group in part.groups] == [
        ["large"],
        ["capped", "short"],
    ]
    assert group_shares(part, part.shares(SIZES)) == pytest.approx({"pictures": 6 / 11, "clips": 5 / 11})
    assert SMALL.only({"small"}).shares(SIZES) == {"small": 1.0}


@pytest.mark.parametrize(
    ("names", "message"), [({"large", "lrage"}, "no dataset of this mixture: lrage"), (set(), "got none")]
)
def test_a_part_that_is_not_there_is_refused(names: set[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SMALL.only(names)


def test_a_dataset_that_is_missing_or_empty_is_named() -> None:
    with pytest.raises(ValueError, match=r"none of capped, small; leave datasets out with \.only"):
        SMALL.shares({"large": 1, "small": 0, "doubled": 3, "short": 9})


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate of a must be over 0"):
        Member(name="a", rate=rate)
    with pytest.raises(ValueError, match="rate of group g must be over 0"):
        Group(name="g", rate=rate, members=(Member(name="a"),))


def test_impossible_mixtures_are_refused() -> None:
    with pytest.raises(ValueError, match="cap of a must be 1 or more"):
        Member(name="a", cap=0)
    with pytest.raises(ValueError, match="must have a dataset"):
        Group(name="g", rate=1.0, members=())
    with pytest.raises(ValueError, match=r"each once; got \['a'\]"):
        Mixture(groups=(Group(name="g", rate=1.0, members=(Member(name="a"), Member(name="a"))),))


def test_the_table_of_stage_1() -> None:
    shares = STAGE1.shares({member.name: 10**k for k, member in enumerate(STAGE1.members)})
    assert group_shares(STAGE1, shares) == pytest.approx({"captions": 0.6, "image_pointing": 0.3, "nlp": 0.1})
    kinds = {group.name: {member.kind for member in group.members} for group in STAGE1.groups}
    assert kinds == {"captions": {"answer"}, "image_pointing": {"pointing"}, "nlp": {"answer"}}


def test_the_table_of_stage_2_holds_what_was_released() -> None:
    assert {group.name: len(group.members) for group in STAGE2.groups} == {
        "demo": 6,
        "video_academic": 34,
        "image_academic": 32,
        "tracking": 35,
        "video_pointing": 4,
        "image_pointing": 5,
        "nlp": 1,
        "hardcodes": 1,
    }
    caps = {member.name: member.cap for member in STAGE2.members if member.cap}
    assert caps == {
        "pixmo_cap": 100_000,
        **dict.fromkeys(("tgif", "tvqa_with_sub", "paxion", "moments_in_time_qa", "kinetics_qa"), 60_000),
        **{"dv_qa": 10_000, "figure_qa": 10_000, "plot_qa": 20_000, "pixmo_multi_points": 200_000},
        **dict.fromkeys(("vicas_track", "vicas_ground", "vicas_single_point_track"), 30_000),
    }


def test_captions_and_grounding_have_fixed_token_weights_and_the_rest_goes_by_length() -> None:
    weights = {
        group.name: {branch_weight(16, kind=member.kind) for member in group.members}
        for group in STAGE2.groups
    }
    assert weights == {
        "demo": {0.1, 1.0},
        **{name: {1.0} for name in ("video_academic", "image_academic", "nlp", "hardcodes")},
        **{name: {0.2} for name in ("tracking", "video_pointing", "image_pointing")},
    }
    captions = [member.name for member in STAGE2.members if member.kind == "video_caption"]
    assert captions == ["vixmo3_top_level_captions_min_3"]


def test_video_pointing_is_split_by_hand() -> None:
    points = next(group for group in STAGE2.groups if group.name == "video_pointing")
    sizes = {member.name: 10**k for k, member in enumerate(points.members)}
    assert list(Mixture(groups=(points,)).shares(sizes).values()) == pytest.approx([0.2, 0.4, 0.1, 0.3])


def test_the_variants_of_stage_2() -> None:
    assert (STAGE2.cap_is_size, STAGE2_RELEASED.cap_is_size) == (False, True)
    assert STAGE2_RELEASED.groups == STAGE2.groups
    assert sum(group.rate for group in STAGE2.groups) == pytest.approx(1.1)
    assert sum(group.rate for group in STAGE2_MOLMO_POINT.groups) == pytest.approx(1.0)
    assert STAGE2_MOLMO_POINT.members == STAGE2.members


def test_an_epoch_shows_every_example_once_and_the_next_in_another_order() -> None:
    keys = [key for key in islice(sampler(), 2000) if key.dataset == "doubled"]
    first, second = keys[:25], keys[25:50]
    assert [key.epoch for key in first + second] == [0] * 25 + [1] * 25
    assert sorted(key.index for key in first) == sorted(key.index for key in second) == list(range(25))
    assert [key.index for key in first] != [key.index for key in second]
    assert [key.index for key in first] != list(range(25))


def test_invariant_18_changing_the_workers_keeps_the_examples_of_an_epoch() -> None:
    whole = list(islice(sampler(), 1200))
    for workers in (2, 3, 8):
        parts = [list(islice(sampler(worker=w, workers=workers), 1200 // workers)) for w in range(workers)]
        for worker, part in enumerate(parts):
            assert part == whole[worker::workers]
        together = [key for part in parts for key in part]
        assert Counter(together) == Counter(whole)
        epoch = [key.index for key in together if (key.dataset, key.epoch) == ("doubled", 1)]
        assert sorted(epoch) == list(range(25))


def test_invariant_18_the_number_of_workers_can_change_after_equal_rounds() -> None:
    rounds, before, after = 40, 3, 5
    streams = [sampler(worker=worker, workers=before) for worker in range(before)]
    keys = [key for stream in streams for key in islice(stream, rounds)]
    last = streams[-1].state()
    assert last.drawn == rounds * before
    for worker in range(after):
        stream = sampler(worker=worker, workers=after)
        stream.restore(last)
        keys.extend(islice(stream, 20))
    assert Counter(keys) == Counter(islice(sampler(), rounds * before + 20 * after))


@pytest.mark.slow
@given(cut=st.integers(0, 1500), workers=st.integers(1, 4), data=st.data())
@settings(max_examples=25, deadline=None)
def test_invariant_18_a_restored_sampler_goes_on_with_the_same_examples(
    cut: int, workers: int, data: st.DataObject
) -> None:
    worker = data.draw(st.integers(0, workers - 1))
    stream = sampler(worker=worker, workers=workers)
    for _ in islice(stream, cut):
        pass
    saved = stream.state().model_dump_json()
    resumed = sampler(worker=worker, workers=workers)
    resumed.restore(SamplerState.model_validate_json(saved))
    assert resumed.state().model_dump_json() == saved
    assert list(islice(resumed, 50)) == list(islice(stream, 50))


def candidate(seed: int, key: ExampleKey) -> Candidate:
    """An example whose size is random, and is the same whenever it is made."""
    rng = example_rng(seed, key)
    return Candidate(key=str(key), tokens=int(rng.integers(20, 900)), crops=int(rng.integers(0, 9)))


def packs(stream: MixtureSampler, packer: Packer) -> Iterator[Pack | TooLong]:
    for key in stream:
        made = packer.offer(candidate(stream.seed, key))
        if made is not None:
            yield made


def test_invariant_18_after_a_stop_the_next_packs_are_the_same_bytes() -> None:
    limits = PackLimits(max_tokens=2000, max_crops=16, pool=12, patience=6)
    stream, packer = sampler(), Packer(limits)
    list(islice(packs(stream, packer), 37))
    saved = json.dumps([stream.state().model_dump_json(), packer.state().model_dump_json()])
    following = list(islice(packs(stream, packer), 60))

    texts = json.loads(saved)
    stream, packer = sampler(), Packer(limits)
    stream.restore(SamplerState.model_validate_json(texts[0]))
    packer.restore(PackerState.model_validate_json(texts[1]))
    # What waits is made again from the keys alone, and is what was saved.
    assert packer.waiting == tuple(candidate(7, ExampleKey.parse(one.key)) for one in packer.waiting)
    again = list(islice(packs(stream, packer), 60))
    assert repr(again).encode() == repr(following).encode()


_BYTES = """
import hashlib, itertools, sys
from molmo2_ground.train.mixture import ExampleKey, MixtureSampler, example_rng

shares, sizes = dict.fromkeys({"b", "a", "ü"}, 1.0), {"a": 5, "b": 70, "ü": 3}
workers = int(sys.argv[1])
streams = [MixtureSampler(shares, sizes, seed=3, worker=w, workers=workers) for w in range(workers)]
digest = hashlib.sha256()
for key in sorted(key for stream in streams for key in itertools.islice(stream, 240 // workers)):
    digest.update(str(key).encode() + example_rng(3, key).bytes(100))
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_invariant_19_the_same_key_gives_the_same_bytes_in_every_process() -> None:
    def digest(hash_seed: str, workers: int) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", _BYTES, str(workers)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert digest("0", 1) == digest("1", 3) == digest("12345", 8)


def test_invariant_19_the_bytes_of_a_key_are_those_of_the_first_version() -> None:
    # A run that was saved by one version goes on in the next: what a key makes is a promise.
    key = ExampleKey(dataset="molmo2_video_track", epoch=2, index=31)
    values = example_rng(6198, key, purpose="augment").bit_generator.random_raw(4)
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == "24e0898a371ea735"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((8, ExampleKey(dataset="a", epoch=1, index=2), "p"), id="seed"),
        pytest.param((7, ExampleKey(dataset="b", epoch=1, index=2), "p"), id="dataset"),
        pytest.param((7, ExampleKey(dataset="a", epoch=2, index=2), "p"), id="epoch"),
        pytest.param((7, ExampleKey(dataset="a", epoch=1, index=3), "p"), id="index"),
        pytest.param((7, ExampleKey(dataset="a", epoch=2, index=1), "p"), id="epoch and index swapped"),
        pytest.param((7, ExampleKey(dataset="a", epoch=1, index=2), "q"), id="purpose"),
    ],
)
def test_everything_in_a_key_counts(other: tuple[int, ExampleKey, str]) -> None:
    one = example_rng(7, ExampleKey(dataset="a", epoch=1, index=2), purpose="p").bytes(16)
    assert example_rng(other[0], other[1], purpose=other[2]).bytes(16) != one


def test_seeds_give_other_streams_and_the_order_of_writing_does_not_count() -> None:
    first = list(islice(sampler(), 100))
    assert list(islice(sampler(seed=8), 100)) != first
    shares = SMALL.shares(SIZES)
    turned = MixtureSampler(dict(reversed(shares.items())), dict(reversed(SIZES.items())), seed=7)
    assert list(islice(turned, 100)) == first


@given(st.text(), st.integers(0, 10**6), st.integers(0, 10**9))
@settings(max_examples=50, deadline=None)
def test_a_key_survives_being_written(dataset: str, epoch: int, index: int) -> None:
    key = ExampleKey(dataset=dataset, epoch=epoch, index=index)
    assert ExampleKey.parse(str(key)) == key


@pytest.mark.parametrize("text", ["", "a", "a:1", "a:1:", "a:b:2", "a:-1:2", "a:1:2.0", "a:1:²"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a key like dataset:epoch:index"):
        ExampleKey.parse(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"seed": 8}, "other seed", id="seed"),
        pytest.param({"sizes": {**SIZES, "small": 401}}, "other sizes", id="sizes"),
        pytest.param({"shares": dict.fromkeys(SIZES, 0.2)}, "other shares", id="shares"),
        pytest.param({"drawn": 11}, "damaged: .* 11 together", id="sum"),
        pytest.param({"taken": {"large": 10}}, "damaged", id="datasets"),
    ],
)
def test_a_state_of_another_stream_is_refused_and_changes_nothing(
    change: dict[str, object], message: str
) -> None:
    stream = sampler()
    list(islice(stream, 10))
    before = stream.state()
    state = SamplerState.model_validate_json(json.dumps({**before.model_dump(), **change}))
    with pytest.raises(ValueError, match=message):
        stream.restore(state)
    assert stream.state() == before


def test_a_state_of_another_shape_cannot_be_read() -> None:
    text = json.dumps({**sampler().state().model_dump(), "drawn": -1})
    with pytest.raises(ValidationError):
        SamplerState.model_validate_json(text)


def test_sizes_of_arrays_can_be_saved() -> None:
    stream = MixtureSampler({"a": np.float64(1.0)}, {"a": np.int64(3)}, seed=1)  # type: ignore[dict-item]
    assert next(stream).dataset == "a"
    assert SamplerState.model_validate_json(stream.state().model_dump_json()) == stream.state()


@pytest.mark.parametrize(
    ("shares", "sizes", "worker", "message"),
    [
        pytest.param({"a": 1.0}, {"a": 1}, 2, "worker must be from 0 to 1, got 2", id="worker"),
        pytest.param({}, {}, 0, "one share or more", id="no share"),
        pytest.param({"a": 0.0}, {"a": 1}, 0, "all over 0", id="share of nothing"),
        pytest.param({"a": 1.0, "b": 1.0}, {"a": 1}, 0, "got none of b", id="no size"),
    ],
)
def test_impossible_streams_are_refused(
    shares: dict[str, float], sizes: dict[str, int], worker: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MixtureSampler(shares, sizes, seed=1, worker=worker, workers=2)

"""Packing: the best set, within the limits, nothing lost, nothing left behind, and the same after a restore.

Tests called after an invariant are those of the recipe's list of invariants.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from molmo2_ground.train.packer import (
    STAGE1,
    STAGE1_RELEASED,
    STAGE2,
    STAGE3,
    Candidate,
    Pack,
    Packer,
    PackerState,
    PackLimits,
    TooLong,
)

NEVER = 10**9  # a patience that no test outlasts
Sizes = Sequence[tuple[int, int]]


def candidates(sizes: Sizes) -> list[Candidate]:
    return [Candidate(key=str(k), tokens=tokens, crops=crops) for k, (tokens, crops) in enumerate(sizes)]


def packs_of(made: Iterator[Pack | TooLong]) -> list[Pack]:
    return [pack for pack in made if isinstance(pack, Pack)]


def worth(examples: Sequence[Candidate], limits: PackLimits) -> int:
    return sum(one.tokens + limits.crop_value * one.crops for one in examples)


def best_worth(examples: Sequence[Candidate], limits: PackLimits) -> int:
    """The most that any set of examples is worth, by trying all: lengths in steps, or one example alone."""
    step = limits.step_tokens
    sets = (np.arange(2 ** len(examples))[:, None] >> np.arange(len(examples))) & 1
    fits = sets @ [-(-one.tokens // step) for one in examples] <= limits.max_tokens // step
    fits |= sets.sum(axis=1) == 1  # one that rounds up to more than the room still fits in tokens
    fits &= sets @ [one.crops for one in examples] <= limits.max_crops
    return int((sets @ [worth([one], limits) for one in examples])[fits].max())


@st.composite
def limits_and_sizes(
    draw: st.DrawFn, *, max_examples: int, patience: int | None = None
) -> tuple[PackLimits, Sizes]:
    """Limits of every kind, steps that do not divide them too, and examples of which some fit in no pack."""
    limits = PackLimits(
        max_tokens=draw(st.integers(1, 400)),
        max_crops=draw(st.integers(0, 12)),
        crop_value=draw(st.integers(0, 40)),
        pool=draw(st.integers(0, 11)),
        patience=draw(st.integers(0, 6)) if patience is None else patience,
        length_steps=draw(st.integers(1, 64) | st.just(400)),
    )
    tokens = st.integers(1, limits.max_tokens + 5) | st.integers(1, 1 + limits.max_tokens // 3)
    sizes = draw(st.lists(st.tuples(tokens, st.integers(0, limits.max_crops + 1)), max_size=max_examples))
    return limits, sizes


@pytest.mark.slow
@given(limits_and_sizes(max_examples=12, patience=NEVER))
@settings(max_examples=150, deadline=None)
def test_invariant_12_each_pack_is_the_optimum_that_brute_force_finds(case: tuple[PackLimits, Sizes]) -> None:
    limits, sizes = case
    packer = Packer(limits)
    for example in candidates(sizes):
        before = packer.waiting
        pack = packer.offer(example)
        if isinstance(pack, Pack):
            assert worth(pack.examples, limits) == best_worth([*before, example], limits)
    while packer.waiting:
        before = packer.waiting
        assert worth(next(packer.drain()).examples, limits) == best_worth(before, limits)


def test_invariant_12_the_optimum_is_exact_in_tokens_when_a_step_is_one_token() -> None:
    rng = np.random.default_rng(3)
    limits = PackLimits(max_tokens=997, max_crops=20, pool=11, length_steps=997, patience=NEVER)
    assert limits.step_tokens == 1
    for _ in range(20):
        made = candidates([(int(rng.integers(1, 700)), int(rng.integers(0, 15))) for _ in range(12)])
        pack = packs_of(Packer(limits).pack_all(made))[0]
        assert worth(pack.examples, limits) == best_worth(made, limits)


@pytest.mark.slow
@given(limits_and_sizes(max_examples=40))
@settings(max_examples=200, deadline=None)
def test_invariant_12_no_pack_is_over_the_limits(case: tuple[PackLimits, Sizes]) -> None:
    limits, sizes = case
    for pack in packs_of(Packer(limits).pack_all(candidates(sizes))):
        assert pack.tokens <= limits.max_tokens
        assert pack.crops <= limits.max_crops


def test_invariant_12_no_pack_is_over_a_limit_that_is_no_multiple_of_a_step() -> None:
    # With a room of 513 steps of 39 tokens, the two would make 20,007.
    limits = PackLimits(max_tokens=20000, pool=1)
    pack = Packer(limits).pack_all(candidates([(39 * 256, 0), (39 * 257, 0)]))
    assert [one.tokens for one in packs_of(pack)] == [39 * 257, 39 * 256]


@pytest.mark.parametrize("tokens", [19969, 20000], ids=["a token over the room in steps", "the limit itself"])
def test_an_example_that_rounds_up_to_more_than_the_room_goes_alone(tokens: int) -> None:
    made = packs_of(Packer(PackLimits(max_tokens=20000)).pack_all(candidates([(tokens, 3), (1, 0)])))
    assert [[one.tokens for one in pack.examples] for pack in made] == [[tokens], [1]]


@pytest.mark.slow
@given(limits_and_sizes(max_examples=60))
@settings(max_examples=200, deadline=None)
def test_invariant_13_every_example_leaves_once_and_within_a_bound(case: tuple[PackLimits, Sizes]) -> None:
    limits, sizes = case
    packer, came = Packer(limits), dict[str, int]()
    packs: list[Pack] = []
    too_long: list[TooLong] = []
    for example in candidates(sizes):
        came[example.key] = packer.packs
        made = packer.offer(example)
        if isinstance(made, Pack):
            packs.append(made)
        elif made is not None:
            too_long.append(made)
        assert len(packer) <= limits.pool
    packs.extend(packer.drain())
    assert len(packer) == 0
    left = [one.key for pack in packs for one in pack.examples]
    assert sorted([*left, *(one.example.key for one in too_long)]) == sorted(came)
    assert [pack.number for pack in packs] == list(range(len(packs)))
    for pack in packs:
        for one in pack.examples:
            assert pack.number - came[one.key] <= limits.patience + limits.pool


def awkward_first(limits: PackLimits) -> Iterator[Candidate]:
    """One example that spoils every pack it is in, then pairs that fill a pack exactly, without end."""
    yield Candidate(key="awkward", tokens=limits.max_tokens // 2 + limits.step_tokens, crops=0)
    for number in count():
        yield Candidate(key=str(number), tokens=limits.max_tokens // 2, crops=limits.max_crops // 2)


@pytest.mark.parametrize(("patience", "leaves_in_pack"), [(0, 0), (7, 7), (NEVER, None)])
def test_invariant_13_what_never_fits_well_leaves_when_it_is_due(
    patience: int, leaves_in_pack: int | None
) -> None:
    limits = PackLimits(max_tokens=1024, max_crops=8, pool=8, patience=patience)
    packer = Packer(limits)
    found = None
    for example, _ in zip(awkward_first(limits), range(100), strict=False):
        pack = packer.offer(example)
        if isinstance(pack, Pack) and any(one.key == "awkward" for one in pack.examples):
            found = pack.number
    assert found == leaves_in_pack


def test_with_an_example_due_the_pack_is_the_best_that_holds_it() -> None:
    limits = PackLimits(max_tokens=100, max_crops=0, pool=3, patience=0, length_steps=100)
    made = candidates([(51, 0), (30, 0), (60, 0), (49, 0)])
    packs = packs_of(Packer(limits).pack_all(made))
    # 60 + 30 = 90 is less than 51 + 49 = 100; of those two packs the first is also the oldest's.
    assert [[one.tokens for one in pack.examples] for pack in packs] == [[51, 49], [30, 60]]
    made = candidates([(51, 0), (40, 0), (60, 0), (20, 0)])
    packs = packs_of(Packer(limits).pack_all(made))
    assert [[one.tokens for one in pack.examples] for pack in packs] == [[51, 40], [60, 20]]


def test_the_newcomer_is_a_candidate() -> None:
    packer = Packer(PackLimits(max_tokens=100, max_crops=10, pool=2, length_steps=100))
    assert packer.offer(Candidate(key="a", tokens=60)) is None
    assert packer.offer(Candidate(key="b", tokens=70)) is None
    pack = packer.offer(Candidate(key="c", tokens=40))
    assert isinstance(pack, Pack)
    assert [one.key for one in pack.examples] == ["a", "c"]
    assert [one.key for one in packer.waiting] == ["b"]


def test_of_equally_good_packs_the_older_examples_leave() -> None:
    packer = Packer(PackLimits(max_tokens=100, max_crops=0, pool=4, patience=NEVER))
    packs = packs_of(packer.pack_all(candidates([(50, 0)] * 6)))
    assert [[one.key for one in pack.examples] for pack in packs] == [["0", "1"], ["2", "3"], ["4", "5"]]


def test_a_crop_counts_as_thirty_tokens() -> None:
    # Alone, each fills what the other leaves no room for.
    few_crops, many_crops = (
        Candidate(key="a", tokens=16000, crops=1),
        Candidate(key="b", tokens=13000, crops=102),
    )
    packs = packs_of(Packer(PackLimits(pool=1)).pack_all([few_crops, many_crops]))
    assert [pack.examples for pack in packs] == [(many_crops,), (few_crops,)]
    assert worth([many_crops], STAGE2) - worth([few_crops], STAGE2) == 13000 + 30 * 102 - (16000 + 30)


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(PackLimits(max_tokens=30, max_crops=2, crop_value=30, pool=6), id="a byte a cell"),
        pytest.param(STAGE3, id="two bytes"),
        pytest.param(PackLimits(max_tokens=512 * 200, max_crops=64, pool=6), id="four bytes"),
    ],
)
def test_the_tables_hold_the_worth_of_a_full_pack(limits: PackLimits) -> None:
    half = (limits.max_tokens // 2, limits.max_crops // 2)
    made = packs_of(Packer(limits).pack_all(candidates([half, (1, 0), half])))
    assert [len(pack.examples) for pack in made] == [2, 1]
    assert worth(made[0].examples, limits) == limits.max_tokens + limits.crop_value * limits.max_crops


@pytest.mark.parametrize(
    ("tokens", "crops"), [(16385, 0), (10, 129), (20000, 300)], ids=["tokens", "crops", "both"]
)
def test_an_example_over_the_limits_is_reported(tokens: int, crops: int) -> None:
    packer = Packer(STAGE2)
    long = Candidate(key="video:0:7", tokens=tokens, crops=crops)
    report = packer.offer(long)
    assert report == TooLong(example=long, limits=STAGE2)
    assert report.reason.startswith(
        "example video:0:7 fits in no pack: expected at most 16384 tokens and 128 crops"
    )
    assert f"got {tokens} and {crops}" in report.reason
    assert (packer.too_long, len(packer)) == (1, 0)
    assert packer.state().too_long == 1


@pytest.mark.slow
@given(limits_and_sizes(max_examples=50), st.data())
@settings(max_examples=100, deadline=None)
def test_invariant_18_a_restored_packer_makes_the_same_packs(
    case: tuple[PackLimits, Sizes], data: st.DataObject
) -> None:
    limits, sizes = case
    cut = data.draw(st.integers(0, len(sizes)))
    made = candidates(sizes)
    whole = list(Packer(limits).pack_all(made))

    packer = Packer(limits)
    before = [one for one in map(packer.offer, made[:cut]) if one is not None]
    saved = packer.state().model_dump_json()
    resumed = Packer(limits)
    resumed.restore(PackerState.model_validate_json(saved))
    assert resumed.state().model_dump_json() == saved
    assert [*before, *resumed.pack_all(made[cut:])] == whole


@pytest.mark.parametrize("cut", [1, 9, 40, 133, 200])
def test_invariant_18_a_packer_restored_anywhere_in_a_long_run_makes_the_same_packs(cut: int) -> None:
    rng = np.random.default_rng(11)
    limits = PackLimits(max_tokens=1000, max_crops=16, pool=8, patience=9)
    made = candidates([(int(rng.integers(1, 900)), int(rng.integers(0, 12))) for _ in range(200)])
    whole = list(Packer(limits).pack_all(made))
    packer, resumed = Packer(limits), Packer(limits)
    before = [one for one in map(packer.offer, made[:cut]) if one is not None]
    resumed.restore(PackerState.model_validate_json(packer.state().model_dump_json()))
    assert [*before, *resumed.pack_all(made[cut:])] == whole
    assert (resumed.packs, resumed.too_long) == (len(whole), 0)


def saved_state() -> dict[str, object]:
    packer = Packer(PackLimits(max_tokens=100, max_crops=4, pool=3))
    for example in candidates([(60, 1), (30, 0), (70, 4), (50, 2), (20, 1)]):
        packer.offer(example)
    state: dict[str, object] = json.loads(packer.state().model_dump_json())
    return state


def test_a_state_is_plain_json_with_keys_and_sizes() -> None:
    assert saved_state() == {
        "schema_version": 1,
        "limits": {
            "max_tokens": 100,
            "max_crops": 4,
            "crop_value": 30,
            "pool": 3,
            "patience": 32,
            "length_steps": 512,
        },
        "packs": 1,
        "too_long": 0,
        "waiting": [
            {"key": "0", "tokens": 60, "crops": 1, "since": 0},
            {"key": "3", "tokens": 50, "crops": 2, "since": 0},
            {"key": "4", "tokens": 20, "crops": 1, "since": 1},
        ],
    }


def waiting(key: str = "9", tokens: int = 5, crops: int = 0, since: int = 1) -> dict[str, object]:
    return {"key": key, "tokens": tokens, "crops": crops, "since": since}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"waiting": [waiting(str(k)) for k in range(4)]}, "at most 3 waiting examples, got 4", id="full"
        ),
        pytest.param({"waiting": [waiting(), waiting()]}, "waits twice", id="twice"),
        pytest.param({"waiting": [waiting(since=2)]}, "up to pack 1, got", id="from the future"),
        pytest.param(
            {"waiting": [waiting("1"), waiting("2", since=0)]}, "order of their coming", id="disorder"
        ),
        pytest.param({"waiting": [waiting(tokens=101)]}, "only examples that fit", id="long"),
        pytest.param({"waiting": [waiting(crops=5)]}, "only examples that fit", id="crops"),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(change: dict[str, object], message: str) -> None:
    packer = Packer(PackLimits(max_tokens=100, max_crops=4, pool=3))
    packer.offer(Candidate(key="here", tokens=3))
    before = packer.state()
    state = PackerState.model_validate_json(json.dumps({**saved_state(), **change}))
    with pytest.raises(ValueError, match=message):
        packer.restore(state)
    assert packer.state() == before


@pytest.mark.parametrize(
    "change",
    [{"packs": -1}, {"packs": "1"}, {"schema_version": 2}, {"waiting": [waiting(tokens=0)]}, {"pool": []}],
    ids=["negative", "text", "version", "no tokens", "unknown field"],
)
def test_a_state_of_another_shape_cannot_be_read(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PackerState.model_validate_json(json.dumps({**saved_state(), **change}))


def test_a_state_of_other_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="other limits"):
        Packer(STAGE3).restore(Packer(STAGE2).state())


def test_a_key_that_waits_already_is_refused() -> None:
    packer = Packer(STAGE2)
    packer.offer(Candidate(key="a", tokens=3))
    with pytest.raises(ValueError, match="example a waits in the pool already"):
        packer.offer(Candidate(key="a", tokens=4))


@pytest.mark.parametrize(
    ("limits", "tokens", "crops", "value", "step"),
    [
        pytest.param(STAGE1, 2560, 16, 1, 5, id="stage 1"),
        pytest.param(STAGE1_RELEASED, 2536, 16, 1, 4, id="stage 1 as released"),
        pytest.param(STAGE2, 16384, 128, 30, 32, id="stage 2"),
        pytest.param(STAGE3, 36864, 384, 30, 72, id="stage 3"),
    ],
)
def test_the_limits_of_the_stages(limits: PackLimits, tokens: int, crops: int, value: int, step: int) -> None:
    assert (limits.max_tokens, limits.max_crops, limits.crop_value) == (tokens, crops, value)
    assert (limits.pool, limits.step_tokens) == (48, step)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_crops", -1),
        ("crop_value", -1),
        ("pool", -1),
        ("patience", -1),
        ("length_steps", 0),
    ],
)
def test_impossible_limits_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .* or more, got {value}"):
        PackLimits(**{name: value})


@pytest.mark.parametrize(("tokens", "crops"), [(0, 0), (5, -1)])
def test_impossible_sizes_are_refused(tokens: int, crops: int) -> None:
    with pytest.raises(ValueError, match="must have 1 token or more and 0 crops or more"):
        Candidate(key="a", tokens=tokens, crops=crops)


def test_sizes_of_arrays_become_plain_numbers() -> None:
    example = Candidate(key="a", tokens=np.uint16(65_535), crops=np.uint8(200))  # type: ignore[arg-type]
    assert (type(example.tokens), type(example.crops)) == (int, int)
    packer = Packer(PackLimits(max_tokens=70_000, max_crops=200))
    packer.offer(example)
    assert PackerState.model_validate_json(packer.state().model_dump_json()) == packer.state()


def test_a_size_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(TypeError):
        Candidate(key="a", tokens=3.5)  # type: ignore[arg-type]

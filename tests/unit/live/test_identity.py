from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.live.identity import (
    DEATH_LOOKS,
    MERGE_LOOKS,
    WIDEST_GATE,
    Identities,
    Joined,
    Seen,
)
from molmo2_ground.results import Sample, State, Track

Told = Mapping[int, Mapping[int, float]]
"""By a track's own number: x as a share of the width, by step of the half-second grid."""


def sample(step: int, x_norm: float, y_norm: float = 0.5, *, state: State = "observed") -> Sample:
    return Sample(
        time_s=step / 2,
        source_index=15 * step,
        x_px=640 * x_norm,
        y_px=360 * y_norm,
        x_norm=x_norm,
        y_norm=y_norm,
        state=state,
    )


def look(ids: Identities, now: int, told: Told, *, question: str = "q", only_one: bool = False) -> Joined:
    """An answer whose newest picture is that of step `now`."""
    tracks = [
        Track(object_id=n, label="x", samples=tuple(sample(s, x) for s, x in sorted(places.items())))
        for n, places in told.items()
    ]
    seen = Seen(
        source_index=15 * now,
        time_s=now / 2,
        stamp_ns=now,
        step_s=0.5,
        stamps_ns={15 * step: step for step in range(now + 1)},
    )
    return ids.join(question, tracks, seen, only_one=only_one)


def identities(*, grace_s: float = 5.0) -> Identities:
    return Identities(grace_s=grace_s, keep_s=10.0)


def interrupted(ids: Identities, after: int, *, cut: bool) -> None:
    """Between the picture of step `after` and that of the next."""
    ids.interrupted(15 * after + 1, cut=cut)


def kinds(joined: Joined) -> list[tuple[str, int]]:
    return [(entry.kind, entry.object_id) for entry in joined.ledger]


def test_what_a_first_answer_names_is_born_and_followed_from_its_last_place() -> None:
    ids = identities()
    joined = look(ids, 2, {4: {0: 0.1, 1: 0.2, 2: 0.3}, 7: {1: 0.8, 2: 0.8}})
    assert kinds(joined) == [("birth", 1), ("birth", 2)]
    assert [(a.object_id, a.source_index, a.x_norm) for a in joined.anchors] == [(1, 30, 0.3), (2, 30, 0.8)]
    assert joined.anchors[0].velocity_norm_s == pytest.approx((0.2, 0.0))
    thing = ids.get(1)
    assert thing is not None
    assert (thing.born_ns, thing.observed_ns, thing.observed_index) == (0, 2, 30)


def test_an_answers_own_numbers_mean_nothing() -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.2, 2: 0.3}, 2: {1: 0.8, 2: 0.8}})
    joined = look(ids, 3, {1: {2: 0.81, 3: 0.8}, 2: {2: 0.31, 3: 0.4}})
    assert joined.ledger == ()
    assert [(a.object_id, a.x_norm) for a in joined.anchors] == [(1, 0.4), (2, 0.8)]


def test_places_that_were_carried_count_like_the_models_own() -> None:
    ids = identities()
    look(ids, 1, {1: {0: 0.1, 1: 0.1}})
    for step in (2, 3, 4):
        ids.note(1, sample(step, 0.1 + 0.1 * (step - 1), state="propagated"))
    joined = look(ids, 4, {1: {3: 0.31, 4: 0.4}})
    assert joined.ledger == ()
    assert "shared" not in str(joined.ledger)
    assert joined.anchors[0].object_id == 1


def test_what_was_carried_away_by_the_ground_is_still_known_by_what_the_model_saw() -> None:
    ids = identities()
    look(ids, 2, {1: {0: 0.1, 1: 0.2, 2: 0.3}})
    for step in (3, 4):
        ids.note(1, sample(step, 0.9, state="propagated"))
    joined = look(ids, 4, {1: {1: 0.2, 2: 0.3, 3: 0.4, 4: 0.5}})
    assert joined.ledger == ()
    assert joined.anchors[0].object_id == 1


@pytest.mark.parametrize(
    ("gone", "x_norm", "same"),
    [
        pytest.param(2, 0.4, True, id="where-it-should-be"),
        pytest.param(2, 0.2, True, id="stopped-where-it-was"),
        pytest.param(2, 0.54, True, id="near-enough"),
        pytest.param(2, 0.75, False, id="elsewhere"),
        pytest.param(8, 0.85, True, id="the-gate-widens-with-time"),
        pytest.param(11, 0.4, False, id="after-the-grace-time"),
    ],
)
def test_what_shares_no_picture_is_looked_for_on_its_way(gone: int, x_norm: float, same: bool) -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.1, 2: 0.2}})  # a tenth of the width each step
    interrupted(ids, 2, cut=False)
    joined = look(ids, 2 + gone, {1: {2 + gone: x_norm}})
    assert kinds(joined) == ([("return", 1)] if same else [("birth", 2)])
    assert ("unseen for" in joined.ledger[0].reason) == same
    assert WIDEST_GATE < 0.5


def test_seen_apart_by_the_model_on_one_picture_is_two_things() -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.2, 2: 0.2}})
    joined = look(ids, 3, {1: {1: 0.32, 2: 0.32, 3: 0.25}})
    assert kinds(joined) == [("birth", 2)]


def test_after_a_cut_a_place_says_nothing() -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.2, 2: 0.2}})
    interrupted(ids, 2, cut=True)
    assert kinds(look(ids, 3, {1: {3: 0.2}})) == [("birth", 2)]


def test_an_answer_that_follows_a_thing_across_a_cut_is_believed() -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.2, 2: 0.2}})
    interrupted(ids, 2, cut=True)
    assert kinds(look(ids, 3, {1: {1: 0.2, 2: 0.2, 3: 0.9}})) == [("return", 1)]


NOBODY: Told = {}


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        pytest.param([(3, NOBODY)], [("birth", 2)], id="nothing-said-of-it"),
        pytest.param([(3, {1: {1: 0.2, 2: 0.2}})], [("birth", 2)], id="its-window-still-shows-it-before"),
        pytest.param(
            [(3, {1: {1: 0.2, 2: 0.2}, 2: {2: 0.8}})], [("birth", 2)], id="seen-at-last-when-it-was-gone"
        ),
        pytest.param([(2, {1: {1: 0.2, 2: 0.2}})], [("birth", 2)], id="asked-before-and-answered-after"),
        pytest.param(
            [(2, {1: {1: 0.2, 2: 0.2}, 2: {1: 0.8, 2: 0.8}})],
            [("birth", 2), ("birth", 3)],
            id="born-by-an-answer-from-before",
        ),
        pytest.param([(3, {1: {2: 0.2, 3: 0.9}}), (4, NOBODY)], [("return", 1)] * 2, id="followed-across"),
    ],
)
@pytest.mark.parametrize("only_one", [False, True], ids=["any-number", "one-is-asked-for"])
def test_no_other_thing_gets_an_id_across_a_cut(
    answers: list[tuple[int, Told]], told: list[tuple[str, int]], only_one: bool
) -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.2, 2: 0.2}})
    interrupted(ids, 2, cut=True)
    found = [entry for now, places in answers for entry in kinds(look(ids, now, places, only_one=only_one))]
    # Later something stands where a thing that may be taken up again is looked for.
    found += kinds(look(ids, 8, {1: {7: 0.9 if told[0][0] == "return" else 0.2, 8: 0.9}}, only_one=only_one))
    assert found == told


@pytest.mark.parametrize("cut", [False, True], ids=["reconnect", "cut"])
def test_an_answer_about_pictures_before_an_interruption_brings_nothing_back(cut: bool) -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.2, 2: 0.2}})
    interrupted(ids, 3, cut=cut)
    joined = look(ids, 3, {1: {2: 0.2, 3: 0.2}, 2: {2: 0.8, 3: 0.8}})
    assert kinds(joined) == [("birth", 2)]  # the picture that it is about shows it
    assert joined.gone == (1, 2)
    assert [thing.missed for thing in ids] == [0, 0]
    assert not any(thing.here for thing in ids)
    assert sorted(kinds(look(ids, 4, {1: {4: 0.2}, 2: {4: 0.8}}))) == (
        [("birth", 3), ("birth", 4)] if cut else [("return", 1), ("return", 2)]
    )


def test_what_an_answer_saw_only_earlier_is_out_of_sight_now() -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.2, 2: 0.2}})
    joined = look(ids, 5, {1: {1: 0.2, 2: 0.2}, 2: {1: 0.8, 2: 0.8}})
    assert joined.ledger == ()
    assert joined.anchors == ()
    assert joined.gone == (1,)
    assert ids.sought(2.5)
    assert not ids.sought(20.0)


def test_what_has_gone_out_of_the_picture_is_not_sought() -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.8, 2: 0.9}})
    interrupted(ids, 2, cut=False)
    assert ids.sought(1.2)
    assert not ids.sought(2.0)


def test_a_thing_dies_after_several_looks_and_the_grace_time_and_its_id_with_it() -> None:
    ids = identities(grace_s=2.0)
    look(ids, 0, {1: {0: 0.5}})
    ended = [kinds(look(ids, now, {})) for now in range(1, 7)]
    assert ended[:4] == [[]] * 4
    assert ended[4] == [("death", 1)]
    assert kinds(look(ids, 8, {1: {8: 0.5}})) == [("birth", 2)]


def test_what_is_told_counts_three_looks_in_vain_for_a_death_and_three_on_one_spot_for_a_merge() -> None:
    assert (DEATH_LOOKS, MERGE_LOOKS) == (3, 3)  # as docs/live.md says
    rare = identities(grace_s=0.1)
    look(rare, 0, {1: {0: 0.5}})
    assert [kinds(look(rare, 10 * n, {})) for n in (1, 2, 3)] == [[], [], [("death", 1)]]
    seen_between = identities(grace_s=1.6)
    look(seen_between, 0, {1: {0: 0.5}})
    told = [kinds(look(seen_between, n, {1: {n: 0.5}} if n == 3 else {})) for n in (1, 2, 3, 4, 9, 10)]
    assert told == [[], [], [("return", 1)], [], [], [("death", 1)]]


APART: Told = {1: {0: 0.30, 1: 0.30}, 2: {0: 0.36, 1: 0.36}}
FIRST, SECOND = 0.33, 0.34


def on_one_spot(now: int, *numbers: int) -> Told:
    return {n: {now - 1: x, now: x} for n, x in ((1, FIRST), (2, SECOND)) if n in numbers}


@pytest.mark.parametrize(
    ("seen", "merged_at"),
    [
        pytest.param([(1, 2)] * 4, 2, id="three-looks-one-after-another"),
        pytest.param([(1, 2), (1, 2)], None, id="two-looks"),
        pytest.param([(1, 2), (1,), (1, 2), (1,), (1, 2)], None, id="one-of-them-alone-in-between"),
        pytest.param([(1, 2), (1, 2), (2,), (1, 2), (1, 2), (1, 2)], 5, id="counted-anew"),
        pytest.param([(1, 2), (1, 2), (), (1, 2), (1, 2)], None, id="neither-in-between"),
    ],
)
def test_two_ids_on_one_spot_for_three_looks_one_after_another_are_one(
    seen: list[tuple[int, ...]], merged_at: int | None
) -> None:
    ids = identities()
    look(ids, 1, APART)
    look(ids, 1, APART, question="other")
    told = []
    for now, numbers in enumerate(seen, start=2):
        told.append([one for one in kinds(look(ids, now, on_one_spot(now, *numbers))) if one[0] == "merge"])
        look(ids, now, {}, question="other")  # of other things, which changes nothing here
    assert told == [[("merge", 2)] if n == merged_at else [] for n in range(len(seen))]
    assert [thing.object_id for thing in ids.of("q")] == ([1, 2] if merged_at is None else [1])


def test_a_look_that_saw_two_apart_begins_the_count_of_their_looks_on_one_spot_anew() -> None:
    ids = identities()
    look(ids, 1, APART)
    for now in (2, 3):
        look(ids, now, on_one_spot(now, 1, 2))
    look(ids, 4, {1: {3: 0.33, 4: 0.30}, 2: {3: 0.36, 4: 0.36}})
    for now in (5, 6):
        assert kinds(look(ids, now, on_one_spot(now, 1, 2))) == []
    assert kinds(look(ids, 7, on_one_spot(7, 1, 2))) == [("merge", 2)]


def test_two_that_pass_each_other_are_not_merged() -> None:
    ids = identities()
    look(ids, 1, {1: {0: 0.2, 1: 0.3}, 2: {0: 0.6, 1: 0.5}})
    look(ids, 2, {1: {1: 0.3, 2: 0.399}, 2: {1: 0.5, 2: 0.401}})
    look(ids, 3, {1: {2: 0.399, 3: 0.5}, 2: {2: 0.401, 3: 0.3}})
    assert len(ids) == 2


def test_a_thing_named_twice_in_one_answer_is_one() -> None:
    ids = identities()
    look(ids, 1, {1: {0: 0.2, 1: 0.3}})
    joined = look(ids, 2, {1: {1: 0.3, 2: 0.4}, 2: {1: 0.301, 2: 0.401}})
    assert joined.ledger == ()
    assert len(ids) == 1


def test_questions_know_nothing_of_each_other() -> None:
    ids = identities()
    look(ids, 1, {1: {0: 0.2, 1: 0.3}}, question="a")
    assert kinds(look(ids, 1, {1: {0: 0.2, 1: 0.3}}, question="b")) == [("birth", 2)]
    joined = ids.drop("a", stamp_ns=9, source_index=90, reason="its question was removed")
    assert [(e.kind, e.object_id, e.reason) for e in joined.ledger] == [
        ("death", 1, "its question was removed")
    ]
    assert [thing.object_id for thing in ids] == [2]


def test_of_a_question_about_one_thing_the_one_that_is_found_is_the_one_that_is_known() -> None:
    told = {1: {9: 0.95}}
    for only_one, expected in ((True, ("return", 1)), (False, ("birth", 2))):
        ids = identities()
        look(ids, 1, {1: {0: 0.1, 1: 0.1}})
        interrupted(ids, 1, cut=False)
        assert kinds(look(ids, 9, told, only_one=only_one)) == [expected]


@pytest.mark.parametrize(
    ("asked", "until", "first"),
    [
        pytest.param(
            False, 60, 36, id="no-look-under-way"
        ),  # 10 s, and 2 s until some are let go of together
        pytest.param(True, 60, 1, id="a-slow-look"),
        pytest.param(True, 600, 336, id="a-look-that-hangs"),
    ],
)
def test_places_that_a_look_under_way_shares_stay_for_so_long_as_it_may_take(
    asked: bool, until: int, first: int
) -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.5, 2: 0.5}})
    ids.asked(1.0 if asked else None)
    for step in range(3, until + 1):
        ids.note(1, sample(step, 0.5, state="propagated"))
    (thing,) = ids
    assert abs(round(2 * thing.samples[0].time_s) - first) <= 4
    ids.asked(None)
    ids.note(1, sample(until + 1, 0.5, state="propagated"))
    assert thing.samples[0].time_s >= until / 2 - 12


@pytest.mark.slow
def test_history_is_bounded() -> None:
    ids = identities()
    for now in range(1, 400):
        look(ids, now, {1: {now - 1: 0.5, now: 0.5}})
    (thing,) = ids
    assert len(thing.samples) <= 2 * (10 + 2) + 3


steps = st.lists(st.dictionaries(st.integers(1, 5), st.floats(0, 1), max_size=5), min_size=1, max_size=40)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(steps, st.floats(0.5, 5.0))
def test_ids_are_born_once_and_never_used_after_their_end(
    answers: list[dict[int, float]], grace_s: float
) -> None:
    ids = identities(grace_s=grace_s)
    born: list[int] = []
    over: set[int] = set()
    before: dict[int, float] = {}
    for now, places in enumerate(answers, start=1):
        told = {n: {now: x} | ({now - 1: before[n]} if n in before else {}) for n, x in places.items()}
        joined = look(ids, now, told)
        for entry in joined.ledger:
            if entry.kind == "birth":
                born.append(entry.object_id)
            assert entry.object_id in born
            assert entry.object_id not in over
            over |= {entry.object_id} if entry.kind in ("death", "merge") else set()
            assert entry.kind != "merge" or (entry.into in born and entry.into not in over)
        assert {anchor.object_id for anchor in joined.anchors} <= set(born) - over
        assert {anchor.object_id for anchor in joined.anchors}.isdisjoint(joined.gone)
        assert {thing.object_id for thing in ids} == set(born) - over
        before = places
    assert born == list(range(1, len(born) + 1))

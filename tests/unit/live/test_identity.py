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
    ids.interrupted(cut=False)
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
    ids.interrupted(cut=True)
    assert kinds(look(ids, 3, {1: {3: 0.2}})) == [("birth", 2)]


def test_an_answer_that_follows_a_thing_across_a_cut_is_believed() -> None:
    ids = identities()
    look(ids, 2, {1: {1: 0.2, 2: 0.2}})
    ids.interrupted(cut=True)
    assert kinds(look(ids, 3, {1: {1: 0.2, 2: 0.2, 3: 0.9}})) == [("return", 1)]


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
    ids.interrupted(cut=False)
    assert ids.sought(1.2)
    assert not ids.sought(2.0)


def test_a_thing_dies_after_several_looks_and_the_grace_time_and_its_id_with_it() -> None:
    ids = identities(grace_s=2.0)
    look(ids, 0, {1: {0: 0.5}})
    ended = [kinds(look(ids, now, {})) for now in range(1, 7)]
    assert ended[:4] == [[]] * 4
    assert ended[4] == [("death", 1)]
    assert kinds(look(ids, 8, {1: {8: 0.5}})) == [("birth", 2)]
    rare = identities(grace_s=0.1)
    look(rare, 0, {1: {0: 0.5}})
    assert [kinds(look(rare, 10 * n, {})) for n in range(1, DEATH_LOOKS + 1)][-1] == [("death", 1)]


def test_two_ids_on_one_spot_for_several_looks_are_one() -> None:
    ids = identities()
    look(ids, 1, {1: {0: 0.2, 1: 0.3}, 2: {0: 0.5, 1: 0.4}})
    found = [
        kinds(look(ids, now, {1: {now - 1: 0.33, now: 0.35}, 2: {now - 1: 0.36, now: 0.355}}))
        for now in range(2, 2 + 4)
    ]
    merges = [entry for entries in found for entry in entries]
    assert merges == [("merge", 2)]
    assert found.index([("merge", 2)]) >= MERGE_LOOKS - 1
    assert [thing.object_id for thing in ids] == [1]


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
        ids.interrupted(cut=False)
        assert kinds(look(ids, 9, told, only_one=only_one)) == [expected]


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

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.render.moments import Moment, moments
from molmo2_ground.render.trajectory import Timeline
from tests.found import points, track, tracks

GRID_S = [i / 2 for i in range(21)]  # 0 to 10 s
HIDDEN_S = (3.0, 3.5, 4.0)
CAR = {t: (10.0 + t, 9.0) for t in GRID_S if 1.0 <= t <= 8.0 and t not in HIDDEN_S}
BUS = {t: (90.0, 9.0) for t in GRID_S if 5.0 <= t <= 6.0}


def _story(most: int, *each: dict[float, tuple[float, float]]) -> list[Moment]:
    followed = [track(places, object_id=i + 1) for i, places in enumerate(each)]
    return moments(Timeline(tracks(*followed, looked_s=GRID_S)), most)


def _told(story: list[Moment]) -> dict[float, list[tuple[str, tuple[int, ...]]]]:
    return {moment.time_s: list(moment.events) for moment in story}


def test_sightings_hiding_and_return_make_the_story() -> None:
    assert _told(_story(5, CAR)) == {
        1.0: [("first seen", (1,))],
        3.0: [("hidden", (1,))],
        4.5: [("seen again", (1,))],
        8.0: [("last seen", (1,))],
        8.5: [("no longer seen", (1,))],
    }


def test_what_happens_at_one_time_is_told_together() -> None:
    together = _told(_story(20, CAR, dict.fromkeys((1.0, 4.5, 5.0), (90.0, 9.0))))
    assert together[1.0] == [("first seen", (1, 2))]
    assert together[4.5] == [("seen again", (1, 2))]


def test_first_and_last_sighting_are_always_there() -> None:
    for most in (2, 3, 4):
        times_s = [moment.time_s for moment in _story(most, CAR, BUS)]
        assert times_s[0] == 1.0
        assert 8.0 in times_s


def test_a_look_with_nothing_new_comes_last() -> None:
    story = _told(_story(9, CAR))
    assert {1.0, 3.0, 4.5, 8.0, 8.5} < set(story)
    assert sum(not events for events in story.values()) == 4


def test_a_result_without_objects_shows_looks_that_are_spread() -> None:
    times_s = [moment.time_s for moment in _story(4)]
    assert times_s[0] == 0.0
    assert times_s[-1] == 10.0
    assert max(b - a for a, b in pairwise(times_s)) <= 5.0


def test_points_of_a_video_are_pointed_at() -> None:
    found = points([(5.0, 5.0), (9.0, 9.0)], times_s=[2.0, 7.0], looked_s=GRID_S)
    assert _told(moments(Timeline(found), 2)) == {2.0: [("pointed at", (1,))], 7.0: [("pointed at", (2,))]}


def test_images_have_no_moments() -> None:
    assert moments(Timeline(points([(5.0, 5.0)])), 3) == []


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.sampled_from(GRID_S), min_size=1), max_size=4), st.integers(1, 25))
def test_as_many_as_asked_for_in_order_and_at_looks(seen: list[set[float]], most: int) -> None:
    story = _story(most, *(dict.fromkeys(sorted(times_s), (5.0, 5.0)) for times_s in seen))
    times_s = [moment.time_s for moment in story]
    assert times_s == sorted(set(times_s))
    assert len(story) == min(most, len(GRID_S))
    assert set(times_s) <= set(GRID_S)


def test_less_than_one_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        _story(0, CAR)

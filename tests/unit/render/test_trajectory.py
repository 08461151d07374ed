from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.render.trajectory import ECHO_S, HIDDEN_S, Scene, Timeline
from molmo2_ground.results import Answer, Count, Receipt
from tests.found import points, receipt, track, tracks

GRID_S = [i / 2 for i in range(13)]
# Seen at 0–1.5 s, hidden at 2 and 2.5 s, seen again from 3 s on; it moves 100 px a second.
CAR = {t: (100.0 + 100 * t, 90.0) for t in GRID_S if t not in (2.0, 2.5)}


def _scene(time_s: float, *, trail_s: float = 2.0) -> Scene:
    return Timeline(tracks(track(CAR), looked_s=GRID_S)).at(time_s, trail_s=trail_s)


@pytest.mark.parametrize(
    ("time_s", "state", "x_px"),
    [
        pytest.param(0.0, "observed", 100.0, id="first sample"),
        pytest.param(1.0, "observed", 200.0, id="sample"),
        pytest.param(1.0101, "observed", 200.0, id="same frame by a rounding"),
        pytest.param(1.0333, "interpolated", 203.33, id="next frame"),
        pytest.param(1.25, "interpolated", 225.0, id="half way"),
        pytest.param(1.5, "observed", 250.0, id="last before the gap"),
        pytest.param(3.0, "observed", 400.0, id="first after the gap"),
        pytest.param(6.0, "observed", 700.0, id="last"),
    ],
)
def test_where_it_is_drawn(time_s: float, state: str, x_px: float) -> None:
    (mark,) = _scene(time_s).marks
    assert mark.state == state
    assert mark.place.x_norm * 640 == pytest.approx(x_px, abs=0.1)


@pytest.mark.parametrize("time_s", [-1.0, 1.5334, 1.75, 2.0, 2.25, 2.5, 2.75, 2.9666, 6.0334, 60.0])
def test_nothing_is_drawn_where_the_model_did_not_see_it(time_s: float) -> None:
    assert _scene(time_s) == Scene(marks=())


def test_a_trail_ends_at_the_gap() -> None:
    (mark,) = _scene(3.5, trail_s=3.0).marks
    assert [round(place.x_norm * 640) for place in mark.trail] == [400, 450]
    assert _scene(3.0, trail_s=3.0).marks[0].trail == ()


def test_a_trail_is_as_long_as_asked_and_glides() -> None:
    (mark,) = _scene(1.4, trail_s=0.8).marks
    assert [round(place.x_norm * 640) for place in mark.trail] == [160, 200, 240]
    assert _scene(1.4, trail_s=0).marks[0].trail == ()
    (short,) = _scene(1.4, trail_s=0.1).marks
    assert [round(place.x_norm * 640) for place in short.trail] == [230, 240]


def test_samples_far_apart_are_not_joined_even_when_the_model_never_looked_between() -> None:
    far = {0.0: (10.0, 10.0), 9.0: (600.0, 10.0)}
    assert Timeline(tracks(track(far), looked_s=[0.0, 9.0])).at(4.5, trail_s=2).marks == ()


def test_without_times_in_the_receipt_the_samples_of_all_objects_say_when_the_model_looked() -> None:
    timeline = Timeline(tracks(track(CAR), track(dict.fromkeys(GRID_S, (9.0, 9.0)), object_id=2)))
    assert [mark.object_id for mark in timeline.at(2.25, trail_s=0).marks] == [2]


def test_the_times_of_windows_count() -> None:
    windows: tuple[Receipt, ...] = (receipt(looked_s=GRID_S[:6]), receipt(looked_s=GRID_S[4:]))
    timeline = Timeline(tracks(track(CAR), looked_s=[], windows=windows))
    assert timeline.looked_s == tuple(GRID_S)
    assert timeline.at(2.25, trail_s=0).marks == ()


def test_a_point_in_a_video_holds_for_its_frame_and_echoes_after() -> None:
    timeline = Timeline(points([(320.0, 90.0)], times_s=[1.0], looked_s=GRID_S))
    assert timeline.at(0.9, trail_s=0) == Scene(marks=())
    assert [mark.state for mark in timeline.at(1.0, trail_s=0).marks] == ["observed"]
    after = timeline.at(1.0 + ECHO_S / 2, trail_s=0)
    assert after.marks == ()
    assert after.echoes[0].share == pytest.approx(0.5)
    assert timeline.at(1.0 + ECHO_S + 0.01, trail_s=0) == Scene(marks=())


def test_carried_samples_keep_their_state_and_join_over_times_the_model_did_not_look() -> None:
    seen = track({0.0: (0.0, 0.0), 1.0: (100.0, 0.0)})
    carried = track({0.4: (40.0, 0.0)}, state="propagated")
    joined = seen.model_copy(update={"samples": (*seen.samples, *carried.samples)})
    timeline = Timeline(tracks(joined, looked_s=[0.0, 1.0]))
    assert [timeline.at(t, trail_s=0).marks[0].state for t in (0.0, 0.2, 0.4, 1.0)] == [
        "observed",
        "interpolated",
        "propagated",
        "observed",
    ]


def test_points_of_images_belong_to_their_image() -> None:
    timeline = Timeline(points([(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)], source_indices=[0, 2, 2]))
    assert [len(timeline.still(i).marks) for i in (0, 1, 2, None)] == [1, 0, 2, 3]


def test_counts_and_answers_are_drawn_by_what_they_hold() -> None:
    found = points([(1.0, 1.0)])
    assert len(Timeline(Count(value=1, stated=1, points=found)).stills) == 1
    followed = tracks(track(CAR), looked_s=GRID_S)
    both = Timeline(Answer(text="See.", points=found, tracks=followed, receipt=receipt(looked_s=GRID_S)))
    assert (len(both.stills), len(both.legs)) == (1, 2)
    assert Timeline(Answer(text="No idea.", receipt=receipt())).object_ids == set()


@pytest.mark.slow
@given(st.sets(st.integers(0, 12)), st.floats(-1, 8))
def test_a_drawn_place_has_a_sighting_on_each_side_and_none_missing_between(
    seen: set[int], time_s: float
) -> None:
    places = {GRID_S[i]: (10.0 * i, 5.0) for i in sorted(seen)}
    timeline = Timeline(tracks(track(places), looked_s=GRID_S))
    for mark in timeline.at(time_s, trail_s=2.0).marks:
        if mark.state == "interpolated":
            assert int(time_s * 2) in seen
            assert int(time_s * 2) + 1 in seen
        else:
            assert min(abs(time_s - s) for s in places) <= timeline.same_frame_s
        assert len(mark.trail) != 1


@pytest.mark.parametrize(("fps", "same_s"), [(2.2, 0.015), (30.0, 0.015), (60.0, 0.0075), (None, 0.015)])
def test_the_next_frame_is_never_taken_for_the_one_that_was_seen(fps: float | None, same_s: float) -> None:
    assert Timeline(tracks(track(CAR), looked_s=GRID_S, fps=fps)).same_frame_s == pytest.approx(same_s)


# ---------------------------------------------------------------- hidden


def _gaps(places: dict[float, tuple[float, float]], looked_s: list[float]) -> list[tuple[float, float, bool]]:
    return [
        (gap.start_s, gap.end_s, gap.returns)
        for gap in Timeline(tracks(track(places), looked_s=looked_s)).gaps
    ]


@pytest.mark.parametrize(
    ("seen_s", "looked_s", "gaps"),
    [
        pytest.param([0.0, 0.5, 1.0], [0.0, 0.5, 1.0], [], id="always seen"),
        pytest.param([0.0, 2.0], GRID_S[:5], [(0.5, 2.0, True)], id="missed and seen again"),
        pytest.param([0.0, 0.5], GRID_S[:9], [(1.0, 0.5 + HIDDEN_S, False)], id="never again"),
        pytest.param([0.0, 5.0], [0.0, 5.0], [], id="nobody looked in between"),
        pytest.param([0.0], [0.0, 4.0], [], id="the next look comes too late to say hidden"),
        pytest.param([0.0, 1.0, 2.0], GRID_S[:5], [(0.5, 1.0, True), (1.5, 2.0, True)], id="twice"),
    ],
)
def test_where_it_is_hidden(
    seen_s: list[float], looked_s: list[float], gaps: list[tuple[float, float, bool]]
) -> None:
    assert _gaps(dict.fromkeys(seen_s, (5.0, 5.0)), looked_s) == gaps


def test_a_hidden_object_is_remembered_where_it_was_seen_last() -> None:
    timeline = Timeline(tracks(track(CAR), looked_s=GRID_S))
    (gap,) = timeline.hidden_at(2.25)
    assert (gap.last_seen_s, round(gap.place.x_norm * 640), gap.label) == (1.5, 250, "the red car")
    assert timeline.hidden_at(1.75) == timeline.hidden_at(3.0) == ()


def test_points_are_not_hidden_when_their_moment_is_over() -> None:
    assert Timeline(points([(320.0, 90.0)], times_s=[1.0], looked_s=GRID_S)).gaps == ()

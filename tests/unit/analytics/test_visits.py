from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, Point

from molmo2_ground.analytics import Events, Rules, Zone, ZoneEntered, ZoneLeft, find_events
from molmo2_ground.analytics.occupancy import occupancy_of
from molmo2_ground.results import Mask, MaskFlag, Masks, Tracks
from molmo2_ground.rle import Rle
from tests.found import SIZE_PX, track, tracks

GRID_S = [i / 2 for i in range(13)]
ZONE = Zone(name="yard", polygon=((200, 0), (400, 0), (400, 360), (200, 360)))
NOTCHED = Zone(  # a U, open to the top: a step may leave it and come back
    name="notched",
    polygon=((200, 100), (260, 100), (260, 300), (340, 300), (340, 100), (400, 100), (400, 340), (200, 340)),
)


def found(
    places: Mapping[float, float], *, zone: Zone = ZONE, looked_s: Sequence[float] = GRID_S, **rules: Any
) -> Events:
    """Events of one object that moves along y = 180; time in seconds -> x in pixels."""
    moving = tracks(track({t: (x, 180.0) for t, x in places.items()}), looked_s=looked_s)
    return find_events(moving, zones=[zone], rules=Rules(**rules))


def test_a_visit_is_timed_on_the_straight_lines_over_the_border() -> None:
    events = found({0.0: 100, 0.5: 190, 1.0: 230, 1.5: 390, 2.0: 440, 2.5: 500})
    (visit,) = events.visits
    entered, left = visit.entered, visit.left
    assert left is not None
    assert entered.time_s == pytest.approx(0.5 + 0.5 * 10 / 40)
    assert (entered.after_s, entered.before_s, entered.timing, entered.reason) == (0.5, 1.0, "line", "moved")
    assert (entered.x_px, entered.y_px) == pytest.approx((200, 180))
    assert entered.source_index == 30
    assert entered.states == ("observed", "observed")
    assert left.time_s == pytest.approx(1.5 + 0.5 * 10 / 50)
    assert (left.after_s, left.before_s, left.source_index) == (1.5, 2.0, 60)
    assert visit.dwell_s == pytest.approx(left.time_s - entered.time_s)
    assert visit.least_s == 0.5
    assert visit.hidden_s == 0


HIDDEN = {0.0: 100, 0.5: 250, 1.0: 260, 2.0: 280, 2.5: 290, 3.0: 500}


@pytest.mark.parametrize(
    ("grace_s", "stays"),
    [
        pytest.param(1.0, [(0.5, 2.5, 1.0)], id="the visit goes on through the gap"),
        pytest.param(0.5, [(0.5, 1.0, 0.0), (2.0, 2.5, 0.0)], id="the gap is too long"),
    ],
)
def test_hidden_gaps_follow_the_stated_rule(grace_s: float, stays: list[tuple[float, float, float]]) -> None:
    events = found(HIDDEN, grace_s=grace_s)
    assert [(v.first_s, v.last_s, v.hidden_s) for v in events.visits] == stays


def test_disappearing_in_a_zone_ends_the_visit_at_the_last_sight() -> None:
    first, second = found(HIDDEN, grace_s=0.5).visits
    assert first.left is not None
    assert (first.left.reason, first.left.time_s, first.left.before_s) == ("disappeared", 1.0, 1.5)
    assert (second.entered.reason, second.entered.time_s, second.entered.after_s) == ("appeared", 2.0, 1.5)
    assert second.entered.timing == "sample"


def test_who_is_there_at_the_end_has_not_left() -> None:
    events = found(dict.fromkeys(GRID_S, 250))
    (visit,) = events.visits
    assert visit.left is None
    assert visit.dwell_s == 6.0
    assert visit.entered.after_s is None  # there at the first look: perhaps long before
    assert [event.kind for event in events] == ["appeared", "zone_entered", "count_changed"]
    assert events.summary.zones[0].inside_at_end == 1


def test_a_step_that_leaves_a_gap_between_is_told_as_hidden() -> None:
    events = found({0.0: 100, 0.5: 150, 1.5: 250, 2.0: 260}, grace_s=1)
    (visit,) = events.visits
    assert visit.entered.hidden
    assert (visit.entered.after_s, visit.entered.before_s) == (0.5, 1.5)


def test_passing_through_between_two_looks_is_no_visit() -> None:
    assert not found({0.0: 100, 0.5: 500}).visits


@pytest.mark.parametrize(
    ("start", "end", "expected_x"),
    [
        pytest.param(100, 370, 340, id="in: the last border on the way"),
        pytest.param(370, 100, 340, id="out: the first border on the way"),
    ],
)
def test_a_step_over_several_borders_takes_the_one_beside_the_sample_inside(
    start: float, end: float, expected_x: float
) -> None:
    (visit,) = found({0.0: start, 0.5: end}, zone=NOTCHED, looked_s=[0, 0.5]).visits
    event = visit.entered if start == 100 else visit.left
    assert event is not None
    assert event.x_px == pytest.approx(expected_x)


@pytest.mark.slow
@settings(max_examples=50)
@given(
    x=st.lists(st.integers(150, 450), min_size=1, max_size=13),
    y=st.lists(st.integers(50, 350), min_size=13, max_size=13),
)
def test_border_times_lie_between_their_samples_and_on_the_border(x: list[int], y: list[int]) -> None:
    places = {GRID_S[i]: (float(x[i]) + 0.3, float(y[i]) + 0.7) for i in range(len(x))}
    events = find_events(tracks(track(places), looked_s=GRID_S), zones=[NOTCHED])
    moved = [e for e in events if isinstance(e, ZoneEntered | ZoneLeft) and e.reason == "moved"]
    inside = [NOTCHED.holds(*place) for place in places.values()]
    assert len(moved) == sum(a != b for a, b in pairwise(inside))
    ring = LineString([*NOTCHED.polygon, NOTCHED.polygon[0]])
    for event in moved:
        assert event.after_s is not None
        assert event.before_s is not None
        assert event.after_s <= event.time_s <= event.before_s
        assert ring.distance(Point(event.x_px, event.y_px)) < 1e-6


# ---------------------------------------------------------------- counts


def _walkers(data: st.DataObject) -> Tracks:
    made = []
    for object_id in range(1, data.draw(st.integers(1, 4)) + 1):
        at = data.draw(st.sets(st.integers(0, 12), min_size=1))
        made.append(
            track(
                {GRID_S[i]: (float(data.draw(st.sampled_from([100, 300]))), 180.0) for i in sorted(at)},
                object_id=object_id,
            )
        )
    return tracks(*made, looked_s=GRID_S)


def _is_there(walkers: Tracks, number: int, time_s: float, grace_s: float) -> bool:
    """By brute force: inside at the sample, or hidden between two samples inside that are close enough."""
    samples = walkers[number].samples
    before = [s for s in samples if s.time_s <= time_s]
    after = [s for s in samples if s.time_s >= time_s]
    if not before or not after:
        return False
    near = before[-1], after[0]
    close = near[1].time_s - near[0].time_s <= max(grace_s, 0.5)
    return close and all(ZONE.holds(s.x_px, s.y_px) for s in near)


@pytest.mark.slow
@settings(max_examples=30)
@given(data=st.data(), grace_s=st.sampled_from([0.0, 1.0, 1.5, 3.0]))
def test_counts_over_time_are_those_of_brute_force(data: st.DataObject, grace_s: float) -> None:
    walkers = _walkers(data)
    events = find_events(walkers, zones=[ZONE], rules=Rules(grace_s=grace_s))
    (occupancy,) = events.occupancies
    assert occupancy.times_s == tuple(GRID_S)
    expected = [sum(_is_there(walkers, n, t, grace_s) for n in range(len(walkers))) for t in GRID_S]
    assert list(occupancy.counts) == expected
    assert occupancy.most == max(expected)


@pytest.mark.slow
@settings(max_examples=30)
@given(data=st.data())
def test_changes_of_the_count_add_up_and_comings_and_goings_alternate(data: st.DataObject) -> None:
    events = find_events(_walkers(data), zones=[ZONE])
    assert [e.time_s for e in events] == sorted(e.time_s for e in events)
    changes = [e for e in events if e.kind == "count_changed"]
    assert [a.object_id for a, b in pairwise(events) if b.kind == "count_changed"] == [
        change.object_id for change in changes
    ]
    count = 0
    for change in changes:
        assert change.count_before == count
        count = change.count_after
        assert count >= 0
    assert count == sum(visit.left is None for visit in events.visits)
    moves = [e for e in events if isinstance(e, ZoneEntered | ZoneLeft)]
    assert len(moves) == len(changes)
    for object_id in {e.object_id for e in moves}:
        kinds = [e.kind for e in moves if e.object_id == object_id]
        assert kinds == ["zone_entered", "zone_left"] * (len(kinds) // 2) + ["zone_entered"] * (
            len(kinds) % 2
        )


def test_a_change_of_shift_is_no_crowd() -> None:
    """One leaves at the very time at which the other comes."""
    leaving = track({0.0: (300.0, 9.0), 0.5: (350.0, 9.0), 1.0: (450.0, 9.0)}, object_id=1)
    coming = track({0.0: (50.0, 9.0), 0.5: (150.0, 9.0), 1.0: (250.0, 9.0)}, object_id=2)
    events = find_events(tracks(leaving, coming, looked_s=[0, 0.5, 1.0]), zones=[ZONE])
    changes = [(e.time_s, e.count_after) for e in events if e.kind == "count_changed"]
    assert changes == [(0.0, 1), (0.75, 0), (0.75, 1)]


def test_counts_in_frames_are_taken_where_samples_are() -> None:
    carried = tracks(track(dict.fromkeys((0, 0.25, 0.5), (250.0, 9.0))), looked_s=[0, 0.5, 1.0])
    by_looks = find_events(carried, zones=[ZONE]).occupancies[0]
    by_frames = find_events(carried, zones=[ZONE], at="frames").occupancies[0]
    assert (by_looks.times_s, by_looks.counts) == ((0, 0.5, 1.0), (1, 1, 0))
    assert (by_frames.times_s, by_frames.counts) == ((0, 0.25, 0.5), (1, 1, 1))
    assert occupancy_of("nobody", [], []).most == 0


# ---------------------------------------------------------------- by the mask


def bar(left: int, *, time_s: float, flags: tuple[MaskFlag, ...] = ()) -> Mask:
    """100 px wide and 20 high, from `left` on."""
    dense = np.zeros((SIZE_PX[1], SIZE_PX[0]), dtype=bool)
    dense[170:190, left : left + 100] = True
    counts = Rle.encode(dense).counts
    assert isinstance(counts, bytes)
    return Mask(
        object_id=1,
        source_index=round(30 * time_s),
        time_s=time_s,
        size_px=SIZE_PX,
        counts=counts.decode(),
        flags=flags,
    )


def by_mask(lefts: Mapping[float, int], *, flagged: Sequence[float] = (), **rules: Any) -> Events:
    # The point sits at the far left of the bar, outside the zone for long after half of the bar is in.
    moving = tracks(track({t: (left + 1.0, 180.0) for t, left in lefts.items()}), looked_s=list(lefts))
    bars = [bar(left, time_s=t, flags=("area_jump",) if t in flagged else ()) for t, left in lefts.items()]
    masks = Masks(masks=tuple(bars), labels={1: "bar"}, segmenter="by hand", receipt=moving.receipt)
    return find_events(moving, zones=[ZONE], masks=masks, rules=Rules(by="mask", **rules))


def test_the_share_of_the_mask_decides_and_is_timed_on_its_own_line() -> None:
    (visit,) = by_mask({0.0: 60, 0.5: 120, 1.0: 180}).visits
    # 0.2 of the bar is in at 0.5 s and 0.8 at 1.0 s: half of it at 0.75 s.
    assert visit.entered.time_s == pytest.approx(0.75)
    assert visit.entered.judged_by == "mask"
    (strict,) = by_mask({0.0: 60, 0.5: 120, 1.0: 180, 1.5: 240}, min_share=0.9).visits
    assert strict.entered.time_s == pytest.approx(1.25)


def test_where_a_mask_is_in_doubt_the_point_decides() -> None:
    events = by_mask({0.0: 60, 0.5: 120, 1.0: 180}, flagged=[1.0])
    assert not events.visits
    (visit,) = by_mask({0.0: 60, 0.5: 180, 1.0: 190}, flagged=[0.0]).visits
    # At 0 s the point says outside, at 0.5 s the mask says inside, and the point is outside at both.
    assert (visit.entered.time_s, visit.entered.timing) == (0.25, "middle")


def test_the_mask_needs_masks() -> None:
    with pytest.raises(ValueError, match="by='mask' needs masks"):
        find_events(tracks(track({0.0: (1, 1)})), zones=[ZONE], rules=Rules(by="mask"))

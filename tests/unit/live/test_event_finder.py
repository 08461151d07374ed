from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from molmo2_ground.analytics import Event, Line, Rules, Zone, find_events
from molmo2_ground.live.event_finder import EventFinder, Seen
from molmo2_ground.live.update import WatchEvent
from molmo2_ground.live.watch import Watch
from molmo2_ground.live.watching import Watching
from molmo2_ground.results import Masks, Sample
from tests.found import masks, track, tracks
from tests.hand_updates import update

YARD = Zone(name="yard", polygon=((20, 0), (60, 0), (60, 100), (20, 100)))
TIP = Zone(name="tip", polygon=((50, 0), (90, 0), (50, 90)))
GATE = Line(name="gate", start=(50, 100), end=(50, 0))
KERB = Line(name="kerb", start=(0, 50), end=(100, 50))

BEGINNINGS = ("zone_entered", "appeared")

Walk = dict[float, tuple[float, float]]


def walked(
    walks: dict[int, Walk],
    *,
    moments_s: Sequence[float],
    looked_s: Sequence[float],
    finder: EventFinder,
    pixels: Masks | None = None,
) -> list[list[Event]]:
    """What the finder gives at each moment, and at its end."""
    every = {i: track(walk, object_id=i, label=f"thing {i}") for i, walk in walks.items()}
    given: list[list[Event]] = []
    for time_s in moments_s:
        seen = [
            Seen(
                object_id=i,
                label=one.label,
                sample=sample,
                mask=None if pixels is None else pixels.get(i, sample.source_index),
            )
            for i, one in every.items()
            for sample in one.samples
            if sample.time_s == time_s
        ]
        given.append(list(finder.take(time_s, seen, looked=time_s in looked_s)))
    return [*given, list(finder.close())]


def in_order(events: Sequence[Event]) -> list[str]:
    return sorted(event.model_dump_json() for event in events)


def assert_same(
    walks: dict[int, Walk],
    moments_s: Sequence[float],
    looked_s: Sequence[float],
    rules: Rules,
    pixels: Masks | None = None,
) -> None:
    zones, lines = (YARD, TIP), (GATE, KERB)
    found = tracks(
        *(track(walk, object_id=i, label=f"thing {i}") for i, walk in walks.items()), looked_s=looked_s
    )
    batch = find_events(found, zones=zones, lines=lines, rules=rules, masks=pixels)
    finder = EventFinder(zones=zones, lines=lines, rules=rules)
    given = walked(walks, moments_s=moments_s, looked_s=looked_s, finder=finder, pixels=pixels)
    assert in_order([event for part in given for event in part]) == in_order(batch.events)
    for zone in zones:
        changes = [e for part in given for e in part if e.kind == "count_changed" and e.zone == zone.name]
        assert changes == [e for e in batch if e.kind == "count_changed" and e.zone == zone.name]
    assert finder.remembered == 0


def assert_watches_tell(
    walks: dict[int, Walk], moments_s: Sequence[float], looked_s: Sequence[float], rules: Rules
) -> None:
    """Without debounce and cooldown a watch tells what there is, but for what was there from the start."""
    watches = {
        "zone_entered": Watch.enters(YARD),
        "zone_left": Watch.leaves(YARD),
        "line_crossed": Watch.crosses(GATE),
        "appeared": Watch.appears(),
        "disappeared": Watch.disappears(),
    }
    every = [track(walk, object_id=i, label="person", size_px=(100, 100)) for i, walk in walks.items()]
    batch = find_events(tracks(*every, looked_s=looked_s), zones=[YARD], lines=[GATE], rules=rules)
    watching = Watching(watches.values(), rules=rules)
    told: list[WatchEvent] = []
    for time_s in moments_s:
        places = {i: walk[time_s] for i, walk in walks.items() if time_s in walk}
        told += watching.take(update(time_s, places, looks=time_s in looked_s))
    told += watching.close()
    for kind, watch in watches.items():
        expected = [e for e in batch if e.kind == kind and (kind not in BEGINNINGS or e.after_s is not None)]
        found = [one.event for one in told if one.watch == watch.name]
        assert without_states(found) == without_states(expected)


def without_states(events: Sequence[Event]) -> list[str]:
    # Those of updates made by hand are all `propagated`.
    return sorted(event.model_dump_json(exclude={"states"}) for event in events)


places_st = st.tuples(st.integers(0, 10), st.integers(0, 10)).map(lambda p: (p[0] * 10.0, p[1] * 10.0))


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[int, Walk], list[float], list[float]]:
    """Walks of up to three things, the moments, and when the model looked: at least once."""
    steps = draw(st.lists(st.sampled_from([0.04, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0]), min_size=1, max_size=14))
    start_s = draw(st.sampled_from([0.0, 0.3]))
    moments = [round(start_s + sum(steps[:n]), 6) for n in range(len(steps) + 1)]
    looked = [t for t in moments if draw(st.booleans())]
    assume(looked)
    count = draw(st.integers(1, 3))
    walks: dict[int, Walk] = {
        i: {t: draw(places_st) for t in moments if draw(st.integers(0, 3))} for i in range(1, count + 1)
    }
    return walks, moments, looked


@pytest.mark.slow
@settings(max_examples=25)
@given(
    stream=streams(),
    grace_s=st.sampled_from([0.0, 0.5, 1.0, 2.5]),
    min_step_px=st.sampled_from([0.0, 15.0, 30.0]),
)
def test_closed_at_the_end_it_has_given_the_events_of_the_batch(
    stream: tuple[dict[int, Walk], list[float], list[float]], grace_s: float, min_step_px: float
) -> None:
    assert_same(*stream, Rules(grace_s=grace_s, min_step_px=min_step_px))


@pytest.mark.slow
@settings(max_examples=25)
@given(stream=streams(), grace_s=st.sampled_from([0.0, 0.5, 1.0, 2.5]))
def test_plain_watches_tell_the_events_of_the_batch(
    stream: tuple[dict[int, Walk], list[float], list[float]], grace_s: float
) -> None:
    assert_watches_tell(*stream, Rules(grace_s=grace_s))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(stream=streams(), grace_s=st.sampled_from([0.0, 0.2, 0.5, 1.0, 2.0, 2.5]))
def test_plain_watches_tell_the_events_of_the_batch_whatever_happens(
    stream: tuple[dict[int, Walk], list[float], list[float]], grace_s: float
) -> None:
    assert_watches_tell(*stream, Rules(grace_s=grace_s))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    stream=streams(),
    grace_s=st.sampled_from([0.0, 0.2, 0.5, 1.0, 2.0, 2.5]),
    min_step_px=st.sampled_from([0.0, 5.0, 15.0, 30.0]),
)
def test_closed_at_the_end_it_has_given_the_events_of_the_batch_whatever_happens(
    stream: tuple[dict[int, Walk], list[float], list[float]], grace_s: float, min_step_px: float
) -> None:
    assert_same(*stream, Rules(grace_s=grace_s, min_step_px=min_step_px))


def test_masks_decide_as_in_the_batch() -> None:
    walk = {n / 10: (10.0 * n, 50.0) for n in range(10)}
    pixels = masks(
        [(1, round(t * 30), (max(0, int(x) - 15), 40, int(x) + 15, 60)) for t, (x, _) in walk.items()],
        size_px=(100, 100),
    )
    assert_same({1: walk}, list(walk), list(walk), Rules(by="mask", min_share=0.7), pixels)


def place(time_s: float, x_px: float, *, object_id: int = 1) -> Seen:
    sample = Sample(
        time_s=time_s, source_index=round(30 * time_s), x_px=x_px, y_px=50, x_norm=x_px / 100, y_norm=0.5
    )
    return Seen(object_id=object_id, label="dog", sample=sample)


def kinds(events: Sequence[Event]) -> list[str]:
    return [event.kind for event in events]


def test_an_event_comes_as_soon_as_it_is_certain_and_once() -> None:
    finder = EventFinder(zones=[YARD], rules=Rules(grace_s=1.0))
    assert kinds(finder.take(0.0, [place(0.0, 10)], looked=True)) == ["appeared"]
    # Its count waits for the next moment: somebody might still turn out to have left by now.
    assert kinds(finder.take(0.5, [place(0.5, 30)], looked=True)) == ["zone_entered", "count_changed"]
    assert finder.take(1.0, [], looked=True) == ()
    gone = finder.take(1.5, [], looked=True)  # the next moment is beyond the grace time
    assert kinds(gone) == ["zone_left", "count_changed", "disappeared"]
    assert {event.time_s for event in gone} == {0.5}
    assert {event.before_s for event in gone} == {1.0}
    assert finder.take(2.0, [], looked=True) == ()
    assert finder.remembered == 0
    assert finder.close() == ()


def test_without_a_look_nothing_is_known_to_be_gone() -> None:
    finder = EventFinder(rules=Rules(grace_s=0.5))
    finder.take(0.0, [place(0.0, 10)], looked=True)
    assert finder.take(60.0, [], looked=False) == ()
    assert finder.remembered == 1
    (gone,) = finder.take(61.0, [], looked=True)
    assert (gone.kind, gone.time_s, gone.before_s) == ("disappeared", 0.0, 61.0)


def test_after_a_cut_nothing_is_joined() -> None:
    for cut in (False, True):
        finder = EventFinder(lines=[GATE], rules=Rules(grace_s=0.5))
        finder.take(0.0, [place(0.0, 10)], looked=True)
        if cut:
            finder.cut()
        near = finder.take(0.4, [place(0.4, 90)], looked=False)
        assert [(e.kind, e.hidden) for e in near] == [("line_crossed", cut)]
        if cut:
            finder.cut()
        far = finder.take(1.4, [place(1.4, 10)], looked=False)
        assert kinds(far) == (["appeared"] if cut else ["line_crossed"])


def test_moments_come_in_order() -> None:
    finder = EventFinder()
    finder.take(1.0, [], looked=True)
    for time_s in (1.0, 1.0005, 0.5, float("nan")):
        with pytest.raises(ValueError, match=r"at least 0.001 s apart, in order; got .* after 1.0 s"):
            finder.take(time_s, [], looked=True)


def test_of_two_places_of_one_thing_the_first_counts() -> None:
    (event,) = EventFinder().take(0.0, [place(0.0, 10), place(0.0, 90)], looked=True)
    assert event.x_px == 10

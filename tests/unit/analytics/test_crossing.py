from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString

from molmo2_ground.analytics import Line, LineCrossed
from molmo2_ground.analytics.crossing import crossings_of
from molmo2_ground.analytics.spell import spells_of
from tests.found import track

KERB = Line(name="kerb", start=(100, 100), end=(300, 100))  # left, and so "in", is above
GRID_S = [i / 2 for i in range(40)]


def crossed(
    places: Sequence[tuple[float, float]], *, line: Line = KERB, min_step_px: float = 3
) -> list[LineCrossed]:
    walk = track(dict(zip(GRID_S, places, strict=False)))
    return [
        crossing
        for spell in spells_of(walk, GRID_S, grace_s=1)
        for crossing in crossings_of(spell, line, min_step_px=min_step_px)
    ]


def along_x(*ys: float, x: float = 200) -> list[tuple[float, float]]:
    return [(x, y) for y in ys]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        pytest.param(along_x(50, 150), ["out"], id="down is out"),
        pytest.param(along_x(150, 50), ["in"], id="up is in"),
        pytest.param(along_x(50, 150, 50), ["out", "in"], id="there and back"),
        pytest.param(along_x(50, 100, 50), [], id="touches and turns"),
        pytest.param(along_x(50, 100, 100, 50), [], id="stands on it and turns"),
        pytest.param(along_x(50, 100, 150), ["out"], id="a sample on the line"),
        pytest.param(along_x(50, 100, 100, 150), ["out"], id="stands on it and goes on"),
        pytest.param(along_x(100, 150), [], id="begins on the line"),
        pytest.param(along_x(50, 150, x=400), [], id="beside the end"),
        pytest.param(along_x(50, 150, x=100), ["out"], id="over the start"),
        pytest.param(along_x(50, 150, x=300), [], id="over the end, which is the next line's"),
        pytest.param([(200, 50), (400, 90), (400, 110), (200, 150)], [], id="round the end"),
        pytest.param(
            [(200, 50), (400, 110), (200, 150), (200, 50)], ["in"], id="round the end, back through"
        ),
        pytest.param(along_x(50, 102, 98, 102, 98, 50), [], id="trembles and turns"),
        pytest.param(along_x(50, 102, 98, 102, 98, 150), ["out"], id="trembles and goes over"),
        pytest.param(along_x(99, 101, 99, 101), [], id="trembles all the time"),
        pytest.param(along_x(50, 97, 103, 97, 150), ["out", "in", "out"], id="swings just wide enough"),
        pytest.param(along_x(50), [], id="one sample"),
    ],
)
def test_which_way_and_how_often(places: list[tuple[float, float]], expected: list[str]) -> None:
    assert [crossing.direction for crossing in crossed(places)] == expected


def test_a_crossing_is_timed_on_the_step_that_made_it() -> None:
    (crossing,) = crossed([(150, 40), (150, 90), (170, 110), (170, 160)])
    assert (crossing.time_s, crossing.after_s, crossing.before_s) == (0.75, 0.5, 1.0)
    assert (crossing.x_px, crossing.y_px) == (160, 100)
    assert (crossing.source_index, crossing.timing) == (30, "line")
    # With a wide margin it is known later, and happened all the same then.
    (late,) = crossed([(150, 40), (150, 90), (170, 110), (170, 160)], min_step_px=50)
    assert late == crossing


def test_a_hidden_crossing_says_so_and_a_long_absence_hides_it() -> None:
    def walk(gap_looks: int) -> list[LineCrossed]:
        times = [0.0, 0.5, 0.5 + gap_looks / 2, 1 + gap_looks / 2]
        seen = track(dict(zip(times, along_x(40, 90, 110, 160), strict=True)))
        return [
            crossing
            for spell in spells_of(seen, GRID_S, grace_s=1)
            for crossing in crossings_of(spell, KERB, min_step_px=3)
        ]

    assert [c.hidden for c in walk(1)] == [False]
    assert [c.hidden for c in walk(2)] == [True]
    assert walk(3) == []


places_st = st.lists(
    st.tuples(st.integers(0, 399), st.integers(0, 199)).map(lambda p: (p[0] + 0.25, p[1] + 0.125)),
    min_size=1,
    max_size=30,
)


def brute_force(places: Sequence[tuple[float, float]], min_step_px: float) -> list[str]:
    """Pieces of the path between samples that are far enough away, each cut with the line by shapely."""
    gate = LineString([KERB.start, KERB.end])
    far = [i for i, (_, y) in enumerate(places) if abs(y - 100) >= min_step_px]
    found = []
    for first, last in pairwise(far):
        up = places[last][1] < 100
        if (places[first][1] < 100) == up:
            continue
        net = 0
        for (x0, y0), (x1, y1) in zip(places[first:last], places[first + 1 : last + 1], strict=True):
            if LineString([(x0, y0), (x1, y1)]).intersects(gate):
                net += 1 if y1 < y0 else -1
        if net != 0 and (net > 0) == up:
            found.append("in" if up else "out")
    return found


@pytest.mark.slow
@settings(max_examples=50)
@given(places=places_st, min_step_px=st.sampled_from([0.0, 3.0, 30.0]))
def test_crossings_are_those_of_brute_force(places: list[tuple[float, float]], min_step_px: float) -> None:
    assert [c.direction for c in crossed(places, min_step_px=min_step_px)] == brute_force(places, min_step_px)


@settings(max_examples=50)
@given(places=places_st)
def test_a_line_drawn_the_other_way_calls_in_out(places: list[tuple[float, float]]) -> None:
    other = Line(name="kerb", start=KERB.end, end=KERB.start)
    swap = {"in": "out", "out": "in"}
    forward, backward = crossed(places), crossed(places, line=other)
    assert [swap[c.direction] for c in forward] == [c.direction for c in backward]


@pytest.mark.slow
@settings(max_examples=50)
@given(places=places_st, at=st.integers(120, 280))
def test_two_lines_that_share_an_end_count_what_one_counts(
    places: list[tuple[float, float]], at: int
) -> None:
    through = [(float(at), y) if i % 2 else (x, y) for i, (x, y) in enumerate(places)]
    first = Line(name="a", start=KERB.start, end=(at, 100))
    second = Line(name="b", start=(at, 100), end=KERB.end)
    both = len(crossed(through, line=first, min_step_px=0)) + len(
        crossed(through, line=second, min_step_px=0)
    )
    assert both == len(crossed(through, min_step_px=0))

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from molmo2_ground.analytics import Line, Zone

SQUARE = ((10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0))


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        pytest.param([], "at least 3 corners; got 0", id="none"),
        pytest.param([(0, 0), (1, 1)], "at least 3 corners; got 2", id="two"),
        pytest.param([(0, 0), (1, 1), (0, 0)], "at least 3 corners; got 2", id="two and closed"),
        pytest.param([(0, 0), (1, 1), (2, 2)], "lie on one line", id="on one line"),
        pytest.param([(0, 0), (9, 9), (9, 0), (0, 9)], r"Self-intersection\[4.5 4.5\]", id="bow tie"),
        pytest.param([(0, 0), (9, 0), (9, 9), (4, 0), (0, 9)], "cross or touch itself", id="touches itself"),
    ],
)
def test_what_is_no_area_is_refused(corners: list[tuple[float, float]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Zone(name="z", polygon=tuple(corners))


@pytest.mark.parametrize(
    ("place", "inside"),
    [
        pytest.param((20, 20), True, id="middle"),
        pytest.param((10, 20), True, id="border"),
        pytest.param((10, 10), True, id="corner"),
        pytest.param((9.999, 20), False, id="just outside"),
    ],
)
def test_the_border_belongs_to_the_zone(place: tuple[float, float], inside: bool) -> None:
    closed = Zone(name="z", polygon=(*SQUARE, SQUARE[0]))
    assert closed == Zone(name="z", polygon=SQUARE)
    assert closed.holds(*place) is inside


def test_a_scaled_zone_is_elsewhere_though_the_first_was_used() -> None:
    zone = Zone(name="z", polygon=SQUARE)
    assert zone.holds(20, 20)
    scaled = zone.scaled(10, 2)
    assert scaled.polygon[2] == (300, 60)
    assert not scaled.holds(20, 20)
    assert scaled.holds(200, 40)


@pytest.mark.slow
@settings(max_examples=50)
@given(
    angles=st.lists(st.integers(0, 359), min_size=3, max_size=9, unique=True),
    data=st.data(),
    middle=st.tuples(st.integers(-5, 45), st.integers(-5, 35)),
)
def test_pixels_are_those_whose_middle_shapely_finds_inside(
    angles: list[int], data: st.DataObject, middle: tuple[int, int]
) -> None:
    corners = []
    for angle in sorted(angles):
        radius = data.draw(st.integers(3, 25)) + 0.123
        corners.append(
            (
                middle[0] + radius * float(np.cos(np.radians(angle))) + 0.01,
                middle[1] + radius * float(np.sin(np.radians(angle))) + 0.017,
            )
        )
    try:
        zone = Zone(name="star", polygon=tuple(corners))
    except ValidationError:
        return
    xs, ys = np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5)
    assert (zone.pixels(40, 30) == shapely.contains_xy(zone.shape, xs, ys)).all()


LINE = Line(name="kerb", start=(0, 100), end=(200, 100))


@pytest.mark.parametrize(
    ("place", "distance", "along"),
    [
        pytest.param((50, 90), 10, 0.25, id="above is left"),
        pytest.param((50, 110), -10, 0.25, id="below is right"),
        pytest.param((300, 100), 0, 1.5, id="beyond the end"),
        pytest.param((0, 100), 0, 0, id="the start"),
    ],
)
def test_sides_of_a_line(place: tuple[float, float], distance: float, along: float) -> None:
    assert LINE.distance(*place) == pytest.approx(distance)
    assert LINE.along(*place) == pytest.approx(along)
    back = Line(name="back", start=LINE.end, end=LINE.start)
    assert back.distance(*place) == pytest.approx(-distance)


def test_a_line_needs_two_ends_and_knows_its_in_side() -> None:
    with pytest.raises(ValidationError, match="two different ends"):
        Line(name="dot", start=(1, 1), end=(1, 1))
    assert LINE.direction_to("left") == "in"
    assert LINE.model_copy(update={"in_side": "right"}).direction_to("left") == "out"
    assert LINE.scaled(2, 3).end == (400, 300)

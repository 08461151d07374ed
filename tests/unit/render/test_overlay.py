from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Point, Polygon

from molmo2_ground.analytics import Line, Zone
from molmo2_ground.render.overlay import Overlay, holds

COORDINATE = st.integers(0, 20).map(float)


@pytest.mark.slow
@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=7), st.tuples(COORDINATE, COORDINATE))
def test_inside_and_outside_are_as_shapely_has_them(
    corners: list[tuple[float, float]], place: tuple[float, float]
) -> None:
    area, point = Polygon(corners), Point(place)
    if not area.is_valid or area.exterior.distance(point) < 1e-9:
        return  # on the edge either answer is right; areas that cross themselves have no agreed inside
    assert holds(np.array(corners), *place) == area.contains(point)


@pytest.mark.parametrize(
    ("corners_px", "closed", "message"),
    [
        pytest.param(((0, 0), (1, 1)), True, "an area has 3 corners", id="area of two corners"),
        pytest.param(((0, 0),), False, "a line has 2 corners", id="line of one"),
        pytest.param(((0, 0), (1, float("nan"))), False, "x and y in pixels", id="no number"),
    ],
)
def test_what_is_no_area_is_refused(
    corners_px: tuple[tuple[float, float], ...], closed: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Overlay(name="zone", corners_px=corners_px, closed=closed)


def test_zones_and_lines_look_like_themselves() -> None:
    zone = Zone(name="crossing", polygon=((0, 0), (10, 0), (10, 5)))
    line = Line(name="kerb", start=(0, 2), end=(9, 2))
    assert Overlay.of(zone) == Overlay(name="crossing", corners_px=((0, 0), (10, 0), (10, 5)))
    assert Overlay.of(line) == Overlay(name="kerb", corners_px=((0, 2), (9, 2)), closed=False)
    assert Overlay.of(Overlay.of(line)) == Overlay.of(line)

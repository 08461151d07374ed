from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays
from shapely.geometry import Point, box

from molmo2_ground.outline import polygon_of

FIXED = settings(derandomize=True, deadline=None)
MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))


@pytest.mark.slow
@FIXED
@given(MASKS)
def test_a_pixel_is_the_objects_when_its_middle_lies_in_the_outline(mask: np.ndarray) -> None:
    outline = polygon_of(mask)
    assert outline.is_valid
    assert outline.area == mask.sum()
    for (row, column), inside in np.ndenumerate(mask):
        assert outline.contains(Point(column + 0.5, row + 0.5)) == inside


@pytest.mark.parametrize(
    ("mask", "parts", "corners"),
    [
        pytest.param(np.zeros((2, 2), dtype=bool), 0, [], id="nothing"),
        pytest.param(np.ones((1, 1), dtype=bool), 1, [4], id="one-pixel"),
        pytest.param(np.ones((5, 7), dtype=bool), 1, [4], id="whole-picture"),
        pytest.param(np.eye(2, dtype=bool), 2, [4, 4], id="touching-at-a-corner"),
    ],
)
def test_named_outlines(mask: np.ndarray, parts: int, corners: list[int]) -> None:
    outline = polygon_of(mask)
    assert len(outline.geoms) == parts
    assert [len(part.exterior.coords) - 1 for part in outline.geoms] == corners


def test_a_hole_stays_a_hole() -> None:
    mask = np.ones((5, 5), dtype=bool)
    mask[2, 2] = False
    outline = polygon_of(mask)
    assert outline.equals(box(0, 0, 5, 5) - box(2, 2, 3, 3))

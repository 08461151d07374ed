"""A point for a mask or a box is always inside."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.thousandths import to_pixels, to_thousandths
from molmo2_ground.train.inside_point import _Squares, box_point, mask_point

FIXED = settings(derandomize=True, deadline=None, max_examples=60)
SHARES = st.floats(0, 1)


@st.composite
def masks(draw: st.DrawFn) -> npt.NDArray[np.bool_]:
    """Noise, a few rectangles, or rings; of any shape, never empty."""
    height, width = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.05, 0.5]))
    for _ in range(draw(st.integers(0, 3))):
        top, left = rng.integers(height), rng.integers(width)
        mask[top : top + rng.integers(1, 12), left : left + rng.integers(1, 12)] ^= True
    mask[rng.integers(height), rng.integers(width)] = True
    return mask


@pytest.mark.slow
@FIXED
@given(mask=masks(), across=SHARES, down=SHARES)
def test_a_point_for_a_mask_is_inside_it_also_as_it_is_written(
    mask: npt.NDArray[np.bool_], across: float, down: float
) -> None:
    found = mask_point(mask, at=(across, down))
    assert found is not None
    x, y = found
    assert mask[math.floor(y), math.floor(x)]
    height, width = mask.shape
    read_x, read_y = (to_pixels(to_thousandths(v, n), n) for v, n in ((x, width), (y, height)))
    assert mask[math.floor(read_y), math.floor(read_x)]


@pytest.mark.slow
@FIXED
@given(mask=masks(), across=SHARES, down=SHARES)
def test_the_largest_squares_are_those_of_brute_force(
    mask: npt.NDArray[np.bool_], across: float, down: float
) -> None:
    def reach_of(row: int, col: int) -> int:
        reach = -1
        while True:
            r = reach + 1
            part = mask[max(0, row - r) : row + r + 1, max(0, col - r) : col + r + 1]
            if part.shape != (2 * r + 1, 2 * r + 1) or not part.all():
                return reach
            reach = r

    reaches = np.array([[reach_of(r, c) for c in range(mask.shape[1])] for r in range(mask.shape[0])])
    squares = _Squares(mask)
    assert squares.largest() == reaches.max()
    for reach in range(int(reaches.max()) + 2):
        np.testing.assert_array_equal(squares.fit(reach), reaches >= reach)
    found = mask_point(mask, at=(across, down))
    assert found is not None
    x, y = found
    assert reaches[math.floor(y), math.floor(x)] >= int(0.6 * reaches.max())


def test_a_wide_mask_has_its_point_off_the_edges_and_not_always_in_one_place() -> None:
    mask = np.zeros((60, 90), dtype=bool)
    mask[10:50, 20:80] = True
    rng = np.random.default_rng(0)
    found = {mask_point(mask, at=tuple(rng.random(2))) for _ in range(40)}
    assert len(found) > 20
    for point in found:
        assert point is not None
        assert 20 + 11 <= point[0] <= 80 - 11
        assert 10 + 11 <= point[1] <= 50 - 11


def test_the_hole_of_a_ring_is_not_pointed_at() -> None:
    rows, cols = np.mgrid[:101, :101]
    far = np.hypot(rows - 50, cols - 50)
    ring = (far < 45) & (far > 25)
    found = mask_point(ring)
    assert found is not None
    assert ring[math.floor(found[1]), math.floor(found[0])]


def test_the_same_place_in_a_moving_mask_moves_with_it() -> None:
    points = []
    for left in (5, 15, 25):
        mask = np.zeros((40, 80), dtype=bool)
        mask[10:30, left : left + 20] = True
        points.append(mask_point(mask, at=(0.3, 0.8)))
    (x0, y0), (x1, y1), (x2, y2) = (p for p in points if p is not None)
    assert (x1 - x0, x2 - x1) == (10, 10)
    assert y0 == y1 == y2


def test_of_a_picture_wider_than_thousandths_a_pixel_is_taken_that_can_be_written() -> None:
    mask = np.zeros((2, 5000), dtype=bool)
    mask[0, 2501:2504] = True  # as written, only multiples of 5 pixels can be said
    mask[0, 3000] = True
    found = mask_point(mask)
    assert found is not None
    assert math.floor(to_pixels(to_thousandths(found[0], 5000), 5000)) == math.floor(found[0]) == 3000


def test_a_mask_of_another_size_lies_stretched_over_the_picture() -> None:
    mask = np.zeros((5, 10), dtype=bool)
    mask[2, 7] = True
    assert mask_point(mask, size_px=(100, 50)) == (75.0, 25.0)


def test_an_empty_mask_has_no_point() -> None:
    assert mask_point(np.zeros((4, 4), dtype=bool)) is None


@FIXED
@given(
    box=st.tuples(*(st.floats(-50, 150) for _ in range(4))),
    width=st.integers(1, 120),
    height=st.integers(1, 120),
    across=SHARES,
    down=SHARES,
)
def test_a_point_for_a_box_is_inside_it_and_the_picture(
    box: tuple[float, float, float, float], width: int, height: int, across: float, down: float
) -> None:
    found = box_point(box, size_px=(width, height), at=(across, down))
    left, right = max(box[0], 0), min(box[2], width)
    top, bottom = max(box[1], 0), min(box[3], height)
    if left >= right or top >= bottom:
        assert found is None
    else:
        assert found is not None
        assert left <= found[0] <= right
        assert top <= found[1] <= bottom
        assert abs(found[0] - (left + right) / 2) <= (right - left) / 4 + 1e-9
        assert abs(found[1] - (top + bottom) / 2) <= (bottom - top) / 4 + 1e-9


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param((10, 20, 30, 40), (20, 30), id="middle"),
        pytest.param((90, 0, 130, 10), (95, 5), id="cut-by-the-picture"),
        pytest.param((120, 0, 130, 10), None, id="outside"),
        pytest.param((10, 10, 10, 20), None, id="empty"),
    ],
)
def test_the_middle_of_what_a_picture_shows_of_a_box(
    box: tuple[float, float, float, float], expected: tuple[float, float] | None
) -> None:
    assert box_point(box, size_px=(100, 50)) == expected

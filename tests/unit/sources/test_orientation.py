from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.errors import SourceError
from molmo2_ground.sources.picture import Orientation, check_size, over_white

ONE = 1 << 16


@pytest.mark.parametrize(
    ("a", "b", "c", "d"),
    [
        *((1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)),
        *((0, 1, 1, 0), (0, -1, 1, 0), (0, 1, -1, 0), (0, -1, -1, 0)),
    ],
)
def test_every_right_angled_matrix_moves_points_as_it_says(a: int, b: int, c: int, d: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (3, 5, 3), dtype=np.uint8)
    matrix = np.array([a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30], dtype=np.int32)
    shown = Orientation.from_matrix(matrix).apply(rgb)
    height, width = shown.shape[:2]
    for y in range(3):
        for x in range(5):
            # The middle of the pixel moves; the shift in a real matrix brings it back to 0 and above.
            shown_x = math.floor(a * (x + 0.5) + c * (y + 0.5)) % width
            shown_y = math.floor(b * (x + 0.5) + d * (y + 0.5)) % height
            assert (shown[shown_y, shown_x] == rgb[y, x]).all()
    assert shown.flags["C_CONTIGUOUS"]


@pytest.mark.slow
@given(st.floats(-179, 180))
def test_a_slanted_matrix_takes_the_nearest_right_angle(degrees: float) -> None:
    radians = np.radians(degrees)
    cos, sin = np.cos(radians) * ONE, np.sin(radians) * ONE
    turned = Orientation.from_matrix(np.array([cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30]).astype(np.int32))
    if abs((degrees % 90) - 45) > 1e-3:
        nearest = round(degrees / 90) % 4
        rgb = np.random.default_rng(0).integers(0, 255, (3, 5, 3), dtype=np.uint8)
        assert (turned.apply(rgb) == np.rot90(rgb, -nearest)).all()


@pytest.mark.parametrize(
    ("width_px", "height_px", "fits"),
    [(16384, 16384, True), (16385, 1, False), (1, 16385, False), (7680, 4320, True)],
)
def test_size_limits(width_px: int, height_px: int, fits: bool) -> None:
    if fits:
        check_size(width_px, height_px, source="a.mp4")
    else:
        with pytest.raises(SourceError, match=rf"a\.mp4 .*{width_px}×{height_px}"):
            check_size(width_px, height_px, source="a.mp4")


def test_over_white_keeps_opaque_pixels_exactly() -> None:
    rgba = np.random.default_rng(0).integers(0, 255, (7, 9, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    assert (over_white(rgba) == rgba[..., :3]).all()
    rgba[..., 3] = 0
    assert (over_white(rgba) == 255).all()

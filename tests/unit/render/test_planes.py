from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from molmo2_ground.render.planes import Planes

# BT.709, 8 bit, limited range, written out: brightness, blue difference, red difference.
WEIGHTS = np.array([[0.2126, 0.7152, 0.0722], [-0.114572, -0.385428, 0.5], [0.5, -0.454153, -0.045847]])


def _planes(rgb: np.ndarray) -> list[np.ndarray]:
    height, width = rgb.shape[:2]
    frame = Planes(width_px=width, height_px=height).frame(rgb)
    whole = frame.to_ndarray(format="yuv420p")
    quarter = height * width // 4
    colours = whole[height:].reshape(-1)
    return [
        whole[:height],
        colours[:quarter].reshape(height // 2, width // 2),
        colours[quarter:].reshape(height // 2, width // 2),
    ]


@pytest.mark.slow
@given(
    hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda s: (2 * s[0], 2 * s[1], 3))
    )
)
def test_every_value_is_within_one_of_the_formula(rgb: np.ndarray) -> None:
    height, width = rgb.shape[:2]
    bright, blue, red = _planes(rgb)
    mean = rgb.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    assert np.abs(bright - (16 + rgb @ WEIGHTS[0] * 219 / 255)).max() <= 1
    for got, weights in ((blue, WEIGHTS[1]), (red, WEIGHTS[2])):
        assert np.abs(got - (128 + mean @ weights * 224 / 255)).max() <= 1.1


@pytest.mark.parametrize(
    ("rgb", "wanted"),
    [
        pytest.param((0, 0, 0), (16, 128, 128), id="black"),
        pytest.param((255, 255, 255), (235, 128, 128), id="white"),
        pytest.param((255, 0, 0), (63, 102, 240), id="red"),
        pytest.param((0, 255, 0), (173, 42, 26), id="green"),
        pytest.param((0, 0, 255), (32, 240, 118), id="blue"),
    ],
)
def test_the_colours_of_the_standard(rgb: tuple[int, int, int], wanted: tuple[int, int, int]) -> None:
    picture = np.full((32, 64, 3), rgb, dtype=np.uint8)
    for plane, value in zip(_planes(picture), wanted, strict=True):
        assert np.abs(plane.astype(int) - value).max() <= 1


@pytest.mark.parametrize("size_px", [(3, 2), (2, 5), (0, 2)])
def test_odd_sizes_are_refused(size_px: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="in twos"):
        Planes(width_px=size_px[0], height_px=size_px[1])

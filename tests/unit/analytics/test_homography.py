from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from molmo2_ground.analytics import Homography

# A street seen from a bridge: 8 m wide, 30 m long.
IMAGE = [(100.0, 350.0), (540.0, 350.0), (380.0, 120.0), (260.0, 120.0)]
GROUND = [(0.0, 0.0), (8.0, 0.0), (8.0, 30.0), (0.0, 30.0)]


def taken(homography: Homography, *places: tuple[float, float]) -> npt.NDArray[np.float64]:
    return homography.ground_m(np.array(places))


def test_the_pairs_are_met_and_opencv_agrees() -> None:
    ours = Homography.from_pairs(IMAGE, GROUND)
    assert taken(ours, *IMAGE) == pytest.approx(np.array(GROUND), abs=1e-9)
    theirs, _ = cv2.findHomography(np.array(IMAGE), np.array(GROUND))
    matrix = np.array(ours.matrix)
    assert matrix / matrix[2, 2] == pytest.approx(theirs / theirs[2, 2], rel=1e-6)


def test_more_pairs_than_needed_are_fitted() -> None:
    exact = Homography.from_pairs(IMAGE, GROUND)
    more = [*IMAGE, (320.0, 300.0), (300.0, 200.0)]
    truth = taken(exact, *more)
    noisy = truth + np.random.default_rng(3).normal(0, 0.02, truth.shape)
    fitted = Homography.from_pairs(more, [(float(x), float(y)) for x, y in noisy])
    assert np.abs(taken(fitted, *more) - truth).max() < 0.3


@pytest.mark.slow
@given(entries=st.lists(st.integers(-9, 9), min_size=8, max_size=8))
def test_any_view_of_a_plane_is_found_again(entries: list[int]) -> None:
    a, b, c, d, e, f, g, h = entries
    matrix = np.array(
        [
            [10 + a, b, c],
            [d, 10 + e, f],
            [g * 1e-4, h * 1e-4, 1.0],
        ]  # a weak perspective: all is before the camera
    )
    assume(abs(np.linalg.det(matrix)) > 5)
    places = np.array([(0.0, 0.0), (600.0, 10.0), (590.0, 380.0), (15.0, 300.0), (300.0, 150.0)])
    homogeneous = np.column_stack([places, np.ones(5)]) @ matrix.T
    assume(homogeneous[:, 2].min() > 0.1)
    ground = homogeneous[:, :2] / homogeneous[:, 2:]
    found = Homography.from_pairs(
        [(float(x), float(y)) for x, y in places], [(float(x), float(y)) for x, y in ground]
    )
    probe = np.array([[123.0, 45.0]])
    truth = np.append(probe, 1.0) @ matrix.T
    assert found.ground_m(probe)[0] == pytest.approx(truth[:2] / truth[2], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("image", "ground", "words"),
    [
        pytest.param(IMAGE[:3], GROUND[:3], "at least 4 pairs", id="three"),
        pytest.param(IMAGE, GROUND[:3], "got 4 in the picture and 3", id="unequal"),
        pytest.param([(0, 0), (1, 1), (2, 2), (9, 0)], GROUND, "do not fix", id="three on a line"),
        pytest.param([(5, 5)] * 4, GROUND, "coincide", id="one place"),
        pytest.param([IMAGE[1], IMAGE[0], *IMAGE[2:]], GROUND, "swapped or mistyped", id="two swapped"),
    ],
)
def test_pairs_that_fix_nothing_are_refused(
    image: list[tuple[float, float]], ground: list[tuple[float, float]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Homography.from_pairs(image, ground)


def test_a_matrix_without_an_inverse_is_refused() -> None:
    with pytest.raises(ValidationError, match="has an inverse"):
        Homography(matrix=((1, 0, 0), (0, 1, 0), (1, 1, 0)))


def test_the_horizon_has_no_place_on_the_ground() -> None:
    tilted = Homography(matrix=((1, 0, 0), (0, 1, 0), (0, 1, -100)))
    assert np.isnan(taken(tilted, (50, 100))).all()
    assert tilted.same_side(np.array([(0.0, 101.0), (9.0, 300.0)]))
    assert not tilted.same_side(np.array([(0.0, 99.0), (9.0, 300.0)]))
    again = Homography.model_validate_json(tilted.model_dump_json())
    assert again == tilted

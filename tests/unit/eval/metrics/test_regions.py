from __future__ import annotations

import math

import numpy as np
import pytest

from molmo2_ground.eval.metrics import boundary_f, j_and_f, jaccard
from molmo2_ground.eval.metrics.regions import Mask
from molmo2_ground.rle import Rle

Masks = dict[int, list[Mask | None]]


def davis_contour(mask: np.ndarray) -> set[tuple[int, int]]:
    """The definition read pixel by pixel: unlike its right, lower or lower right neighbour."""
    height, width = mask.shape
    found = set()
    for row in range(height):
        for column in range(width):
            neighbours = []
            if row < height - 1 and column < width - 1:
                neighbours = [(row, column + 1), (row + 1, column), (row + 1, column + 1)]
            elif row < height - 1:
                neighbours = [(row + 1, column)]
            elif column < width - 1:
                neighbours = [(row, column + 1)]
            if any(mask[row, column] != mask[other] for other in neighbours):
                found.add((row, column))
    return found


def davis_f(predicted: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    contour, true_contour = davis_contour(predicted), davis_contour(truth)
    radius = math.ceil(tolerance * math.sqrt(predicted.shape[0] ** 2 + predicted.shape[1] ** 2))

    def share_near(some: set[tuple[int, int]], others: set[tuple[int, int]]) -> float:
        near = 0
        for row, column in some:
            for other_row, other_column in others:
                if (row - other_row) ** 2 + (column - other_column) ** 2 <= radius**2:
                    near += 1
                    break
        return near / len(some)

    if not contour and not true_contour:
        precision, recall = 1.0, 1.0
    elif not contour:
        precision, recall = 1.0, 0.0
    elif not true_contour:
        precision, recall = 0.0, 1.0
    else:
        precision, recall = share_near(contour, true_contour), share_near(true_contour, contour)
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def davis_j(predicted: np.ndarray, truth: np.ndarray) -> float:
    both = either = 0
    for one, other in zip(predicted.ravel(), truth.ravel(), strict=True):
        both += bool(one) and bool(other)
        either += bool(one) or bool(other)
    return both / either if either else 1.0


def random_mask(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A few boxes laid over each other, often touching the edge, with now and then a stray pixel."""
    mask = np.zeros(shape, dtype=bool)
    for _ in range(int(rng.integers(0, 4))):
        top, left = rng.integers(-3, shape[0]), rng.integers(-3, shape[1])
        height, width = rng.integers(1, 12, size=2)
        mask[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)] ^= True
    mask ^= rng.random(shape) < 0.01
    return mask


@pytest.mark.parametrize("tolerance", [0.008, 0.05, 0.12])
def test_j_and_f_are_an_independent_reading_of_davis(tolerance: float) -> None:
    rng = np.random.default_rng(round(tolerance * 1000))
    seen = set()
    for _ in range(40):
        shape = int(rng.integers(3, 26)), int(rng.integers(3, 30))
        truth, predicted = random_mask(rng, shape), random_mask(rng, shape)
        if rng.random() < 0.4:
            predicted = np.roll(truth, rng.integers(-2, 3, size=2), axis=(0, 1))
        found = boundary_f(predicted, truth, tolerance=tolerance)
        assert found == pytest.approx(davis_f(predicted, truth, tolerance), abs=1e-9)
        assert jaccard(predicted, truth) == pytest.approx(davis_j(predicted, truth), abs=1e-9)
        seen.add(round(found, 3))
    assert len(seen) > 10


NOTHING = np.zeros((12, 16), dtype=bool)
EVERYTHING = ~NOTHING
PIXEL = NOTHING.copy()
PIXEL[5, 5] = True
CORNER = NOTHING.copy()
CORNER[-1, -1] = True
LEFT_HALF = NOTHING.copy()
LEFT_HALF[:, :8] = True
HOLE = EVERYTHING ^ PIXEL


@pytest.mark.parametrize(
    ("predicted", "truth", "j", "f"),
    [
        pytest.param(NOTHING, NOTHING, 1.0, 1.0, id="both-empty"),
        pytest.param(NOTHING, PIXEL, 0.0, 0.0, id="nothing-found"),
        pytest.param(PIXEL, NOTHING, 0.0, 0.0, id="nothing-there"),
        pytest.param(EVERYTHING, EVERYTHING, 1.0, 1.0, id="both-full"),
        # A mask that fills the picture has no contour, so F sees nothing where J sees everything.
        pytest.param(EVERYTHING, NOTHING, 0.0, 1.0, id="full-against-empty"),
        pytest.param(EVERYTHING, LEFT_HALF, 0.5, 0.0, id="full-against-half"),
        pytest.param(LEFT_HALF, LEFT_HALF, 1.0, 1.0, id="the-same-half"),
        pytest.param(LEFT_HALF, ~LEFT_HALF, 0.0, 1.0, id="the-other-half"),
        pytest.param(HOLE, PIXEL, 0.0, 1.0, id="inside-out"),
        pytest.param(CORNER, CORNER, 1.0, 1.0, id="last-corner"),
        pytest.param(CORNER, PIXEL, 0.0, 0.0, id="far-apart"),
    ],
)
def test_edges_of_the_definition(predicted: np.ndarray, truth: np.ndarray, j: float, f: float) -> None:
    assert (jaccard(predicted, truth), boundary_f(predicted, truth)) == (j, f)
    assert (davis_j(predicted, truth), davis_f(predicted, truth, 0.008)) == (j, f)
    encoded = Rle.encode(predicted), Rle.encode(truth)
    assert (jaccard(*encoded), boundary_f(*encoded)) == (j, f)


def test_the_tolerance_is_rounded_up_to_whole_pixels() -> None:
    # A diagonal of 200: 1.6 pixels, so 2 may be missed.
    truth = np.zeros((120, 160), dtype=bool)
    truth[40:80, 40:80] = True
    assert boundary_f(np.roll(truth, 2, axis=1), truth) == 1.0
    assert boundary_f(np.roll(truth, 3, axis=1), truth) < 1.0


def test_masks_of_two_sizes_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"\[12, 16\] and \[3, 3\]"):
        jaccard(NOTHING, np.zeros((3, 3), dtype=bool))


def test_objects_that_come_and_go_are_perfect_when_found() -> None:
    truth = {4: [PIXEL, None, LEFT_HALF], 9: [None, None, HOLE]}
    found = j_and_f({4: [PIXEL, NOTHING, LEFT_HALF], 9: [None, NOTHING, HOLE]}, truth)
    assert found.scores() == {"j": 1.0, "f": 1.0, "j_and_f": 1.0}
    assert found.per_object == {4: (1.0, 1.0), 9: (1.0, 1.0)}


def test_the_mean_is_over_frames_and_then_over_objects() -> None:
    truth: Masks = {1: [LEFT_HALF, LEFT_HALF, None, None], 2: [PIXEL] * 4}
    found = j_and_f({1: [EVERYTHING, LEFT_HALF, PIXEL, None]}, truth)
    # Object 1: J .5, 1, 0, 1 and F 0, 1, 0, 1; object 2 was not found at all.
    assert found.per_object == {1: (0.625, 0.5), 2: (0.0, 0.0)}
    assert found.scores() == {"j": 0.3125, "f": 0.25, "j_and_f": 0.28125}


def test_the_given_frame_and_the_last_are_left_out_on_demand() -> None:
    truth = {1: [LEFT_HALF, PIXEL, LEFT_HALF]}
    found = {1: [None, PIXEL, None]}
    assert j_and_f(found, truth, drop_ends=True).j_and_f == 1.0
    assert j_and_f(found, truth).j_and_f == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no frame is left"):
        j_and_f({}, {1: [PIXEL, PIXEL]}, drop_ends=True)


def test_objects_are_paired_by_overlap_on_demand() -> None:
    truth: Masks = {1: [LEFT_HALF, LEFT_HALF], 2: [PIXEL, None]}
    found: Masks = {7: [PIXEL, None], 8: [LEFT_HALF, LEFT_HALF], 9: [EVERYTHING, EVERYTHING]}
    assert j_and_f(found, truth, match=True).j_and_f == 1.0
    with pytest.raises(ValueError, match=r"\[7, 8, 9\] are not in the truth"):
        j_and_f(found, truth)


def test_nothing_there_is_right_only_when_nothing_is_found() -> None:
    assert j_and_f({}, {}).j_and_f == 1.0
    assert j_and_f({1: [NOTHING, None]}, {}).j_and_f == 1.0
    assert j_and_f({1: [PIXEL, None]}, {}).j_and_f == 0.0
    with pytest.raises(ValueError, match="lengths"):
        j_and_f({1: [PIXEL]}, {1: [PIXEL, PIXEL]})

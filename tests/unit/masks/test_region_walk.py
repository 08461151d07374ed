"""How `region` carries a mask from frame to frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.region import Region, RegionWalk, WorkedOn
from molmo2_ground.masks.segmenter import BoolArray
from molmo2_ground.rle import Rle

WIDTH, HEIGHT = 160, 120
GROUND = np.clip(np.random.default_rng(2).normal(128, 8, size=(HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
SIDE = 24
# Left and top of the square by the number of the frame.
Path = Callable[[int], tuple[int, int]]


def square_at(left: int, top: int) -> tuple[RgbArray, BoolArray]:
    """A red square with a blue half on rough ground, and its visible pixels."""
    rgb, mask = GROUND.copy(), np.zeros((HEIGHT, WIDTH), dtype=bool)
    rows = slice(max(0, top), max(0, top + SIDE))
    rgb[rows, max(0, left) : max(0, left + SIDE)] = (200, 40, 40)
    rgb[rows, max(0, left) : max(0, left + SIDE // 2)] = (40, 60, 190)
    mask[rows, max(0, left) : max(0, left + SIDE)] = True
    return rgb, mask


def prepared(walk: RegionWalk, rgb: RgbArray) -> WorkedOn:
    return walk.prepare(Frame(rgb=rgb, width_px=WIDTH, height_px=HEIGHT, source_index=0))


def at(x_px: float, y_px: float, object_id: int = 1) -> PointPrompt:
    return PointPrompt(object_id=object_id, source_index=0, x_px=x_px, y_px=y_px)


def started() -> RegionWalk:
    return Region().start(width_px=WIDTH, height_px=HEIGHT)


def iou(one: BoolArray, other: BoolArray) -> float:
    return Rle.encode(one).iou(Rle.encode(other))


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(lambda i: (40, 40), id="stands-still"),
        pytest.param(lambda i: (20 + 3 * i, 40 + i), id="moves"),
        pytest.param(lambda i: (20 + 12 * i, 40), id="moves-by-half-its-size"),
        pytest.param(lambda i: (100, 20 + i * i), id="gathers-speed"),
        pytest.param(lambda i: (WIDTH - SIDE - 6 + 3 * i, 40), id="leaves-the-picture"),
    ],
)
def test_a_square_is_carried_along(path: Path) -> None:
    walk = started()
    left, top = path(0)
    walk.step(prepared(walk, square_at(left, top)[0]), [at(left + SIDE / 2, top + SIDE / 2)])
    for index in range(1, 9):
        rgb, truth = square_at(*path(index))
        mask = walk.step(prepared(walk, rgb))[1]
        assert iou(mask, truth) > 0.8, f"frame {index}"


def test_a_moving_ground_is_not_taken_along() -> None:
    walk = started()
    for index in range(7):
        ground = np.roll(GROUND, -4 * index, axis=1)
        ground[50 : 50 + SIDE, 60 : 60 + SIDE] = (200, 40, 40)
        points = [at(72, 62)] if index == 0 else []
        mask = walk.step(prepared(walk, ground), points)[1]
        truth = np.zeros_like(mask)
        truth[50 : 50 + SIDE, 60 : 60 + SIDE] = True
        assert iou(mask, truth) > 0.85


def test_what_vanishes_has_an_empty_mask_and_is_found_where_it_comes_back() -> None:
    walk = started()
    rgb, truth = square_at(60, 40)
    walk.step(prepared(walk, rgb), [at(72, 52)])
    for _ in range(3):
        masks = walk.step(prepared(walk, GROUND))
        assert set(masks) == {1}
        assert not masks[1].any()
    assert iou(walk.step(prepared(walk, rgb))[1], truth) > 0.8


def test_what_goes_behind_something_is_seen_where_it_shows() -> None:
    walk = started()
    for index in range(6):
        rgb, truth = square_at(40 + 4 * index, 40)
        rgb[:, 70:110], truth[:, 70:110] = (60, 110, 60), False
        points = [at(52, 52)] if index == 0 else []
        mask = walk.step(prepared(walk, rgb), points)[1]
        assert iou(mask, truth) > 0.75, f"frame {index}"


@pytest.mark.slow
def test_a_correction_on_another_thing_starts_anew() -> None:
    walk = started()
    rgb, _ = square_at(20, 40)
    rgb[70:100, 100:140] = (230, 200, 40)
    walk.step(prepared(walk, rgb), [at(32, 52)])
    mask = walk.step(prepared(walk, rgb), [at(120, 85)])[1]
    truth = np.zeros_like(mask)
    truth[70:100, 100:140] = True
    assert iou(mask, truth) > 0.85


def test_a_correction_finds_the_whole_of_what_came_into_the_picture() -> None:
    walk = started()
    first, _ = square_at(-SIDE + 8, 40)
    walk.step(prepared(walk, first), [at(3, 52)])
    rgb, truth = square_at(30, 40)
    mask = walk.step(prepared(walk, rgb), [at(46, 52)])[1]
    assert iou(mask, truth) > 0.85


def test_a_correction_that_agrees_keeps_the_mask_that_was_carried() -> None:
    walk = started()
    rgb, _ = square_at(60, 40)
    before = walk.step(prepared(walk, rgb), [at(72, 52)])[1]
    after = walk.step(prepared(walk, rgb), [at(66, 46)])[1]
    assert iou(before, after) > 0.95


def test_a_way_back_starts_from_the_mask_that_the_way_forward_came_to() -> None:
    forward, back = started(), started()
    rgb, _ = square_at(60, 40)
    shared = prepared(forward, rgb)
    mask = forward.step(shared, [at(72, 52)])[1]
    assert np.array_equal(back.step(shared, [at(72, 52)])[1], mask)


@pytest.mark.slow
def test_forgetting_and_closing() -> None:
    walk = started()
    rgb, _ = square_at(60, 40)
    walk.step(prepared(walk, rgb), [at(72, 52, 1), at(20, 20, 2)])
    walk.forget(2)
    walk.forget(2)
    assert set(walk.step(prepared(walk, rgb))) == {1}
    walk.close()
    walk.close()
    assert walk.step(prepared(walk, rgb)) == {}


def test_a_walk_holds_no_more_after_many_frames() -> None:
    """It holds the last picture of each object, however many went by."""
    walk = started()
    weak = []
    for index in range(12):
        rgb, _ = square_at(20 + 3 * index, 40)
        step = walk.prepare(Frame(rgb=rgb, width_px=WIDTH, height_px=HEIGHT, source_index=index))
        walk.step(step, [at(32, 52)] if index == 0 else [])
        weak.append(id(step.picture))
    assert len({id(sight.picture) for sight in walk._sights.values()}) == 1
    assert id(next(iter(walk._sights.values())).picture) == weak[-1]

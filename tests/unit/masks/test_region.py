"""What `region` finds in pictures that are drawn here, with the exact mask beside them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.masks.choice import segmenter_named
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.region import WORKED_ON_PX, Region
from molmo2_ground.masks.region_seed import grow_again
from molmo2_ground.masks.segmenter import BoolArray
from molmo2_ground.rle import Rle

GREY, RED, BLUE, WHITE = (128, 132, 126), (200, 40, 40), (40, 60, 190), (235, 235, 230)
Box = tuple[int, int, int, int]


def ground(width: int, height: int, *, colour: Sequence[int] = GREY, seed: int = 1) -> RgbArray:
    """A rough surface of one colour."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(0.0, 6.0, size=(height, width, 1))
    return np.clip(np.asarray(colour) + rough, 0, 255).astype(np.uint8)


def painted(picture: RgbArray, *boxes: tuple[Box, Sequence[int]]) -> RgbArray:
    """The picture with rectangles (left, top, right, bottom) on it."""
    copy = picture.copy()
    for (left, top, right, bottom), colour in boxes:
        copy[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = colour
    return copy


def area_of(picture: RgbArray, *boxes: Box) -> BoolArray:
    mask = np.zeros(picture.shape[:2], dtype=bool)
    for left, top, right, bottom in boxes:
        mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return mask


def frame(rgb: RgbArray, *, size_px: tuple[int, int] | None = None) -> Frame:
    width, height = size_px or (rgb.shape[1], rgb.shape[0])
    return Frame(rgb=rgb, width_px=width, height_px=height, source_index=0)


def at(x_px: float, y_px: float, object_id: int = 1) -> PointPrompt:
    return PointPrompt(object_id=object_id, source_index=0, x_px=x_px, y_px=y_px)


def found(rgb: RgbArray, x_px: float, y_px: float, *, size_px: tuple[int, int] | None = None) -> BoolArray:
    """The mask under one point of one picture."""
    seen = frame(rgb, size_px=size_px)
    walk = Region().start(width_px=seen.width_px, height_px=seen.height_px)
    mask = walk.step(walk.prepare(seen), [at(x_px, y_px)])[1]
    assert mask.dtype == np.bool_
    assert mask.shape == (seen.height_px, seen.width_px)
    return mask


def iou(one: BoolArray, other: BoolArray) -> float:
    return Rle.encode(one).iou(Rle.encode(other))


def striped(picture: RgbArray) -> RgbArray:
    """With a stripe of another colour below the object, as a road has."""
    return painted(picture, ((0, 70, picture.shape[1], 76), WHITE))


_CASES: list[tuple[str, RgbArray, tuple[float, float], tuple[Box, ...]]] = [
    (
        "uniform-square",
        painted(ground(160, 120), ((60, 40, 100, 80), RED)),
        (80.0, 60.0),
        ((60, 40, 100, 80),),
    ),
    (
        "two-coloured",
        painted(ground(160, 120), ((60, 40, 80, 80), RED), ((80, 40, 100, 80), BLUE)),
        (78.0, 60.0),
        ((60, 40, 100, 80),),
    ),
    (
        "a-part-in-the-middle-of-a-whole",
        painted(ground(160, 120), ((55, 40, 105, 80), RED), ((72, 52, 88, 68), BLUE)),
        (80.0, 60.0),
        ((55, 40, 105, 80),),
    ),
    ("at-the-rim", painted(ground(160, 120), ((0, 40, 30, 80), RED)), (12.0, 60.0), ((0, 40, 30, 80),)),
    (
        "in-the-corner",
        painted(ground(160, 120), ((130, 0, 160, 24), RED)),
        (146.0, 11.0),
        ((130, 0, 160, 24),),
    ),
    ("odd-size", painted(ground(161, 121), ((60, 40, 101, 81), RED)), (80.0, 60.0), ((60, 40, 101, 81),)),
    ("tiny-picture", painted(ground(16, 12), ((5, 3, 11, 9), RED)), (8.0, 6.0), ((5, 3, 11, 9),)),
    ("small-thing", painted(ground(160, 120), ((76, 56, 84, 64), RED)), (80.0, 60.0), ((76, 56, 84, 64),)),
    (
        "grey-picture",
        painted(ground(160, 120), ((60, 40, 100, 80), (40, 40, 40))),
        (80.0, 60.0),
        ((60, 40, 100, 80),),
    ),
    (
        "on-a-striped-ground",
        painted(striped(ground(160, 120)), ((60, 50, 100, 90), RED)),
        (80.0, 70.0),
        ((60, 50, 100, 90),),
    ),
    (
        "large-thing",
        painted(ground(160, 120), ((30, 20, 130, 100), RED)),
        (80.0, 60.0),
        ((30, 20, 130, 100),),
    ),
    (
        "one-of-two-alike",
        painted(ground(160, 120), ((30, 40, 60, 80), RED), ((90, 40, 120, 80), RED)),
        (45.0, 60.0),
        ((30, 40, 60, 80),),
    ),
]


@pytest.mark.parametrize(("rgb", "point", "boxes"), [pytest.param(*case, id=name) for name, *case in _CASES])
def test_a_thing_is_grown_from_a_point(
    rgb: RgbArray, point: tuple[float, float], boxes: tuple[Box, ...]
) -> None:
    assert iou(found(rgb, *point), area_of(rgb, *boxes)) > 0.85


def test_texture_against_texture() -> None:
    rng = np.random.default_rng(3)
    noise = cv2.resize(rng.normal(size=(15, 20, 3)), (160, 120), interpolation=cv2.INTER_CUBIC) * 25
    rgb = np.clip(ground(160, 120).astype(np.float64) + noise, 0, 255).astype(np.uint8)
    round_ = np.zeros((120, 160), np.uint8)
    cv2.circle(round_, (80, 60), 25, 1, -1)
    checks = np.where((np.indices((120, 160)) // 4).sum(axis=0)[..., None] % 2, RED, WHITE).astype(np.uint8)
    rgb[round_ > 0] = checks[round_ > 0]
    assert iou(found(rgb, 80, 60), round_ > 0) > 0.8


def test_a_point_on_plain_ground_gives_a_mask_that_holds_it() -> None:
    mask = found(ground(160, 120), 80, 60)
    assert mask[60, 80]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5)])
def test_pictures_of_a_few_pixels(size: tuple[int, int]) -> None:
    rgb = ground(*size)
    mask = found(rgb, size[0] - 0.5, size[1] - 0.5)
    assert mask[-1, -1]


@pytest.mark.parametrize(("x_px", "y_px"), [(0.0, 0.0), (160.0, 120.0), (159.99, 0.0)])
def test_points_on_the_outer_edge_of_the_picture(x_px: float, y_px: float) -> None:
    mask = found(ground(160, 120), x_px, y_px)
    assert mask[min(119, int(y_px)), min(159, int(x_px))]


def test_masks_have_the_size_of_the_source_when_frames_are_smaller() -> None:
    rgb = painted(ground(160, 120), ((60, 40, 100, 80), RED))
    mask = found(rgb, 321.0, 240.0, size_px=(641, 481))
    truth = cv2.resize(area_of(rgb, (60, 40, 100, 80)).astype(np.uint8), (641, 481)) > 0
    assert iou(mask, truth) > 0.9


@pytest.mark.slow
def test_a_large_picture_is_worked_on_small() -> None:
    rgb = painted(ground(1300, 700), ((500, 250, 800, 450), RED))
    walk = Region().start(width_px=1300, height_px=700)
    prepared = walk.prepare(frame(rgb))
    assert max(prepared.picture.shape) == WORKED_ON_PX
    assert iou(found(rgb, 650, 350), area_of(rgb, (500, 250, 800, 450))) > 0.95


@pytest.mark.slow
def test_another_point_keeps_two_touching_things_apart() -> None:
    rgb = painted(ground(160, 120), ((40, 40, 80, 80), RED), ((80, 40, 120, 80), BLUE))
    walk = Region().start(width_px=160, height_px=120)
    masks = walk.step(walk.prepare(frame(rgb)), [at(60, 60, 1), at(100, 60, 2)])
    assert iou(masks[1], area_of(rgb, (40, 40, 80, 80))) > 0.85
    assert iou(masks[2], area_of(rgb, (80, 40, 120, 80))) > 0.85


@pytest.mark.slow
def test_the_same_twice_and_whatever_opencv_was_told_before() -> None:
    rgb = painted(ground(160, 120), ((55, 40, 105, 80), RED), ((72, 52, 88, 68), BLUE))
    cv2.setRNGSeed(11)
    first = found(rgb, 80, 60)
    cv2.setRNGSeed(12)
    assert np.array_equal(first, found(rgb, 80, 60))


def test_it_is_found_by_name() -> None:
    segmenter = segmenter_named("region")
    assert isinstance(segmenter, Region)
    assert (segmenter.name, segmenter.from_both_ends) == ("region", True)


@pytest.mark.parametrize(
    ("size_hw", "box", "place"),
    [
        pytest.param((63, 36), (15, 1, 22, 52), (20.12, 37.18), id="upright"),
        pytest.param((66, 10), (6, 7, 9, 65), (6.65, 27.36), id="in-a-narrow-picture"),
    ],
)
def test_a_thing_as_long_as_the_picture_is_looked_at_again_without_a_word(
    size_hw: tuple[int, int], box: tuple[int, int, int, int], place: tuple[float, float]
) -> None:
    """Circles around it hold the whole picture, and nothing is left to compare with."""
    draw = np.random.default_rng(1)
    picture = draw.integers(90, 130, (*size_hw, 3)).astype(np.uint8)
    left, top, right, bottom = box
    picture[top:bottom, left:right] = (200, 60, 40)
    carried = np.zeros(size_hw, dtype=bool)
    carried[top:bottom, left:right] = True
    assert np.count_nonzero(grow_again(picture, place, carried) & carried) > 0.5 * carried.sum()

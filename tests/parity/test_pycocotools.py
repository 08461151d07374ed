"""Our run-length masks against COCO's own implementation."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from molmo2_ground.eval.metrics import jaccard
from molmo2_ground.rle import Rle

if importlib.util.find_spec("pycocotools") is None:
    pytest.skip("pycocotools is not installed: pip install '.[test]'", allow_module_level=True)

from pycocotools import mask as coco

# It copies arrays in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def random_mask(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise, boxes or nothing: runs of every length, and masks that touch the edges."""
    mask: np.ndarray = rng.random((height, width)) < rng.choice([0.0, 0.02, 0.5, 1.0])
    top, left = rng.integers(height), rng.integers(width)
    mask[top : top + rng.integers(height + 1), left : left + rng.integers(width + 1)] ^= True
    return mask


def test_strings_and_pixels_are_theirs() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        height, width = (int(side) for side in rng.integers(1, 90, size=2))
        mask = random_mask(rng, height, width)
        theirs = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
        ours = Rle.encode(mask)
        assert ours.counts == theirs["counts"]
        assert np.array_equal(Rle(size_hw=(height, width), counts=theirs["counts"]).decode(), mask)
        assert np.array_equal(
            coco.decode({"size": [height, width], "counts": ours.counts}).astype(bool), mask
        )
        assert ours.area_px == coco.area(theirs)


def test_long_runs_of_a_large_picture_are_theirs() -> None:
    mask = np.zeros((2160, 3840), dtype=bool)
    mask[100:2000, 1500:3839] = True
    mask[700, 2000] = False
    assert Rle.encode(mask).counts == coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]


def test_lists_of_runs_are_theirs() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        height, width = (int(side) for side in rng.integers(1, 40, size=2))
        runs = Rle.encode(random_mask(rng, height, width)).runs().tolist()
        theirs = coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)
        ours = Rle.from_coco({"size": [height, width], "counts": runs})
        assert np.array_equal(ours.decode(), coco.decode(theirs).astype(bool))


def test_region_similarity_is_their_overlap() -> None:
    rng = np.random.default_rng(6)
    for _ in range(100):
        one, other = random_mask(rng, 30, 40), random_mask(rng, 30, 40)
        if not (one.any() or other.any()):
            continue
        encoded = [coco.encode(np.asfortranarray(m, dtype=np.uint8)) for m in (one, other)]
        theirs = coco.iou([encoded[0]], [encoded[1]], [0])[0, 0]
        assert jaccard(Rle.encode(one), other) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.slow
def test_overlaps_and_boxes_are_theirs() -> None:
    rng = np.random.default_rng(6)
    for _ in range(100):
        height, width = (int(side) for side in rng.integers(1, 60, size=2))
        masks = [random_mask(rng, height, width) for _ in range(2)]
        theirs = [coco.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
        one, other = (Rle.encode(mask) for mask in masks)
        if one.area_px and other.area_px:
            assert one.iou(other) == pytest.approx(coco.iou([theirs[0]], [theirs[1]], [0])[0, 0], abs=1e-12)
        if one.box_px is not None:
            left, top, right, bottom = one.box_px
            assert coco.toBbox(theirs[0]).tolist() == [left, top, right - left, bottom - top]

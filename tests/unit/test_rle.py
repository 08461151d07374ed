from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from molmo2_ground.rle import Rle

FIXED = settings(derandomize=True, deadline=None)
MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=24))


@pytest.mark.slow
@FIXED
@given(MASKS)
def test_what_is_encoded_comes_back(mask: np.ndarray) -> None:
    rle = Rle.encode(mask)
    assert np.array_equal(rle.decode(), mask)
    assert rle.area_px == mask.sum()
    again = Rle.from_coco(json.loads(json.dumps(rle.to_coco())))
    assert again == rle


@pytest.mark.slow
@FIXED
@given(MASKS)
def test_the_runs_as_numbers_are_the_same_mask(mask: np.ndarray) -> None:
    rle = Rle.encode(mask)
    plain = Rle.from_coco({"size": list(mask.shape), "counts": rle.runs().tolist()})
    assert np.array_equal(plain.decode(), mask)
    assert plain.to_coco()["counts"] == rle.runs().tolist()


@pytest.mark.slow
@FIXED
@given(MASKS, st.integers(-2, 26), st.integers(-2, 26))
def test_one_pixel_is_found_without_decoding(mask: np.ndarray, column: int, row: int) -> None:
    height, width = mask.shape
    inside = 0 <= column < width and 0 <= row < height
    assert Rle.encode(mask).covers(column, row) == (inside and bool(mask[row, column]))


@pytest.mark.slow
@FIXED
@given(MASKS)
def test_the_object_alone_is_cut_out_of_the_whole_mask(mask: np.ndarray) -> None:
    crop = Rle.encode(mask).crop()
    assert (crop is None) == (not mask.any())
    if crop is not None:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert (crop.top_px, crop.left_px) == (rows[0], columns[0])
        assert np.array_equal(crop.inside, mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def test_runs_of_no_length_do_not_widen_the_cut() -> None:
    crop = Rle(size_hw=(4, 3), counts=(0, 0, 5, 2, 1, 0, 4)).crop()
    assert crop is not None
    assert (crop.left_px, crop.top_px, crop.inside.tolist()) == (1, 1, [[True], [True]])


@pytest.mark.slow
@FIXED
@given(MASKS)
def test_the_box_holds_the_object_and_no_more(mask: np.ndarray) -> None:
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if rows.size else None
    assert Rle.encode(mask).box_px == box


@pytest.mark.slow
@FIXED
@given(arrays.arrays(bool, st.tuples(st.just(2), st.integers(1, 12), st.integers(1, 12))))
def test_what_two_masks_share_is_counted_without_decoding(pair: np.ndarray) -> None:
    one, other = Rle.encode(pair[0]), Rle.encode(pair[1])
    shared, covered = int((pair[0] & pair[1]).sum()), int((pair[0] | pair[1]).sum())
    assert one.overlap_px(other) == shared
    assert one.iou(other) == (shared / covered if covered else 1.0)


def test_runs_of_no_length_change_nothing() -> None:
    odd = Rle(size_hw=(2, 3), counts=(0, 0, 1, 2, 0, 0, 3))
    rows, columns = np.nonzero(odd.decode())
    assert odd.box_px == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert odd.overlap_px(Rle.encode(odd.decode())) == odd.area_px


def test_masks_of_different_pictures_are_not_compared() -> None:
    with pytest.raises(ValueError, match="one size"):
        Rle.encode(np.ones((2, 3), dtype=bool)).iou(Rle.encode(np.ones((3, 2), dtype=bool)))


def test_runs_go_down_the_columns_and_begin_with_background() -> None:
    mask = np.array([[True, False], [True, True]])
    assert Rle.encode(mask).runs().tolist() == [0, 2, 1, 1]
    assert Rle.encode(np.zeros((2, 3), dtype=bool)).runs().tolist() == [6]
    assert Rle.encode(np.ones((2, 3), dtype=bool)).runs().tolist() == [0, 6]


def test_a_run_that_shrinks_is_a_negative_difference() -> None:
    rle = Rle(size_hw=(1000, 10), counts=(5000, 3000, 20, 7, 1973))
    again = Rle.encode(rle.decode())
    assert again.runs().tolist() == [5000, 3000, 20, 7, 1973]


GOOD = Rle.encode(np.eye(40, dtype=bool)).counts
assert isinstance(GOOD, bytes)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param(
            {"size": [2, 2], "counts": [1, 1]}, "cover 2 pixels; expected 2 x 2 = 4", id="too-short"
        ),
        pytest.param({"size": [2, 2], "counts": [1, 9]}, "cover 10 pixels", id="too-long"),
        pytest.param({"size": [2, 2], "counts": [5, -1]}, "run 1 of a mask is -1 pixels", id="negative"),
        pytest.param({"size": [2, 2], "counts": []}, "cover 0 pixels", id="no-runs"),
        pytest.param({"size": [2, 2], "counts": ""}, "cover 0 pixels", id="no-string"),
        pytest.param({"size": [40, 40], "counts": GOOD[:-2].decode()}, "cover", id="cut-between-numbers"),
        pytest.param({"size": [9, 9], "counts": "QT"}, "ends within a number", id="cut-in-a-number"),
        pytest.param(
            {"size": [2, 2], "counts": "4 "}, "character 1 of a compressed mask is b' '", id="space"
        ),
        pytest.param({"size": [2, 2], "counts": "4~"}, "character 1", id="beyond-the-alphabet"),
        pytest.param({"size": [2, 2], "counts": "4ä"}, "plain ASCII", id="not-ascii"),
        pytest.param({"size": [2, 2], "counts": "P" * 30 + "0"}, "31 characters long", id="endless-number"),
        pytest.param({"size": [2, 2], "counts": [1.5, 2.5]}, "whole numbers", id="fractions"),
        pytest.param({"size": [2, 2], "counts": 4}, "a string or a list", id="a-number"),
        pytest.param({"size": [2], "counts": "4"}, "[height, width]", id="size-of-one"),
        pytest.param({"size": [0, 4], "counts": [0]}, "both at least 1", id="no-height"),
        pytest.param({"counts": "4"}, "the fields size and counts", id="no-size"),
        pytest.param(None, "the fields size and counts", id="null"),
    ],
)
def test_what_is_no_mask_says_why(record: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="mask") as caught:
        Rle.from_coco(record).decode()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mask_has_two_sides() -> None:
    with pytest.raises(ValueError, match=r"bool\[height, width\]"):
        Rle.encode(np.zeros((2, 2, 1), dtype=bool))

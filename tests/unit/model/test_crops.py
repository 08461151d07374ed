from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.model.crops import (
    canvas_grid,
    choose_tiling,
    high_res_grid,
    image_tiling,
    patch_image,
    patches_of,
    pooling_windows,
    resize_rgb,
)
from molmo2_ground.model.flags import InputFlags

FlagsOf = Callable[..., InputFlags]


@pytest.mark.parametrize(
    ("height", "width", "tiling", "grid"),
    [
        pytest.param(378, 378, (1, 1), (14, 14), id="square"),
        pytest.param(100, 80, (1, 1), (14, 14), id="smaller-than-the-margins"),
        pytest.param(112, 112, (1, 1), (14, 14), id="nothing-but-margins"),
        pytest.param(354, 536, (1, 2), (14, 23), id="wide"),
        pytest.param(480, 640, (2, 2), (23, 23), id="vga"),
        pytest.param(1024, 1024, (2, 2), (23, 23), id="large-square"),
        pytest.param(3000, 4000, (2, 3), (23, 33), id="photo"),
        pytest.param(720, 1280, (2, 4), (23, 42), id="720p"),
        pytest.param(1080, 1920, (2, 4), (23, 42), id="1080p"),
        pytest.param(2000, 300, (8, 1), (80, 14), id="tall"),
    ],
)
def test_tiling_of_the_released_settings(
    height: int, width: int, tiling: tuple[int, int], grid: tuple[int, int], flags_of: FlagsOf
) -> None:
    flags = flags_of("qwen-4b")
    assert image_tiling(height, width, flags=flags, max_crops=8) == tiling
    assert high_res_grid(*tiling, flags=flags) == grid


@pytest.mark.slow
@given(st.integers(-100, 5000), st.integers(-100, 5000), st.integers(1, 24))
def test_tiling_keeps_to_the_number_of_crops(height: int, width: int, crops: int) -> None:
    rows, cols = choose_tiling(height, width, window_px=266, max_crops=crops)
    assert rows >= 1
    assert cols >= 1
    assert rows * cols <= crops


@pytest.mark.parametrize(
    ("margins", "rows", "cols"),
    [((4, 4), 2, 3), ((1, 2), 3, 1), ((0, 0), 2, 2), ((0, 3), 1, 4)],
    ids=["released", "uneven", "none", "one-side"],
)
def test_every_canvas_patch_comes_from_the_crop_that_shows_it(
    margins: tuple[int, int], rows: int, cols: int, flags_of: FlagsOf
) -> None:
    flags = flags_of("qwen", image_size_px=14 * 9, overlap_margins=margins)
    side, step = flags.patches_per_side, flags.patches_per_side - sum(margins)
    grid = canvas_grid(rows, cols, flags=flags)
    assert grid.shape == (rows * step + sum(margins), cols * step + sum(margins))
    assert len(np.unique(grid)) == grid.size
    for (y, x), index in np.ndenumerate(grid):
        crop, inside = divmod(int(index), side * side)
        crop_row, crop_col = divmod(crop, cols)
        assert (crop_row * step + inside // side, crop_col * step + inside % side) == (y, x)


def test_windows_are_padded_at_the_bottom_and_right_when_odd() -> None:
    windows, grid = pooling_windows(np.arange(15).reshape(3, 5), pooling=(2, 3))
    assert grid == (2, 2)
    assert windows.tolist() == [
        [0, 1, 2, 5, 6, 7],
        [3, 4, -1, 8, 9, -1],
        [10, 11, 12, -1, -1, -1],
        [13, 14, -1, -1, -1, -1],
    ]


def test_a_padding_of_two_is_shared_by_both_sides() -> None:
    windows, _ = pooling_windows(np.arange(4).reshape(1, 4), pooling=(1, 6))
    assert windows.tolist() == [[-1, 0, 1, 2, 3, -1]]


def test_patches_keep_row_column_channel_order() -> None:
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(1, 4, 6, 3)
    patches = patches_of(picture, patch_size_px=2)
    assert patches.shape == (1, 6, 12)
    assert patches[0, 1].tolist() == picture[0, 0:2, 2:4].reshape(-1).tolist()
    assert patches[0, 3].tolist() == picture[0, 2:4, 0:2].reshape(-1).tolist()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=30)
def test_resize_is_bilinear_between_pixel_centres(h: int, w: int, height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    resized = resize_rgb(picture, height_px=height, width_px=width)
    assert resized.shape == (height, width, 3)
    assert resized.dtype == np.uint8
    for y in range(height):
        for x in range(width):
            source_y = min(max((y + 0.5) * h / height - 0.5, 0), h - 1)
            source_x = min(max((x + 0.5) * w / width - 0.5, 0), w - 1)
            y0, x0 = int(source_y), int(source_x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            fy, fx = source_y - y0, source_x - x0
            top = picture[y0, x0] * (1 - fx) + picture[y0, x1] * fx
            bottom = picture[y1, x0] * (1 - fx) + picture[y1, x1] * fx
            # Half a grey level for rounding, and a little for float32.
            assert np.abs(resized[y, x] - (top * (1 - fy) + bottom * fy)).max() <= 0.501


@pytest.mark.parametrize(("from_hw", "to_hw"), [((480, 854), (378, 378)), ((100, 150), (378, 378))])
def test_resize_gives_the_same_bytes_with_any_number_of_threads(
    from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*from_hw, 3), dtype=np.uint8)
    before = torch.get_num_threads()
    by_threads = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            by_threads.append(resize_rgb(picture, height_px=to_hw[0], width_px=to_hw[1]))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(by_threads[0], by_threads[1])
    assert np.array_equal(by_threads[0], by_threads[2])


def test_resize_leaves_a_picture_of_the_right_size_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    assert resize_rgb(picture, height_px=8, width_px=6) is picture


def test_a_small_image_is_its_own_only_crop(flags_of: FlagsOf) -> None:
    flags = flags_of("qwen")
    image = patch_image(np.full((20, 30, 3), 7, dtype=np.uint8), flags=flags, max_crops=8)
    assert image.patches_CNP.shape == (2, 36, 588)
    assert np.array_equal(image.patches_CNP[0], image.patches_CNP[1])
    assert image.low_res_grid == image.high_res_grid == (3, 3)
    assert image.pooling_TK.shape == (18, 4)
    assert image.pooling_TK[9:].min() == 36


def test_a_cropped_image_uses_every_patch_of_the_canvas_once(flags_of: FlagsOf) -> None:
    flags = flags_of("qwen")
    image = patch_image(np.zeros((150, 220, 3), np.uint8), flags=flags, max_crops=24)
    rows, cols = image_tiling(150, 220, flags=flags, max_crops=24)
    assert rows * cols > 8
    used = image.pooling_TK[9:]
    used = used[used >= 0]
    assert len(np.unique(used)) == len(used) == canvas_grid(rows, cols, flags=flags).size
    assert used.max() < len(image.patches_CNP) * 36

"""Pictures to patches: the exact resize, the tiling of large images, and which patches one token stands for.

Shapes: H, W pixels; C crops; N patches of a crop, row by row; P bytes of a patch (row, column, channel);
T tokens; K patches of a token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from molmo2_ground.clip import RgbArray
from molmo2_ground.model.flags import InputFlags

IndexArray = npt.NDArray[np.int64]


def resize_rgb(rgb_hwc: RgbArray, *, height_px: int, width_px: int) -> RgbArray:
    """Stretch a picture exactly as the model's training did: bilinear, no antialiasing, rounded to uint8.

    Antialiased resizing (Pillow, `INTER_AREA`) gives a smoother picture that the model was never shown.
    """
    if rgb_hwc.shape[:2] == (height_px, width_px):
        return rgb_hwc
    pixels = torch.from_numpy(cv2.cvtColor(np.ascontiguousarray(rgb_hwc), cv2.COLOR_RGB2RGBA)).float()
    resized = resize_float(pixels, height_px=height_px, width_px=width_px)[..., :3]
    result: RgbArray = resized.round_().clamp_(0, 255).to(torch.uint8).contiguous().numpy()
    return result


def resize_float(pixels_HW4: torch.Tensor, *, height_px: int, width_px: int) -> torch.Tensor:
    """Stretch float32[h, w, 4] to float32[height_px, width_px, 4], before rounding.

    Pictures of three channels go to one of two kernels of torch, by the number of threads, and the two round
    a few values differently. With a fourth it is the same kernel everywhere: the one that a process with one
    thread, such as a loader's worker, uses for three.
    """
    channels_first = pixels_HW4.permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        channels_first, size=(height_px, width_px), mode="bilinear", antialias=False
    )
    return resized[0].permute(1, 2, 0)


def choose_tiling(height_px: int, width_px: int, *, window_px: int, max_crops: int) -> tuple[int, int]:
    """Rows and columns of crops for an image whose margins are already taken off.

    The smallest enlargement that fits at most `max_crops` windows; when every choice shrinks the image, the
    one that shrinks it least. Sizes may be zero or negative for images smaller than the margins.
    """
    tilings = [
        (rows, cols)
        for rows in range(1, max_crops + 1)
        for cols in range(1, max_crops + 1)
        if rows * cols <= max_crops
    ]
    tilings.sort(key=lambda tiling: (tiling[0] * tiling[1], tiling[0]))
    canvas = np.array(tilings, dtype=np.float32) * np.float32(window_px)
    # float32 and its infinities decide ties the way training decided them.
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (canvas / np.array([height_px, width_px], dtype=np.float32)).min(axis=1)
    if (scale < 1).all():
        return tilings[int(scale.argmax())]
    return tilings[int(np.where(scale < 1, np.float32(1e10), scale).argmin())]


def image_tiling(height_px: int, width_px: int, *, flags: InputFlags, max_crops: int) -> tuple[int, int]:
    """Rows and columns of high-resolution crops for an image of this size."""
    return choose_tiling(
        height_px - flags.margin_px,
        width_px - flags.margin_px,
        window_px=flags.window_px,
        max_crops=max_crops,
    )


def patches_of(rgb_chwc: RgbArray, *, patch_size_px: int) -> RgbArray:
    """Cut crops uint8[C, H, W, 3] into patches uint8[C, N, P]."""
    count, height, width, channels = rgb_chwc.shape
    rows, cols = height // patch_size_px, width // patch_size_px
    cut = rgb_chwc.reshape(count, rows, patch_size_px, cols, patch_size_px, channels).swapaxes(2, 3)
    return cut.reshape(count, rows * cols, patch_size_px * patch_size_px * channels)


def pooling_windows(
    index_grid: IndexArray, *, pooling: tuple[int, int]
) -> tuple[IndexArray, tuple[int, int]]:
    """Group a grid of patch indices int64[rows, cols] into windows.

    Returns int64[T, K] with -1 where a window reaches over the edge, and the (rows, cols) of tokens.
    An odd remainder of padding goes to the bottom and to the right.
    """
    pads = []
    for size, step in zip(index_grid.shape, pooling, strict=True):
        missing = -size % step
        pads.append((missing // 2, missing - missing // 2))
    padded = np.pad(index_grid, pads, constant_values=-1)
    rows, cols = padded.shape[0] // pooling[0], padded.shape[1] // pooling[1]
    windows = padded.reshape(rows, pooling[0], cols, pooling[1]).swapaxes(1, 2)
    return windows.reshape(rows * cols, pooling[0] * pooling[1]), (rows, cols)


def square_grid(flags: InputFlags) -> IndexArray:
    """Patch indices of one crop or frame, int64[side, side]."""
    side = flags.patches_per_side
    return np.arange(side * side, dtype=np.int64).reshape(side, side)


def canvas_grid(rows: int, cols: int, *, flags: InputFlags) -> IndexArray:
    """For each patch of the tiled canvas, its index among the patches of all rows × cols crops.

    Where crops overlap, each gives up its margin to its neighbour, so that every patch of the canvas comes
    from one crop. int64[canvas rows, canvas cols].
    """
    side = flags.patches_per_side
    before, after = flags.overlap_margins
    grid = np.arange(rows * cols * side * side, dtype=np.int64).reshape(rows, cols, side, side)
    kept_rows = []
    for row in range(rows):
        top = before if row > 0 else 0
        bottom = side - (after if row < rows - 1 else 0)
        kept = [
            grid[
                row,
                col,
                top:bottom,
                (before if col > 0 else 0) : side - (after if col < cols - 1 else 0),
            ]
            for col in range(cols)
        ]
        kept_rows.append(np.concatenate(kept, axis=1))
    return np.concatenate(kept_rows, axis=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchedImage:
    """One still image ready for the vision tower.

    patches_CNP   uint8: the whole image first, then its crops row by row.
    pooling_TK    int64: patches of each token, counted over this image's crops; -1 is padding.
    low_res_grid  rows, cols of tokens of the whole image; its tokens come first.
    high_res_grid rows, cols of tokens of the tiled view.
    """

    patches_CNP: RgbArray
    pooling_TK: IndexArray
    low_res_grid: tuple[int, int]
    high_res_grid: tuple[int, int]


def patch_image(rgb_hwc: RgbArray, *, flags: InputFlags, max_crops: int) -> PatchedImage:
    """Cut one still image into its whole view and its overlapping high-resolution crops."""
    size = flags.image_size_px
    rows, cols = image_tiling(rgb_hwc.shape[0], rgb_hwc.shape[1], flags=flags, max_crops=max_crops)
    canvas = resize_rgb(
        rgb_hwc,
        height_px=rows * flags.window_px + flags.margin_px,
        width_px=cols * flags.window_px + flags.margin_px,
    )
    step = flags.window_px
    crops = [
        canvas[row * step : row * step + size, col * step : col * step + size]
        for row in range(rows)
        for col in range(cols)
    ]
    whole = resize_rgb(rgb_hwc, height_px=size, width_px=size)
    patches = patches_of(np.stack([whole, *crops]), patch_size_px=flags.patch_size_px)
    low, low_grid = pooling_windows(square_grid(flags), pooling=flags.image_pooling)
    high, high_grid = pooling_windows(canvas_grid(rows, cols, flags=flags), pooling=flags.image_pooling)
    high = np.where(high >= 0, high + flags.patches_per_side**2, high)
    return PatchedImage(
        patches_CNP=patches,
        pooling_TK=np.concatenate([low, high]),
        low_res_grid=low_grid,
        high_res_grid=high_grid,
    )


def high_res_grid(rows: int, cols: int, *, flags: InputFlags) -> tuple[int, int]:
    """Rows, cols of tokens of the tiled view of rows × cols crops."""
    margin = sum(flags.overlap_margins)
    window = flags.patches_per_side - margin
    return (
        math.ceil((rows * window + margin) / flags.image_pooling[0]),
        math.ceil((cols * window + margin) / flags.image_pooling[1]),
    )

"""Drawn shapes as places: outlines and CVAT's runs become masks, a turned box the box around it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import shapely

from molmo2_ground.export.marks import Box
from molmo2_ground.rle import Rle

# Large enough for any camera, small enough to be held in memory.
_MOST_PIXELS = 1 << 28


def check_picture(size_px: tuple[int, int]) -> None:
    """Raises `ValueError` for the size of no picture."""
    width, height = size_px
    if width < 1 or height < 1 or width * height > _MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels is no size of a picture that can be held")


def mask_of_outlines(outlines: Sequence[Sequence[float]], size_px: tuple[int, int]) -> Rle:
    """The pixels whose middle lies in one of the outlines [x, y, x, y, …], pixels; the inverse of `polygon`.

    Raises `ValueError` for an outline of fewer than three corners, or numbers that are none.
    """
    check_picture(size_px)
    width, height = size_px
    mask = np.zeros((height, width), dtype=bool)
    for outline in outlines:
        corners = np.array(outline, dtype=np.float64)
        if corners.ndim != 1 or corners.size < 6 or corners.size % 2 or not np.isfinite(corners).all():
            raise ValueError(
                f"an outline has three corners or more, x and y of each; got {len(outline)} numbers"
            )
        points = corners.reshape(-1, 2)
        polygon = shapely.make_valid(shapely.Polygon(points))
        left, top = (max(0, math.floor(edge)) for edge in points.min(axis=0))
        right, bottom = (
            min(limit, math.ceil(edge)) for limit, edge in zip(size_px, points.max(axis=0), strict=True)
        )
        if left >= right or top >= bottom:
            continue
        columns, rows = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
        mask[top:bottom, left:right] |= shapely.contains_xy(polygon, columns, rows)
    return Rle.encode(mask)


def mask_of_runs(runs: Sequence[int], box: tuple[int, int, int, int], size_px: tuple[int, int]) -> Rle:
    """A mask of runs along the rows of a box (left, top, width, height), background first, as CVAT writes it.

    Raises `ValueError` when the runs do not fill the box or the box leaves the picture.
    """
    check_picture(size_px)
    left, top, width, height = box
    picture_width, picture_height = size_px
    if left < 0 or top < 0 or width < 1 or height < 1:
        raise ValueError(f"a mask's box has a place in the picture and a size; got {box}")
    if left + width > picture_width or top + height > picture_height:
        raise ValueError(
            f"the mask's box {box} leaves the picture of {picture_width} x {picture_height} pixels"
        )
    lengths = np.array(runs, dtype=np.int64)
    if lengths.size == 0 or lengths.min() < 0 or int(lengths.sum()) != width * height:
        raise ValueError(f"the runs of a mask cover {int(lengths.sum())} pixels; expected {width} x {height}")
    inside = np.repeat(np.arange(lengths.size) % 2 == 1, lengths).reshape(height, width)
    mask = np.zeros((picture_height, picture_width), dtype=bool)
    mask[top : top + height, left : left + width] = inside
    return Rle.encode(mask)


def box_around(box: Box, *, degrees: float, pivot: tuple[float, float]) -> Box:
    """The upright box around one that is turned clockwise, as a player shows it, about a point."""
    left, top, right, bottom = box
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [
        (
            pivot[0] + (x - pivot[0]) * cosine - (y - pivot[1]) * sine,
            pivot[1] + (x - pivot[0]) * sine + (y - pivot[1]) * cosine,
        )
        for x in (left, right)
        for y in (top, bottom)
    ]
    across, down = zip(*corners, strict=True)
    return min(across), min(down), max(across), max(down)

"""A point that surely lies inside a mask or a box, for annotations that hold no points.

Where in the thing it lies is said by `at`, two numbers from 0 to 1, across and down: the same `at` in all
frames of a video gives a point that stays on the same part of the thing. Pixels are those of the picture,
(0, 0) the outer corner of the top left one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from molmo2_ground.thousandths import FULL

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

MIDDLE = (0.5, 0.5)
# A point is drawn where a square of this share of the largest one that fits still fits: off the edges, and
# not always at the one deepest place.
_DEEP_SHARE = 0.6


def mask_point(
    mask: BoolArray, *, size_px: tuple[float, float] | None = None, at: tuple[float, float] = MIDDLE
) -> tuple[float, float] | None:
    """The middle of a pixel of the mask, away from its edges where it is wide; None for an empty mask.

    mask     bool[height, width].
    size_px  (width, height) of the picture that the mask lies on, when the mask has another size.
    at       the place among the deep pixels, across and down.

    A pixel is preferred that is still inside after its place is rounded to thousandths of the picture.
    """
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    height, width = mask.shape
    size = (float(width), float(height)) if size_px is None else size_px
    top, left = int(rows[0]), int(cols[0])
    part = mask[top : rows[-1] + 1, left : cols[-1] + 1]
    squares = _Squares(part)
    reach = int(_DEEP_SHARE * squares.largest())
    for smaller in dict.fromkeys((reach, reach // 2, 0)):
        places = np.argwhere(squares.fit(smaller)) + np.array([top, left])
        written = places[_inside_as_written(places, mask)]
        if len(written):
            return _pixel_middle(_nearest(written, at), mask, size)
    # Thinner everywhere than what a thousandth can tell apart: inside as it is, perhaps not as it is written.
    return _pixel_middle(_nearest(np.argwhere(mask), at), mask, size)


def box_point(
    box_px: tuple[float, float, float, float],
    *,
    size_px: tuple[float, float],
    at: tuple[float, float] = MIDDLE,
) -> tuple[float, float] | None:
    """A point in the inner half of what the picture shows of a box; None when it shows nothing of it.

    box_px   (left, top, right, bottom), pixels. size_px: (width, height) of the picture.
    at       (0.5, 0.5) is the middle of the box.
    """
    left, right = max(box_px[0], 0.0), min(box_px[2], size_px[0])
    top, bottom = max(box_px[1], 0.0), min(box_px[3], size_px[1])
    if not (left < right and top < bottom):
        return None
    across, down = (0.25 + 0.5 * share for share in at)
    return left + across * (right - left), top + down * (bottom - top)


class _Squares:
    """Which squares fit into a mask, from one table of sums; outside the picture nothing does."""

    def __init__(self, mask: BoolArray) -> None:
        self.mask = mask
        self.sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
        self.sums[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)

    def fit(self, reach: int) -> BoolArray:
        """bool[h, w]: pixels whose square of 2 · reach + 1 pixels a side lies inside the mask as a whole."""
        if reach == 0:
            return self.mask
        height, width = self.mask.shape
        side = 2 * reach + 1
        fitting = np.zeros((height, width), dtype=np.bool_)
        if side <= height and side <= width:
            s = self.sums
            counts = s[side:, side:] - s[:-side, side:] - s[side:, :-side] + s[:-side, :-side]
            fitting[reach : height - reach, reach : width - reach] = counts == side * side
        return fitting

    def largest(self) -> int:
        """The largest reach that fits anywhere, by halving: what fits large fits small too."""
        fits, too_large = 0, (min(self.mask.shape) + 1) // 2 + 1
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            if self.fit(middle).any():
                fits = middle
            else:
                too_large = middle
        return fits


def _inside_as_written(places: IntArray, mask: BoolArray) -> BoolArray:
    """bool[n]: pixels (row, column) of the mask whose middle is inside it after rounding to thousandths."""
    sides = np.array(mask.shape)
    read = np.rint(FULL * (places + 0.5) / sides) * sides / FULL
    pixels = np.minimum(np.floor(read), sides - 1).astype(np.int64)
    inside: BoolArray = mask[pixels[:, 0], pixels[:, 1]]
    return inside


def _nearest(places: IntArray, at: tuple[float, float]) -> tuple[int, int]:
    """The pixel (row, column) nearest to the place that `at` names in what they span; the first of equals."""
    lowest, highest = places.min(axis=0), places.max(axis=0)
    wanted = lowest + np.array([at[1], at[0]]) * (highest - lowest)
    row, col = places[int(((places - wanted) ** 2).sum(axis=1).argmin())]
    return int(row), int(col)


def _pixel_middle(
    pixel: tuple[int, int], mask: BoolArray, size_px: tuple[float, float]
) -> tuple[float, float]:
    height, width = mask.shape
    return (pixel[1] + 0.5) * size_px[0] / width, (pixel[0] + 0.5) * size_px[1] / height

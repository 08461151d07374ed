"""`Newcomers`: something moves where nothing is followed; told from two small gray pictures."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.masks.point_flow import Gray

BLOCK_PX = 8
"""Pictures are compared in squares of so many pixels of a thumbnail: a twentieth of its width."""
MOVED_LEVELS = 18
"""A pixel has changed when it differs by more than this, of 255: noise and a codec's blocks stay below."""
MOVED_SHARE = 0.25
"""A square has changed when this share of its pixels has."""
CAMERA_SHARE = 0.4
"""When more of the picture than this has changed, the camera moved or the light did."""
FOLLOWED_NORM = 0.12
"""What changes this near to a place that is followed, shares of the picture, is the thing followed itself."""


class Newcomers:
    """Compares sampled pictures, one with the next."""

    def __init__(self) -> None:
        self._before: Gray | None = None
        self._followed: list[tuple[float, float]] = []

    def take(self, thumb: Gray, followed: Iterable[tuple[float, float]]) -> bool:
        """True when something changed away from every place followed, here and in the picture before.

        followed: shares of width and height.
        """
        before, places_before = self._before, self._followed
        self._before, self._followed = thumb, list(followed)
        if before is None or before.shape != thumb.shape:
            return False
        moved = _moved(before, thumb)
        if not 0 < float(moved.mean()) <= CAMERA_SHARE:
            return False
        rows, columns = np.nonzero(moved)
        height, width = thumb.shape
        middles = (np.stack([columns, rows], axis=1) + 0.5) * BLOCK_PX / (width, height)
        known = [*self._followed, *places_before]
        if not known:
            return True
        apart = np.linalg.norm(middles[:, None] - np.array(known)[None], axis=2).min(axis=1)
        return bool((apart > FOLLOWED_NORM).any())

    def restart(self) -> None:
        """The next picture has none before it."""
        self._before, self._followed = None, []


def _moved(before: Gray, after: Gray) -> npt.NDArray[np.bool_]:
    """bool[rows, columns] of squares; what is cut off at the right and bottom is left out."""
    differs = cv2.absdiff(before, after) > MOVED_LEVELS
    rows, columns = differs.shape[0] // BLOCK_PX, differs.shape[1] // BLOCK_PX
    squares = differs[: rows * BLOCK_PX, : columns * BLOCK_PX].reshape(rows, BLOCK_PX, columns, BLOCK_PX)
    moved: npt.NDArray[np.bool_] = squares.mean(axis=(1, 3)) > MOVED_SHARE
    return moved

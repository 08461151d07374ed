"""`Homography`: from pixels of the picture to metres on the ground."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, field_validator

from molmo2_ground.analytics.zone import Coordinates

FloatArray = npt.NDArray[np.float64]
LEAST_PAIRS = 4
# Below this share of the largest, a singular value is noise of rounding.
_NOTHING = 1e-9

Row = tuple[float, float, float]


class Homography(BaseModel):
    """A plane seen by a camera that stands still and has no distortion to speak of.

    matrix  3x3, rows first: (x_px, y_px, 1) to (X, Y, w); the place is (X / w, Y / w) metres.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    matrix: tuple[Row, Row, Row]

    @field_validator("matrix")
    @classmethod
    def _can_be_undone(cls, matrix: tuple[Row, Row, Row]) -> tuple[Row, Row, Row]:
        values = np.linalg.svd(np.array(matrix), compute_uv=False)
        # A matrix from pixels to metres has entries of very different size: ask for rank, not for condition.
        if values[-1] <= np.finfo(np.float64).eps * values[0]:
            raise ValueError("a homography's matrix has an inverse; this one puts the plane on a line")
        return matrix

    @classmethod
    def from_pairs(cls, image_px: Sequence[Coordinates], ground_m: Sequence[Coordinates]) -> Self:
        """The homography that takes places of the picture (pixels) to places on the ground (metres).

        At least 4 pairs, no three of 4 on one line; of more the best fit in the sense of the normalised
        direct linear transform (Hartley and Zisserman, "Multiple View Geometry", 2nd edition, algorithm 4.2).
        Raises `ValueError` for too few pairs, pairs that do not fix a homography, and places on the ground
        that cannot all lie before the camera.
        """
        if len(image_px) != len(ground_m) or len(image_px) < LEAST_PAIRS:
            raise ValueError(
                f"a homography needs at least {LEAST_PAIRS} pairs of places; "
                f"got {len(image_px)} in the picture and {len(ground_m)} on the ground"
            )
        image, to_image = _normalised(np.asarray(image_px, dtype=np.float64))
        ground, to_ground = _normalised(np.asarray(ground_m, dtype=np.float64))
        rows = []
        for (x, y), (u, v) in zip(image, ground, strict=True):
            rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, -u])
            rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, -v])
        _, values, vectors = np.linalg.svd(np.array(rows))
        if values[7] <= _NOTHING * values[0]:
            raise ValueError("these pairs do not fix a homography: too many lie on one line or coincide")
        between = vectors[8].reshape(3, 3)
        spread = np.linalg.svd(between, compute_uv=False)
        if spread[2] <= _NOTHING * spread[0]:
            raise ValueError("these pairs do not fix a homography: three of four lie on one line")
        matrix = np.linalg.inv(to_ground) @ between @ to_image
        depth = np.column_stack([np.asarray(image_px, dtype=np.float64), np.ones(len(image_px))]) @ matrix[2]
        if depth.min() < 0 < depth.max():
            raise ValueError("these pairs put the horizon between the places: a pair is swapped or mistyped")
        if depth.max() <= 0:
            matrix = -matrix
        scaled = matrix / np.abs(matrix).max()
        return cls(matrix=tuple(tuple(float(value) for value in row) for row in scaled))

    @cached_property
    def _array(self) -> FloatArray:
        return np.array(self.matrix, dtype=np.float64)

    def ground_m(self, xy_px: FloatArray) -> FloatArray:
        """float64[n, 2] pixels to float64[n, 2] metres; NaN for places on the horizon."""
        homogeneous = np.column_stack([xy_px, np.ones(len(xy_px))]) @ self._array.T
        depth = homogeneous[:, 2:]
        near_horizon = np.abs(depth) <= _NOTHING * np.abs(self._array[2]).max()
        return np.where(near_horizon, np.nan, homogeneous[:, :2] / np.where(near_horizon, 1.0, depth))

    def same_side(self, xy_px: FloatArray) -> bool:
        """True when no horizon lies between these places (pixels): a way between them has a length."""
        depth = np.column_stack([xy_px, np.ones(len(xy_px))]) @ self._array[2]
        return bool((depth > 0).all() or (depth < 0).all())


def _normalised(places: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The places moved to the origin and to a mean distance of √2, and the 3x3 matrix that did it."""
    middle = places.mean(axis=0)
    spread = float(np.linalg.norm(places - middle, axis=1).mean())
    if spread == 0:
        raise ValueError("these pairs do not fix a homography: all places coincide")
    scale = np.sqrt(2) / spread
    matrix = np.array([[scale, 0, -scale * middle[0]], [0, scale, -scale * middle[1]], [0, 0, 1]])
    return (places - middle) * scale, matrix

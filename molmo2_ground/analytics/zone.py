"""`Zone`: a named part of the picture."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import numpy as np
import numpy.typing as npt
import shapely
from pydantic import BaseModel, ConfigDict, Field, field_validator
from shapely.geometry import Polygon
from shapely.validation import explain_validity

Coordinates = tuple[float, float]
Name = Annotated[str, Field(min_length=1, max_length=80)]

LEAST_CORNERS = 3


class Zone(BaseModel):
    """A polygon that does not cross itself; its border belongs to it.

    polygon  (x, y) of the corners in order, either way round, pixels of the source picture (or shares of
             its width and height in a zone file that says so). The last need not repeat the first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name
    polygon: tuple[Coordinates, ...]

    @field_validator("polygon")
    @classmethod
    def _is_an_area(cls, corners: tuple[Coordinates, ...]) -> tuple[Coordinates, ...]:
        if len(corners) > 1 and corners[0] == corners[-1]:
            corners = corners[:-1]
        if len(corners) < LEAST_CORNERS:
            raise ValueError(f"a polygon has at least {LEAST_CORNERS} corners; got {len(corners)}")
        outline = Polygon(corners)
        if outline.convex_hull.area == 0:
            raise ValueError("a polygon encloses an area; these corners lie on one line")
        if not outline.is_valid:
            reason = explain_validity(outline)
            raise ValueError(f"a polygon must not cross or touch itself; got: {reason}")
        return corners

    @cached_property
    def shape(self) -> Polygon:
        """The zone for shapely."""
        return Polygon(self.polygon)

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the smallest upright rectangle around it."""
        columns, rows = zip(*self.polygon, strict=True)
        return min(columns), min(rows), max(columns), max(rows)

    def holds(self, x_px: float, y_px: float) -> bool:
        """True when a place lies in the zone or on its border."""
        left, top, right, bottom = self.bounds
        # Most places lie far away, and asking shapely costs twenty times as much.
        if not (left <= x_px <= right and top <= y_px <= bottom):
            return False
        return bool(shapely.intersects_xy(self.shape, x_px, y_px))

    def scaled(self, x_factor: float, y_factor: float) -> Zone:
        """The zone in other units."""
        return Zone(name=self.name, polygon=tuple((x * x_factor, y * y_factor) for x, y in self.polygon))

    def pixels(self, width_px: int, height_px: int) -> npt.NDArray[np.bool_]:
        """bool[height, width]: the pixels whose middle lies in the zone."""
        corners = np.array(self.polygon)
        x0, y0 = corners.T
        x1, y1 = np.roll(corners, -1, axis=0).T
        columns = np.arange(width_px) + 0.5
        inside = np.zeros((height_px, width_px), dtype=bool)
        top, bottom = max(0, int(y0.min())), min(height_px, int(np.ceil(y0.max())))
        for row in range(top, bottom):
            y = row + 0.5
            crossed = (y0 <= y) != (y1 <= y)
            at = x0[crossed] + (y - y0[crossed]) / (y1 - y0)[crossed] * (x1 - x0)[crossed]
            # Even and odd: a pixel is inside when an odd number of edges lie to its left.
            inside[row] = np.searchsorted(np.sort(at), columns) % 2 == 1
        return inside

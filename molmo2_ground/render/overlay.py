"""`Overlay`: a named area or line of the picture that stands still, such as a zone to count in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from molmo2_ground._wanted import Wanted

if TYPE_CHECKING:
    from molmo2_ground.analytics import Line, Zone

Drawable: TypeAlias = "Overlay | Zone | Line"  # what `zones=` takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """An area or line to draw over every picture.

    corners_px  x and y of each corner, pixels of the source picture, in order; an area needs three or more,
                a line two or more.
    closed      True for an area: it is drawn with the number of objects inside. False for a line.
    note        stands after the name instead of that number.
    """

    name: str
    corners_px: tuple[tuple[float, float], ...]
    closed: bool = True
    note: str | None = None

    def __post_init__(self) -> None:
        least = 3 if self.closed else 2
        if len(self.corners_px) < least:
            what = "an area" if self.closed else "a line"
            raise ValueError(f"{what} has {least} corners or more; {self.name!r} has {len(self.corners_px)}")
        if not all(len(corner) == 2 and all(map(math.isfinite, corner)) for corner in self.corners_px):
            raise ValueError(f"each corner of {self.name!r} is x and y in pixels; got {self.corners_px!r}")

    @classmethod
    def of_all(cls, shapes: Iterable[Drawable]) -> list[Overlay]:
        """Each of several as `of` makes it. Raises `ValueError` for one alone, and for what is none."""
        if isinstance(shapes, list | tuple) and all(isinstance(shape, cls) for shape in shapes):
            return [cls.of(shape) for shape in shapes]
        from molmo2_ground.analytics.line import Line  # load shapely, which dots and masks do without
        from molmo2_ground.analytics.zone import Zone

        wanted = Wanted("a Zone, a Line or an Overlay", (Zone, Line, cls))
        return [cls.of(shape) for shape in wanted.all_of("zones", shapes)]

    @classmethod
    def of(cls, shape: Drawable) -> Overlay:
        """What a zone or line of `molmo2_ground.analytics`, in pixels, looks like; an overlay is itself."""
        if isinstance(shape, Overlay):
            return shape
        from molmo2_ground.analytics.zone import Zone  # loads shapely, which dots and masks do without

        if isinstance(shape, Zone):
            return cls(name=shape.name, corners_px=shape.polygon)
        return cls(name=shape.name, corners_px=(shape.start, shape.end), closed=False)

    def corners_norm(self, size_px: tuple[int, int]) -> npt.NDArray[np.float64]:
        """float64[n, 2]: x and y of each corner in shares of a source picture of (width, height) pixels."""
        return np.array(self.corners_px, dtype=np.float64) / np.array(size_px, dtype=np.float64)


def holds(corners: npt.NDArray[np.float64], x: float, y: float) -> bool:
    """True when the place lies in the area with these corners, float64[n, 2], all in one unit.

    By the crossing rule: a ray to the right meets its edges an odd number of times.
    """
    inside = False
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            inside = not inside
    return inside

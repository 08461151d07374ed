"""The outline of a mask, as shapely polygons along the edges of its pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import MultiPolygon, Polygon


def polygon_of(mask: npt.NDArray[np.bool_]) -> MultiPolygon:
    """The pixels of bool[height, width] as polygons with holes; their area is the number of pixels.

    Coordinates are outer corners of pixels: a mask of its first pixel is the square from (0, 0) to (1, 1).
    Parts that touch at a corner only are polygons of their own. An empty mask has no polygon.
    """
    steps = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    rows, lefts = np.nonzero(steps == 1)
    _, rights = np.nonzero(steps == -1)
    if not rows.size:
        return MultiPolygon()
    joined = shapely.union_all(shapely.box(lefts, rows, rights, rows + 1))
    # The joints of the strips lie on straight lines and say nothing.
    outline = shapely.simplify(joined, 0)
    return MultiPolygon([outline]) if isinstance(outline, Polygon) else outline

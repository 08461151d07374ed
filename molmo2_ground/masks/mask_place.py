"""A place within a mask: said by its share of the mask's box, so that it moves and grows with the object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from molmo2_ground.results import Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceInBox:
    """Shares of a box's width and height from its left top corner; outside 0 to 1 for a place outside it."""

    x_share: float
    y_share: float

    @classmethod
    def of(cls, mask: Mask, *, x_px: float, y_px: float) -> PlaceInBox:
        """Where a place of the picture lies in the mask's box. Raises `ValueError` for an empty mask."""
        left, top, right, bottom = _box(mask)
        return cls(x_share=(x_px - left) / (right - left), y_share=(y_px - top) / (bottom - top))

    def towards(self, later: PlaceInBox, share: float) -> PlaceInBox:
        """The place on the straight line to another one, 0 here and 1 there."""
        return PlaceInBox(
            x_share=self.x_share + share * (later.x_share - self.x_share),
            y_share=self.y_share + share * (later.y_share - self.y_share),
        )

    def in_mask(self, mask: Mask) -> tuple[float, float]:
        """(x_px, y_px): this place in a mask's box, moved to the nearest pixel's middle when it is not on it.

        Raises `ValueError` for an empty mask.
        """
        left, top, right, bottom = _box(mask)
        x_px = left + self.x_share * (right - left)
        y_px = top + self.y_share * (bottom - top)
        if mask.rle.covers(int(np.floor(x_px)), int(np.floor(y_px))):
            return x_px, y_px
        rows, columns = np.nonzero(mask.dense()[top:bottom, left:right])
        xs, ys = columns + left + 0.5, rows + top + 0.5
        nearest = int(np.argmin((xs - x_px) ** 2 + (ys - y_px) ** 2))
        return float(xs[nearest]), float(ys[nearest])


def _box(mask: Mask) -> tuple[int, int, int, int]:
    box = mask.box_px
    if box is None:
        raise ValueError(f"object {mask.object_id} has no pixel in frame {mask.source_index}")
    return box

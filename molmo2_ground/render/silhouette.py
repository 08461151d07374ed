"""`Silhouette`: the pixels of one object, cut out around it, ready to be laid over a picture.

Everything here touches only the box around the object: of a picture of 1920 x 1080 pixels with five objects
that is a tenth or less, and the rest need not be copied, blended or compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import RgbArray
from molmo2_ground.render.labels import Box
from molmo2_ground.render.style import DARK, Rgb
from molmo2_ground.results import Mask

Bytes = npt.NDArray[np.uint8]
Corners = npt.NDArray[np.int32]

# Of the colour that lies over the object: enough to see which object it is, and still what is beneath.
FILL_SHARE = 0.38
_SHIFT = 4  # as in canvas.py: OpenCV reads coordinates in sixteenths of a pixel
# Corners of the outline may move by so much, pixels: stairs become slopes and no eye sees the difference.
_STRAIGHTEN_PX = 0.7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Silhouette:
    """The pixels of one object in a picture.

    box      around the object, pixels of the picture.
    inside   uint8[h, w] of the box: 255 on the object, else 0.
    trusted  False when something speaks against the mask (`Mask.flags`).
    """

    object_id: int
    box: Box
    inside: Bytes
    trusted: bool

    @classmethod
    def of(cls, mask: Mask, *, width_px: int, height_px: int) -> Silhouette | None:
        """The mask in a picture of this size, which shows all of the mask's own; None for an empty one."""
        crop = mask.rle.crop()
        if crop is None:
            return None
        inside = crop.inside.view(np.uint8) * np.uint8(255)
        left_px, top_px = crop.left_px, crop.top_px
        if (width_px, height_px) != mask.size_px:
            rows, top_px = _resampled(top_px, inside.shape[0], mask.size_px[1], height_px)
            columns, left_px = _resampled(left_px, inside.shape[1], mask.size_px[0], width_px)
            inside = np.ascontiguousarray(inside[rows][:, columns])
        if not inside.any():
            return None
        height, width = inside.shape
        return cls(
            object_id=mask.object_id,
            box=Box(left_px=left_px, top_px=top_px, right_px=left_px + width, bottom_px=top_px + height),
            inside=inside,
            trusted=not mask.flags,
        )

    def fill(self, rgb: RgbArray, colour: Rgb, *, share: float = FILL_SHARE) -> None:
        """Lay a veil of the colour over the object; `rgb`, uint8[h, w, 3], is changed in place."""
        under = rgb[self.box.top_px : self.box.bottom_px, self.box.left_px : self.box.right_px]
        cv2.copyTo(cv2.LUT(under, _veil(colour, share)), self.inside, under)

    def outlines(self) -> list[Corners]:
        """Each outline of the object and of its holes: int32[n, 1, 2], x and y, pixels of the picture.

        A corner is the pixel that holds it; one pixel or a line of them gives an outline of one or two.
        """
        found, _ = cv2.findContours(
            self.inside,
            cv2.RETR_CCOMP,
            cv2.CHAIN_APPROX_SIMPLE,
            offset=(self.box.left_px, self.box.top_px),
        )
        straight = (cv2.approxPolyDP(outline, _STRAIGHTEN_PX, True) for outline in found)
        return [np.asarray(outline, dtype=np.int32) for outline in straight]

    def nearest_inside(self, x_px: float, y_px: float) -> tuple[float, float]:
        """The place itself when it lies on the object, else the centre of the object's nearest pixel."""
        column, row = int(np.floor(x_px)) - self.box.left_px, int(np.floor(y_px)) - self.box.top_px
        height, width = self.inside.shape
        if 0 <= column < width and 0 <= row < height and self.inside[row, column]:
            return x_px, y_px
        rows, columns = np.nonzero(self.inside)
        best = int(np.argmin((columns - column) ** 2 + (rows - row) ** 2))
        return self.box.left_px + int(columns[best]) + 0.5, self.box.top_px + int(rows[best]) + 0.5


def trace(
    rgb: RgbArray, outlines: Sequence[Corners], colour: Rgb, *, width_px: float, edge_px: float
) -> None:
    """Draw outlines with a dark edge around them, so that they show on ground of their own colour.

    No edge for an `edge_px` of 0.
    """
    if edge_px:
        # Smoothing the wide dark line costs more than all else here, and is not seen beneath the bright one.
        cv2.polylines(rgb, list(outlines), True, DARK, max(1, round(width_px + 2 * edge_px)), cv2.LINE_8)
    cv2.polylines(rgb, list(outlines), True, colour, max(1, round(width_px)), cv2.LINE_AA)


def trace_dashed(
    rgb: RgbArray, outlines: Sequence[Corners], colour: Rgb, *, width_px: float, dash_px: float
) -> None:
    """Draw outlines as dashes, each as long as the gap after it."""
    for outline in outlines:
        for dash in _dashes(outline[:, 0, :].astype(np.float64), dash_px, ends_px=width_px + 2):
            spots = np.rint(dash * (1 << _SHIFT)).astype(np.int32)
            for ink, thick_px in ((DARK, width_px + 2), (colour, width_px)):
                cv2.polylines(rgb, [spots], False, ink, max(1, round(thick_px)), cv2.LINE_AA, _SHIFT)


def _dashes(
    corners: npt.NDArray[np.float64], dash_px: float, *, ends_px: float
) -> list[npt.NDArray[np.float64]]:
    """Every second piece of a closed line, each `dash_px` long; float64[n, 2] as the corners are.

    ends_px: by how much a line drawn is longer than its corners, for its ends are round.
    """
    line = np.concatenate([corners, corners[:1]])
    lengths = np.hypot(*np.diff(line, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    total_px = float(along[-1])
    # An even number of pieces closes the ring without two dashes that touch.
    pieces = max(2, 2 * round(total_px / (2 * dash_px)))
    edges = np.linspace(0, total_px, pieces + 1)
    dashes = []
    for start, after in zip(edges[0::2], edges[1::2], strict=False):
        end = max(after - ends_px, start + 0.3 * (after - start))
        stops = np.concatenate([[start], along[(along > start) & (along < end)], [end]])
        dashes.append(np.stack([np.interp(stops, along, line[:, i]) for i in (0, 1)], axis=1))
    return dashes


@lru_cache(maxsize=64)
def _veil(colour: Rgb, share: float) -> Bytes:
    """uint8[1, 256, 3]: what each value of a pixel becomes beneath a veil of the colour."""
    values = np.arange(256, dtype=np.float32)[:, None]
    veiled = values * (1 - share) + np.array(colour, dtype=np.float32) * share
    return np.rint(veiled).astype(np.uint8)[None]


def _resampled(start: int, length: int, full: int, shown: int) -> tuple[npt.NDArray[np.int64], int]:
    """For each row (or column) of the smaller or larger picture, the nearest one of a crop, and the first.

    start, length: of the crop in the mask, which is `full` long; the picture is `shown` long.
    """
    first, last = start * shown // full, min(shown, -(-(start + length) * shown // full))
    # The centre of each, (i + 1/2) · full / shown, in whole numbers, so that no rounding moves a border.
    nearest = (2 * np.arange(first, last, dtype=np.int64) + 1) * full // (2 * shown) - start
    on_it = (nearest >= 0) & (nearest < length)
    return nearest[on_it], first + int(np.argmax(on_it)) if on_it.any() else first

"""`Stamp`: a cut-out picture with soft edges that is laid over a frame and its id map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stamp:
    """A picture ready to be laid on.

    ink      uint8[h, w, 3], colour already multiplied by opacity; RGB.
    keep     uint8[h, w, 3], how much of what lies below shines through, 255 all of it.
    solid    uint8[h, w], 255 where the thing itself is (without its shadow), else 0.
    hollow   uint8[h, w], 255 - solid.
    area_px  number of solid pixels.
    """

    ink: Bytes
    keep: Bytes
    solid: Bytes
    hollow: Bytes
    area_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """The part of a stamp that lies inside a frame, as slices of both."""

    in_frame: tuple[slice, slice]
    in_stamp: tuple[slice, slice]


def make_stamp(ink: Bytes, opacity: Bytes, solid: Bytes) -> Stamp:
    """Pack premultiplied colour uint8[h, w, 3], opacity uint8[h, w] and silhouette uint8[h, w] (0 or 255)."""
    keep = cv2.bitwise_not(opacity)
    return Stamp(
        ink=ink,
        keep=np.asarray(cv2.merge([keep, keep, keep]), dtype=np.uint8),
        solid=solid,
        hollow=np.asarray(cv2.bitwise_not(solid), dtype=np.uint8),
        area_px=int(cv2.countNonZero(solid)),
    )


def overlap(stamp: Stamp, left_px: int, top_px: int, frame_shape: tuple[int, int]) -> Overlap | None:
    """What of a stamp placed there lies inside a frame of (height, width); None when nothing does."""
    height, width = stamp.solid.shape
    x0, y0 = max(left_px, 0), max(top_px, 0)
    x1, y1 = min(left_px + width, frame_shape[1]), min(top_px + height, frame_shape[0])
    if x0 >= x1 or y0 >= y1:
        return None
    return Overlap(
        in_frame=(slice(y0, y1), slice(x0, x1)),
        in_stamp=(slice(y0 - top_px, y1 - top_px), slice(x0 - left_px, x1 - left_px)),
    )


def lay(stamp: Stamp, left_px: int, top_px: int, *, rgb: Bytes) -> None:
    """Lay a stamp over a frame uint8[H, W, 3] in place."""
    part = overlap(stamp, left_px, top_px, (rgb.shape[0], rgb.shape[1]))
    if part is None:
        return
    below = rgb[part.in_frame]
    cv2.multiply(below, stamp.keep[part.in_stamp], dst=below, scale=1 / 255)
    cv2.add(below, stamp.ink[part.in_stamp], dst=below)


def claim(stamp: Stamp, left_px: int, top_px: int, *, ids: Bytes, id_: int) -> None:
    """Write `id_` (0 for nobody) into an id map uint8[H, W] in place, where a stamp laid there is solid."""
    part = overlap(stamp, left_px, top_px, (ids.shape[0], ids.shape[1]))
    if part is None:
        return
    known = ids[part.in_frame]
    cv2.bitwise_and(known, stamp.hollow[part.in_stamp], dst=known)
    if id_:
        np.bitwise_or(known, stamp.solid[part.in_stamp] & np.uint8(id_), out=known)

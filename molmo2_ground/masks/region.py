"""`Region`: a segmenter without weights, from colours, edges and motion alone.

From a point the object is grown that stands out most there (`region_seed`), and its mask is carried from
picture to picture by matching and optical flow, with its rim laid along edges (`region_carry`). Nothing was
learned, so nothing is known of what things are: it finds what differs from its surroundings. It does well on
things of clear outline in front of something else. It takes a part for the whole, or a whole for the part,
where colours alone cannot tell; it takes a hard shadow along; it loses thin parts, and what looks like the
ground it stands on. Where weights can be had, SAM 2 does better on all of these.

The same frames and points give the same masks. Pictures are worked on at 640 pixels of their longer side:
finer than that no rim is placed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.region_carry import Sight, carry, tightened
from molmo2_ground.masks.region_colours import Colours
from molmo2_ground.masks.region_seed import Place, grow, grow_again
from molmo2_ground.masks.region_window import box_of
from molmo2_ground.masks.segmenter import BoolArray

WORKED_ON_PX = 640
# Noise and the blocks of a codec are no edges.
_SMOOTHED_PX = 0.8
# A point on an edge may round to the pixel beside it.
_NEAR_PX = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkedOn:
    """A frame as it is worked on.

    picture  uint8[height, width, 3], CIELAB, at most `WORKED_ON_PX` long.
    seen     what was found under a point of this frame, by object and place: the walk back from a sighting
             starts from the mask that the walk forward came to, and need not look again.
    """

    picture: RgbArray
    seen: dict[tuple[int, Place], BoolArray] = field(default_factory=dict)


class Region:
    """Masks without weights; see the module's text for what they can be trusted with."""

    name = "region"
    from_both_ends = True

    def start(self, *, width_px: int, height_px: int) -> RegionWalk:
        """A walk through frames of this size; obeys `Segmenter`."""
        return RegionWalk(width_px=width_px, height_px=height_px)


class RegionWalk:
    """One direction of time; holds of each object the last picture in which it showed. Obeys `Walk`."""

    def __init__(self, *, width_px: int, height_px: int) -> None:
        self._width_px, self._height_px = width_px, height_px
        self._sights: dict[int, Sight] = {}

    def prepare(self, frame: Frame) -> WorkedOn:
        """The frame, made small and smooth."""
        height, width = frame.rgb.shape[:2]
        scale = min(1.0, WORKED_ON_PX / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        rgb = (
            frame.rgb
            if size == (width, height)
            else cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA)
        )
        smooth = cv2.GaussianBlur(rgb, (0, 0), _SMOOTHED_PX)
        return WorkedOn(picture=np.asarray(cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB), dtype=np.uint8))

    def step(self, prepared: WorkedOn, points: Sequence[PointPrompt] = ()) -> Mapping[int, BoolArray]:
        """Carry every object into this frame, then look at it where it is pointed to."""
        picture = prepared.picture
        carried: dict[int, BoolArray | None]
        carried = {object_id: carry(sight, picture) for object_id, sight in self._sights.items()}
        places = {point.object_id: self._place(point, picture) for point in points}
        for object_id, place in places.items():
            mask = carried.get(object_id)
            found = prepared.seen.get((object_id, place)) if mask is None else None
            if found is None:
                others = [other for other_id, other in places.items() if other_id != object_id]
                found = prepared.seen[object_id, place] = _seen(picture, place, mask, others)
            carried[object_id] = found
        for object_id, mask in carried.items():
            self._remember(object_id, picture, mask, pointed_to=object_id in places)
        return {object_id: self._at_full_size(mask, picture) for object_id, mask in carried.items()}

    def forget(self, object_id: int) -> None:
        """Follow this object no longer."""
        self._sights.pop(object_id, None)

    def close(self) -> None:
        """Let go of the pictures."""
        self._sights.clear()

    def _place(self, point: PointPrompt, picture: RgbArray) -> Place:
        """The point in pixels of what is worked on, within it."""
        height, width = picture.shape[:2]
        return (
            min(max(point.x_px * width / self._width_px, 0.0), width - 0.01),
            min(max(point.y_px * height / self._height_px, 0.0), height - 0.01),
        )

    def _remember(
        self, object_id: int, picture: RgbArray, mask: BoolArray | None, *, pointed_to: bool
    ) -> None:
        before = self._sights.get(object_id)
        if mask is None:
            if before is not None:
                self._sights[object_id] = dataclasses.replace(before, missed=before.missed + 1)
            return
        speed_px = None if before is None else _speed_px(before, mask)
        if before is not None and not pointed_to:
            self._sights[object_id] = dataclasses.replace(
                before, picture=picture, mask=mask, speed_px=speed_px, missed=0
            )
            return
        self._sights[object_id] = Sight(
            picture=picture,
            mask=mask,
            colours=Colours.of(picture[mask]),
            speed_px=speed_px,
            seen_px=int(np.count_nonzero(mask)),
        )

    def _at_full_size(self, mask: BoolArray | None, picture: RgbArray) -> BoolArray:
        if mask is None:
            return np.zeros((self._height_px, self._width_px), dtype=bool)
        if mask.shape == (self._height_px, self._width_px):
            return mask
        size = (self._width_px, self._height_px)
        large = cv2.resize(mask.view(np.uint8) * 255, size, interpolation=cv2.INTER_LINEAR)
        full: BoolArray = large > 127
        return full


def _seen(picture: RgbArray, place: Place, carried: BoolArray | None, others: Sequence[Place]) -> BoolArray:
    """The object where it is pointed to: as it was carried here when that holds the point, else grown anew.

    When nothing stands out there, the point's own pixel is all that is known.
    """
    if carried is not None and _holds(carried, place):
        grown = grow_again(picture, place, carried, others=others)
        if grown is carried:
            return carried
    else:
        found = grow(picture, place, others=others)
        grown = _dot(picture, place) if found is None else found
    mask = tightened(picture, grown)
    return mask if _holds(mask, place) else grown


def _dot(picture: RgbArray, place: Place) -> BoolArray:
    mask = np.zeros(picture.shape[:2], dtype=bool)
    mask[int(place[1]), int(place[0])] = True
    return mask


def _holds(mask: BoolArray, place: Place) -> bool:
    column, row = int(place[0]), int(place[1])
    rows = slice(max(0, row - _NEAR_PX), row + _NEAR_PX + 1)
    return bool(mask[rows, max(0, column - _NEAR_PX) : column + _NEAR_PX + 1].any())


def _speed_px(before: Sight, mask: BoolArray) -> tuple[float, float]:
    """How far the middle of the mask has gone from each picture to the next, (x, y)."""
    (x0, y0), (x1, y1) = _middle(before.mask), _middle(mask)
    pictures = before.missed + 1
    return (x1 - x0) / pictures, (y1 - y0) / pictures


def _middle(mask: BoolArray) -> tuple[float, float]:
    left, top, right, bottom = box_of(mask)
    moments = cv2.moments(mask[top:bottom, left:right].astype(np.uint8), binaryImage=True)
    return left + moments["m10"] / moments["m00"], top + moments["m01"] / moments["m00"]

"""`carry`: an object's mask taken from one picture into the next, by motion and then by colour and edges.

First the object as a whole is looked for near the place where its motion would have brought it, then dense
optical flow (T. Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) says what moved
how within it. Where the picture is what the flow says it was before, the mask comes along as it is;
elsewhere, and along its rim, colours and edges decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import RgbArray
from molmo2_ground.masks.region_colours import (
    INSIDE,
    MAYBE_INSIDE,
    MAYBE_OUTSIDE,
    OUTSIDE,
    Colours,
    cut,
)
from molmo2_ground.masks.region_window import FloatArray, Window, box_of
from molmo2_ground.masks.segmenter import BoolArray

# An object is cut out in a window of at most so many pixels a side, and looked for in one of a quarter.
_LONGEST_PX = 144
_TEMPLATE_PX = 40
# What is farther than this from the colour it had, in levels of CIELAB as OpenCV scales it, is not the same
# thing: noise and compression stay below, an occluder or another thing seldom does.
_SAME_COLOUR = 24.0
# OpenCV's flow fails on less.
_FLOW_PX = 24
# How far from where it is expected a thing may be: as a part of its size, at least, and at most.
_REACH, _LEAST_REACH_PX, _MOST_REACH_PX = 0.6, 6.0, 80.0
# Where a match is as good elsewhere, the place that the motion so far leads to is taken.
_SURPRISE = 60.0
# Below this part of what was seen of it the object is hidden.
_HIDDEN = 0.06


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sight:
    """An object in the last picture in which it showed.

    picture   uint8[height, width, 3], CIELAB.   mask  bool[height, width] of it, not empty.
    colours   what colours the object has, since the last point.
    speed_px  (x, y), pixels a picture; None before it has been followed once.
    seen_px   pixels that showed when it was pointed to.
    missed    pictures since this one.
    """

    picture: RgbArray
    mask: BoolArray
    colours: Colours
    speed_px: tuple[float, float] | None
    seen_px: int
    missed: int = 0


def carry(sight: Sight, picture: RgbArray) -> BoolArray | None:
    """bool[height, width]: the object in the next picture; None when nothing of it shows."""
    box = box_of(sight.mask)
    move = _moved(sight, picture, box)
    size = math.sqrt(np.count_nonzero(sight.mask))
    now = Window.around(
        (box[0] + move[0], box[1] + move[1], box[2] + move[0], box[3] + move[1]),
        margin_px=max(6.0, 0.3 * size),
        longest_px=_LONGEST_PX,
    )
    before = now.moved(-move[0], -move[1])
    part, old_part = now.take(picture), before.take(sight.picture)
    warped, same = _flowed(old_part, part, before.take_mask(sight.mask))
    mask = _settled(part, warped, same, sight.colours, now.inside(picture.shape[:2]))
    laid = now.lay(mask, picture.shape[:2])
    return laid if np.count_nonzero(laid) >= max(4.0, _HIDDEN * sight.seen_px) else None


def tightened(picture: RgbArray, mask: BoolArray) -> BoolArray:
    """The same mask with its rim laid along the edges that are nearest; the same when nothing is left."""
    box = box_of(mask)
    size = math.sqrt(np.count_nonzero(mask))
    window = Window.around(box, margin_px=max(6.0, 0.4 * size), longest_px=_LONGEST_PX)
    part, soft = window.take(picture), window.take_mask(mask)
    in_picture = window.inside(picture.shape[:2])
    inside = soft > 0.5
    if not inside.any():
        return mask
    band = max(2.0, 0.12 * size * window.scale)
    depth, out = _depths(inside)
    labels = np.full(part.shape[:2], MAYBE_OUTSIDE, dtype=np.uint8)
    labels[inside] = MAYBE_INSIDE
    labels[depth > band] = INSIDE
    labels[(out > band) | ~in_picture] = OUTSIDE
    around = ~inside & in_picture
    if not around.any():
        return mask
    found = cut(part, labels, inside=Colours.of(part[inside]), around=Colours.of(part[around]))
    laid = window.lay(_pieces_of(found, inside), picture.shape[:2])
    return laid if laid.any() else mask


def _moved(sight: Sight, picture: RgbArray, box: tuple[int, int, int, int]) -> tuple[int, int]:
    """How far the object as a whole has gone, (x, y) in whole pixels: to the best match near by."""
    width, height = box[2] - box[0], box[3] - box[1]
    speed = sight.speed_px or (0.0, 0.0)
    times = sight.missed + 1
    ahead = round(speed[0] * times), round(speed[1] * times)
    size = math.sqrt(width * height)
    reach = _REACH * size * (1.5 if sight.speed_px is None else 1.0) + 0.5 * math.hypot(*speed) * times
    reach_px = math.ceil(min(_MOST_REACH_PX, max(_LEAST_REACH_PX, reach)))
    seen = Window.around(box, margin_px=1, longest_px=_TEMPLATE_PX)
    field = Window(
        left=seen.left + ahead[0] - reach_px,
        top=seen.top + ahead[1] - reach_px,
        right=seen.right + ahead[0] + reach_px,
        bottom=seen.bottom + ahead[1] + reach_px,
        scale=seen.scale,
    )
    differences = _differences(
        seen.take(sight.picture),
        seen.take_mask(sight.mask),
        field.take(picture),
        field.inside(picture.shape[:2]).astype(np.float32),
    )
    rows, columns = differences.shape
    along_y = (np.arange(rows, dtype=np.float32) - (rows - 1) / 2) / max(1.0, (rows - 1) / 2)
    along_x = (np.arange(columns, dtype=np.float32) - (columns - 1) / 2) / max(1.0, (columns - 1) / 2)
    differences += _SURPRISE * (along_y[:, None] ** 2 + along_x[None, :] ** 2)
    row, column = np.unravel_index(int(np.argmin(differences)), differences.shape)
    return (
        ahead[0] + round((int(column) - (columns - 1) / 2) / seen.scale),
        ahead[1] + round((int(row) - (rows - 1) / 2) / seen.scale),
    )


def _differences(template: RgbArray, mask: FloatArray, field: RgbArray, valid: FloatArray) -> FloatArray:
    """float32[h, w]: mean squared difference of colours for each place of the template in the field.

    Pixels beyond the rim of the picture say nothing; where less than a third of the object lies within, no
    place is good.
    """
    ours, theirs = template.astype(np.float32) - 128, field.astype(np.float32) - 128
    mask3, valid3 = cv2.merge([mask] * 3), cv2.merge([valid] * 3)
    count = cv2.matchTemplate(valid, mask, cv2.TM_CCORR)
    total = cv2.matchTemplate(valid3, mask3 * ours * ours, cv2.TM_CCORR)
    total = total - 2 * cv2.matchTemplate(valid3 * theirs, mask3 * ours, cv2.TM_CCORR)
    total = total + cv2.matchTemplate(valid3 * theirs * theirs, mask3, cv2.TM_CCORR)
    whole = float(mask.sum())
    mean: FloatArray = np.where(count > whole / 3, total / np.maximum(count, 1.0), np.float32(1e6))
    return mean


def _flowed(old: RgbArray, new: RgbArray, mask: FloatArray) -> tuple[FloatArray, BoolArray]:
    """The mask in the new part, 0 to 1, and where the new part is what the flow says it was before."""
    height, width = new.shape[:2]
    flow: FloatArray = np.zeros((height, width, 2), np.float32)
    if min(height, width) >= _FLOW_PX:
        finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        finder.setFinestScale(1)
        flow = np.asarray(finder.calc(_grey(new), _grey(old), flow), dtype=np.float32)
    from_x = flow[..., 0] + np.arange(width, dtype=np.float32)[None, :]
    from_y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    warped = cv2.remap(mask, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    before = cv2.remap(old, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    off = np.linalg.norm(new.astype(np.float32) - before.astype(np.float32), axis=2)
    same: BoolArray = cv2.blur(off, (3, 3)) < _SAME_COLOUR
    return np.asarray(warped, dtype=np.float32), same


def _grey(part: RgbArray) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(part[..., 0])


def _settled(
    part: RgbArray, warped: FloatArray, same: BoolArray, colours: Colours, in_picture: BoolArray
) -> BoolArray:
    """The mask of the window after the flow: its rim, and all that changed, decided by colour and edges."""
    inside = (warped > 0.5) & in_picture
    if not inside.any():
        return inside
    depth, out = _depths(inside)
    size = math.sqrt(np.count_nonzero(inside))
    band = max(2.0, 0.15 * size)
    labels = np.full(part.shape[:2], OUTSIDE, dtype=np.uint8)
    labels[(out <= np.where(same, 1.5, band)) & in_picture] = MAYBE_OUTSIDE
    labels[inside] = MAYBE_INSIDE
    labels[inside & same & (depth > 1.5)] = INSIDE
    around = (out > 1.5) & in_picture
    if not around.any():
        return inside
    found = cut(part, labels, inside=colours, around=Colours.of(part[around], broad=True))
    return _pieces_of(found, inside)


def _depths(mask: BoolArray) -> tuple[FloatArray, FloatArray]:
    """How deep each pixel lies within the mask, and how far outside; 0 on the other side."""
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    out = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(depth, dtype=np.float32), np.asarray(out, dtype=np.float32)


def _pieces_of(found: BoolArray, expected: BoolArray) -> BoolArray:
    """The pieces of what was found that were there before, without crumbs."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
    met = np.bincount(pieces[expected & found].ravel(), minlength=count)
    areas = stats[:, cv2.CC_STAT_AREA]
    largest = max((int(area) for area, hits in zip(areas[1:], met[1:], strict=True) if hits), default=0)
    kept = (met > 0) & (areas >= max(2.0, 0.05 * largest))
    kept[0] = False
    chosen: BoolArray = kept[pieces]
    return chosen

"""`grow`: the mask of the object under a point, from colours and edges of one picture.

How large the thing is that a point means, nobody says. So it is sought at every size: within a circle around
the point whatever the ring around the circle does not explain is the object (Rother, Kolmogorov, Blake,
"GrabCut", 2004, whose rectangle is a circle here). Of all that was found the one is taken that looks most
like a thing of its own:

- its rim lies on edges,
- it stays the same when the circle grows,
- it does not reach the circle,
- what touches it from outside is what lies farther out too (the hair of a man seen from above touches only
  his shoulders, and those end soon),
- it has other colours than what touches it and what lies farther out,
- the point is in its middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import RgbArray
from molmo2_ground.masks.region_colours import INSIDE, MAYBE_INSIDE, OUTSIDE, Colours, cut
from molmo2_ground.masks.region_window import Window, box_of
from molmo2_ground.masks.segmenter import BoolArray

Place = tuple[float, float]

_SMALLEST_RADIUS_PX = 4.0
_RADIUS_STEP = 1.5
# The ring around the circle, as a part of the circle's radius.
_RING = 0.5
# What is surely the object: a disk of this part of the circle.
_CORE = 0.15
# A window of so many pixels a side shows a thing well enough to tell which size is right.
_LOOK_PX = 72
_ROUNDS = 3
# Colours that differ by less than this fall together, levels of 256.
_COLOUR_STEP = 20
_BINS = 256 // _COLOUR_STEP + 1
# What reaches to a place on another object is seldom the object alone.
_WITH_ANOTHER = 0.3
# Circles around a thing whose size is known already, as parts of its reach.
_AGAIN = (0.7, 1.0, 1.4, 2.0, 2.8)
# What has been followed is given up for what looks so much better.
_WORTH = 1.3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grown:
    """One way to see what is under the point.

    mask: bool[height, width] of the picture.   likeness: how much it looks like a thing of its own, from 0.
    """

    mask: BoolArray
    radius_px: float
    likeness: float


def grow(picture: RgbArray, point: Place, *, others: Sequence[Place] = ()) -> BoolArray | None:
    """bool[height, width]: the most likely object under a point; None when nothing stands out.

    picture: uint8[height, width, 3], CIELAB.   point: (x, y), pixels.   others: places on other objects.
    """
    best = max(candidates(picture, point, others=others), key=lambda one: one.likeness, default=None)
    return best.mask if best is not None and best.likeness > 0 else None


def grow_again(
    picture: RgbArray, point: Place, carried: BoolArray, *, others: Sequence[Place] = ()
) -> BoolArray:
    """The object under a point that a mask carried here holds: that mask, or what looks much more like it.

    A thing that comes into the picture or from behind another is larger than what was carried.
    """
    reach = _farthest(carried, point)
    fresh = candidates(picture, point, others=others, radii_px=[part * reach for part in _AGAIN])
    best = max(fresh, key=lambda one: one.likeness, default=None)
    if best is None:
        return carried
    window = Window.around((*point, *point), margin_px=(1 + _RING) * 1.2 * reach, longest_px=_LOOK_PX)
    mask = window.take_mask(carried) > 0.5
    kept = 0.0
    if mask.any():
        part, in_picture = window.take(picture), window.inside(picture.shape[:2])
        place = window.at(*point)
        distance = _distances(part.shape[:2], place) / window.scale
        kept = _likeness(part, mask, distance, 1.2 * reach, in_picture, place)
        kept *= _agreement(carried, [one.mask for one in fresh])
    return best.mask if best.likeness > _WORTH * kept else carried


def candidates(
    picture: RgbArray,
    point: Place,
    *,
    others: Sequence[Place] = (),
    radii_px: Sequence[float] | None = None,
) -> list[Grown]:
    """What is found within circles of these radii, or of all that make sense in this picture."""
    looks = []
    for radius in _radii(picture.shape[:2]) if radii_px is None else radii_px:
        look = _within(picture, point, radius, others=others)
        if look is not None:
            looks.append(look)
    return [
        Grown(
            mask=look.mask,
            radius_px=look.radius_px,
            likeness=look.likeness * _steadiness([other.mask for other in looks], place),
        )
        for place, look in enumerate(looks)
    ]


def _radii(picture_hw: tuple[int, ...]) -> list[float]:
    largest = 0.5 * math.hypot(*picture_hw)
    count = max(1, 1 + math.floor(math.log(max(1.0, largest / _SMALLEST_RADIUS_PX)) / math.log(_RADIUS_STEP)))
    return [_SMALLEST_RADIUS_PX * _RADIUS_STEP**place for place in range(count)]


def _within(picture: RgbArray, point: Place, radius_px: float, *, others: Sequence[Place]) -> Grown | None:
    """The object as a circle of this radius shows it; None when there is nothing around it."""
    x, y = point
    window = Window.around((x, y, x, y), margin_px=(1 + _RING) * radius_px, longest_px=_LOOK_PX)
    part = window.take(picture)
    in_picture = window.inside(picture.shape[:2])
    distance = _distances(part.shape[:2], window.at(x, y)) / window.scale
    labels = np.full(part.shape[:2], MAYBE_INSIDE, dtype=np.uint8)
    labels[(distance > radius_px) | ~in_picture] = OUTSIDE
    for other in others:
        labels[_distances(part.shape[:2], window.at(*other)) / window.scale <= _CORE * radius_px] = OUTSIDE
    # Half a pixel of the window is the least: the point's own.
    labels[distance <= max(_CORE * radius_px, 0.75 / window.scale)] = INSIDE
    ring = (labels == OUTSIDE) & in_picture
    if np.count_nonzero(ring) < 8:
        return None
    decided = _separated(part, labels, in_picture)
    mask = _whole(decided, window.at(x, y))
    if not mask.any():
        return None
    likeness = _likeness(part, mask, distance, radius_px, in_picture, window.at(x, y))
    for other in others:
        column, row = (int(value) for value in window.at(*other))
        if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and mask[row, column]:
            likeness *= _WITH_ANOTHER
    return Grown(mask=window.lay(mask, picture.shape[:2]), radius_px=radius_px, likeness=likeness)


def _separated(part: RgbArray, labels: npt.NDArray[np.uint8], in_picture: BoolArray) -> BoolArray:
    """The cut, and the colours learned again from either side of it."""
    inside: BoolArray = labels != OUTSIDE
    for _ in range(_ROUNDS):
        around = ~inside & in_picture
        if not inside.any() or not around.any():
            break
        inside = cut(part, labels, inside=Colours.of(part[inside]), around=Colours.of(part[around]))
    return inside


def _whole(mask: BoolArray, point: Place) -> BoolArray:
    """The piece that holds the point, its holes filled."""
    _, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    row = min(max(int(point[1]), 0), mask.shape[0] - 1)
    column = min(max(int(point[0]), 0), mask.shape[1] - 1)
    if not pieces[row, column]:
        return np.zeros_like(mask)
    return without_holes(pieces == pieces[row, column])


def without_holes(mask: BoolArray) -> BoolArray:
    """The mask and all that it encloses."""
    _, outside = cv2.connectedComponents(1 - np.pad(mask, 1).astype(np.uint8), connectivity=4)
    filled: BoolArray = (outside != outside[0, 0])[1:-1, 1:-1]
    return filled


def _likeness(
    part: RgbArray,
    mask: BoolArray,
    distance: npt.NDArray[np.float32],
    radius_px: float,
    in_picture: BoolArray,
    point: Place,
) -> float:
    """How much a mask of the window looks like a thing of its own; see the module's text."""
    size = math.sqrt(np.count_nonzero(mask))
    square = np.ones((3, 3), np.uint8)
    rim = mask & (cv2.erode(mask.astype(np.uint8), square) == 0) & _not_at_rim(in_picture)
    if not rim.any():
        return 0.0
    at_circle = np.count_nonzero(rim & (distance > 0.88 * radius_px)) / np.count_nonzero(rim)
    wide = np.ones((5, 5), np.uint8)
    steps = cv2.dilate(part, wide).astype(np.float32) - cv2.erode(part, wide).astype(np.float32)
    edges = np.linalg.norm(steps, axis=2)
    around = edges[(distance > radius_px) & in_picture]
    if not around.size:
        return 0.0  # the circle holds the whole picture, and there is nothing to stand out from
    on_edges = float(np.clip(edges[rim] / (2 * around.mean() + 8), 0, 1.5).mean())
    out = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    core = mask & (depth > 1.5) if (depth > 1.5).any() else mask
    near = _bins(part, (out > 1.5) & (out <= max(4.0, 0.2 * size)) & in_picture)
    # Around a large thing the picture ends early.
    beyond = min(max(6.0, 0.6 * size), 0.6 * float(out[in_picture].max()))
    far = _bins(part, (out > beyond) & (out <= max(14.0, 2 * size)) & in_picture)
    own = _bins(part, core)
    rows, columns = np.nonzero(mask)
    off = math.hypot(columns.mean() + 0.5 - point[0], rows.mean() + 0.5 - point[1]) / size
    return (
        on_edges
        * (1 - at_circle) ** 2
        * min(1.0, _shared(near, far) / 0.3)
        * (1.1 - _shared(own, near)) ** 2
        * (1.0 - _shared(own, far)) ** 2
        * math.exp(-((off / 0.3) ** 2))
    )


def _not_at_rim(in_picture: BoolArray) -> BoolArray:
    """Where a mask ends because the picture does is no contour."""
    kept: BoolArray = cv2.erode(in_picture.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return kept


def _bins(part: RgbArray, where: BoolArray) -> npt.NDArray[np.float64]:
    """float64[k]: shares of the colours at these pixels; all 0 where there are none."""
    steps = part[where].astype(np.int64) // _COLOUR_STEP
    numbers = (steps[:, 0] * _BINS + steps[:, 1]) * _BINS + steps[:, 2]
    return np.bincount(numbers, minlength=_BINS**3) / max(1, len(numbers))


def _shared(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    return float(np.minimum(one, other).sum())


def _steadiness(masks: Sequence[BoolArray], place: int) -> float:
    """How well what was found at the next two sizes either way agrees with this, 0 to 1."""
    return _agreement(
        masks[place], [masks[i] for i in range(place - 2, place + 3) if i != place and 0 <= i < len(masks)]
    )


def _agreement(mask: BoolArray, others: Sequence[BoolArray]) -> float:
    """How well the two that agree best agree with a mask; 1 when there are none to ask."""
    agreed = sorted(overlap(mask, other) for other in others)[-2:]
    return sum(agreed) / len(agreed) if agreed else 1.0


def _farthest(mask: BoolArray, point: Place) -> float:
    """From a point to the farthest corner of a mask's box along either axis, pixels."""
    left, top, right, bottom = box_of(mask)
    return max(1.0, abs(left - point[0]), abs(right - point[0]), abs(top - point[1]), abs(bottom - point[1]))


def overlap(one: BoolArray, other: BoolArray) -> float:
    """Shared pixels over covered pixels, 0 to 1."""
    covered = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / covered if covered else 1.0


def _distances(size_hw: tuple[int, ...], place: Place) -> npt.NDArray[np.float32]:
    """float32[h, w]: from the middle of each pixel to a place, pixels."""
    rows = np.arange(size_hw[0], dtype=np.float32)[:, None] + 0.5 - place[1]
    columns = np.arange(size_hw[1], dtype=np.float32)[None, :] + 0.5 - place[0]
    distances: npt.NDArray[np.float32] = np.hypot(rows, columns)
    return distances

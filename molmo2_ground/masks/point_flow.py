"""A point carried from one sighting to the next by sparse optical flow, from both ends.

Around the point a small grid is followed by pyramidal Lucas–Kanade, there and back again; places that do not
come back to where they started are not believed, and the point moves by the median of the others (the idea of
Kalal, Mikolajczyk and Matas, "Forward-Backward Error", ICPR 2010). One way runs from the earlier sighting
forward, one from the later back, and the place in between is a blend of the two by time, which meets both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import Frame

FloatArray = npt.NDArray[np.float64]

# Motion is measured in pictures of at most this long side: enough for a point, and small to hold.
WORK_LONG_SIDE_PX = 640
# Of working pixels: how far apart the grid's places lie, and how far from its start one may come back.
_GRID_STEP_PX = 4.0
_RETURN_PX = 1.0
# So many of the nine places must be believed; fewer than half tell as much about the background.
_LEAST_BELIEVED = 5
_WINDOW_PX = (21, 21)
_LEVELS = 3
# Where nothing has an edge, any motion explains the picture; OpenCV's default lets noise of a codec pass.
_LEAST_EDGE = 1e-3
# The two ways start from two places that the model chose on the object, and so may differ by about the size
# of a thing, and by no more: as a share of the picture's long side. Ours.
MOST_APART = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GrayFrame:
    """What flow needs of a frame: uint8[h, w] of at most `WORK_LONG_SIDE_PX`, and which frame it is."""

    source_index: int
    gray: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, frame: Frame) -> GrayFrame:
        """The frame in shades of gray, shrunk."""
        gray = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
        height, width = gray.shape
        scale = WORK_LONG_SIDE_PX / max(height, width)
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        return cls(source_index=frame.source_index, gray=np.asarray(gray, dtype=np.uint8))


def carried_between(
    frames: Sequence[GrayFrame],
    *,
    earlier_norm: FloatArray,
    later_norm: FloatArray,
    shares: FloatArray,
) -> FloatArray:
    """float64[K, T, 2]: K objects in every frame from one sighting to the next, shares of the picture.

    frames: T in order, the first and the last those of the sightings, all of one size.
    earlier_norm, later_norm: float64[K, 2], the places in the first and the last, shares of width and height.
    shares: float64[T], how far on in time each frame is, 0 for the first and 1 for the last.
    An object that cannot be followed both ways, or for which the two ways disagree by more than `MOST_APART`
    of the long side, is NaN in every frame.
    """
    pictures = [frame.gray for frame in frames]
    height, width = pictures[0].shape
    size = np.array([width, height], dtype=np.float64)
    # OpenCV counts from the middle of the first pixel, results from its outer corner.
    forward = _followed(pictures, earlier_norm * size - 0.5)
    backward = _followed(pictures[::-1], later_norm * size - 0.5)[:, ::-1]
    apart = np.linalg.norm(forward - backward, axis=2)
    with np.errstate(invalid="ignore"):
        together = (apart <= MOST_APART * size.max()).all(axis=1)
    later_share = shares[None, :, None]
    blend: FloatArray = ((1 - later_share) * forward + later_share * backward + 0.5) / size
    blend[~together] = np.nan
    return blend


def _followed(pictures: Sequence[npt.NDArray[np.uint8]], start: FloatArray) -> FloatArray:
    """float64[K, T, 2]: K places of the first picture in every picture, working pixels; NaN once lost."""
    places = np.full((len(start), len(pictures), 2), np.nan)
    places[:, 0] = start
    for number in range(1, len(pictures)):
        known = np.flatnonzero(np.isfinite(places[:, number - 1, 0]))
        if not known.size:
            break
        places[known, number] = _step(pictures[number - 1], pictures[number], places[known, number - 1])
    return places


_OFFSETS = np.array(
    [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)], dtype=np.float64
) * _GRID_STEP_PX  # fmt: skip


def _step(before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8], at: FloatArray) -> FloatArray:
    """float64[K, 2]: where K places of one picture are in the next; NaN for those that cannot be told."""
    grid = (at[:, None] + _OFFSETS).reshape(-1, 1, 2).astype(np.float32)
    there, found = _flow(before, after, grid)
    back, returned = _flow(after, before, there)
    error = np.linalg.norm(back - grid, axis=2)[:, 0]
    believed = (found & returned & (error <= _RETURN_PX)).reshape(len(at), -1)
    moves = (there - grid).reshape(len(at), -1, 2).astype(np.float64)
    height, width = before.shape
    moved = np.full_like(at, np.nan)
    for number, (move, good) in enumerate(zip(moves, believed, strict=True)):
        if np.count_nonzero(good) < _LEAST_BELIEVED:
            continue
        place = at[number] + np.median(move[good], axis=0)
        if -0.5 <= place[0] <= width - 0.5 and -0.5 <= place[1] <= height - 0.5:
            moved[number] = place
    return moved


def _flow(
    before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8], points: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    there, status, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        points,
        np.empty(0, dtype=np.float32),
        winSize=_WINDOW_PX,
        maxLevel=_LEVELS,
        minEigThreshold=_LEAST_EDGE,
    )
    return np.asarray(there, dtype=np.float32), np.asarray(status).reshape(-1) == 1

"""A place carried from one sighting to the next by sparse optical flow, from both ends.

A thing is often plain where the model points, so corners around the place are followed, each by pyramidal
Lucas–Kanade, there and back again in every step: a corner that does not come back to where it started is
given up (Kalal, Mikolajczyk and Matas, "Forward-Backward Error", ICPR 2010). Some lie on the thing and some
on what is behind it. Where the thing went is known from the next sighting, so only corners that went the
same way in all are believed, and the place moves by their median. One way runs from the earlier sighting
forward, one from the later back, and the place in between is a blend of the two by time, which meets both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import Frame

FloatArray = npt.NDArray[np.float64]
Gray = npt.NDArray[np.uint8]

# Motion is measured in pictures of at most this long side: enough for a place, and small to hold.
WORK_LONG_SIDE_PX = 640
# The rest in working pixels, and ours. Corners are looked for so far around the place; so many, so far apart.
_REACH_PX = 28
_MOST_CORNERS = 40
_APART_PX = 3
# The least quality of a corner as a share of the best one around: the rim of a thing beside its lamps.
_LEAST_QUALITY = 0.02
# How far from its start a corner may come back.
_RETURN_PX = 1.0
# How far the whole way of a corner may be from that between the sightings: two places that the model chose on
# one thing, a few pixels from each other, and the larger the way, the more the view of it changes.
_OFF_PX = 4.0
_OFF_SHARE = 0.3
# Fewer corners that agree may agree by chance.
LEAST_CORNERS = 3
_WINDOW_PX = (15, 15)
_LEVELS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GrayFrame:
    """What flow needs of a frame: uint8[h, w] of at most `WORK_LONG_SIDE_PX`, and which frame it is."""

    source_index: int
    gray: Gray

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
    An object that cannot be followed both ways is NaN in every frame.
    """
    pictures = [frame.gray for frame in frames]
    height, width = pictures[0].shape
    size = np.array([width, height], dtype=np.float64)
    # OpenCV counts from the middle of the first pixel, results from its outer corner.
    earlier, later = earlier_norm * size - 0.5, later_norm * size - 0.5
    carried = np.full((len(earlier), len(pictures), 2), np.nan)
    for number in range(len(earlier)):
        forward = _way(pictures, earlier[number], later[number])
        backward = None if forward is None else _way(pictures[::-1], later[number], earlier[number])
        if forward is not None and backward is not None:
            share = shares[:, None]
            carried[number] = ((1 - share) * forward + share * backward[::-1] + 0.5) / size
    return carried


def _way(pictures: Sequence[Gray], start: FloatArray, end: FloatArray) -> FloatArray | None:
    """float64[T, 2]: the place `start` of the first picture in every picture, or None; working pixels.

    end: about where it is in the last picture.
    """
    corners = corners_around(pictures[0], start)
    ways = [corners.astype(np.float64)]
    for before, after in pairwise(pictures):
        if len(corners) < LEAST_CORNERS:
            return None
        there, kept = flow_step(before, after, corners)
        ways = [way[kept] for way in ways]
        corners = there[kept]
        ways.append(corners.astype(np.float64))
    moves = np.stack(ways) - ways[0]  # [T, corners, 2]
    whole = end - start
    off = np.linalg.norm(moves[-1] - whole, axis=1)
    agrees = off <= max(_OFF_PX, _OFF_SHARE * float(np.linalg.norm(whole)))
    if np.count_nonzero(agrees) < LEAST_CORNERS:
        return None
    way: FloatArray = start + np.median(moves[:, agrees], axis=1)
    return way


def corners_around(picture: Gray, place: FloatArray) -> npt.NDArray[np.float32]:
    """float32[n, 2]: corners within reach of a place (Shi and Tomasi, "Good Features to Track", 1994)."""
    height, width = picture.shape
    x, y = (round(float(value)) for value in place)
    left, top = max(0, x - _REACH_PX), max(0, y - _REACH_PX)
    around = picture[top : min(height, y + _REACH_PX + 1), left : min(width, x + _REACH_PX + 1)]
    if min(around.shape, default=0) < _APART_PX:
        return np.zeros((0, 2), dtype=np.float32)
    found = cv2.goodFeaturesToTrack(around, _MOST_CORNERS, _LEAST_QUALITY, _APART_PX)
    if found is None:
        return np.zeros((0, 2), dtype=np.float32)
    return np.asarray(found, dtype=np.float32).reshape(-1, 2) + np.array([left, top], dtype=np.float32)


def flow_step(
    before: Gray, after: Gray, corners: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """float32[n, 2], bool[n]: where corners of one picture are in the next, and whether they came back."""
    there, found = _flow(before, after, corners)
    back, returned = _flow(after, before, there)
    error = np.linalg.norm(back - corners, axis=1)
    return there, found & returned & (error <= _RETURN_PX)


def _flow(
    before: Gray, after: Gray, points: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    there, status, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        points.reshape(-1, 1, 2),
        np.empty(0, dtype=np.float32),
        winSize=_WINDOW_PX,
        maxLevel=_LEVELS,
    )
    return np.asarray(there, dtype=np.float32).reshape(-1, 2), np.asarray(status).reshape(-1) == 1

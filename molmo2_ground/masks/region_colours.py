"""`Colours`: what colours an object or its surroundings have, and the cut between two such.

The cut is that of C. Rother, V. Kolmogorov, A. Blake, "GrabCut" (SIGGRAPH 2004), with OpenCV's graph. The
mixtures are our own, found by halving: OpenCV's begin with its global random numbers, and the same picture is
to give the same mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import RgbArray
from molmo2_ground.masks.segmenter import BoolArray

# OpenCV's graph takes mixtures of this many.
_PARTS = 5
# More say nothing new.
_MOST_PIXELS = 1500
# The noise of a camera and of a codec, levels squared: no colour is known more exactly.
_NOISE = 12.0
# Colours that nobody expected, an occluder's, belong to the surroundings rather than to the object.
_BROAD_SHARE, _BROAD_SPREAD = 0.1, 45.0**2

OUTSIDE, INSIDE = cv2.GC_BGD, cv2.GC_FGD
MAYBE_OUTSIDE, MAYBE_INSIDE = cv2.GC_PR_BGD, cv2.GC_PR_FGD


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Colours:
    """A mixture of five Gaussians over colours.

    model: float64[1, 65], five weights, five means, five covariances, as OpenCV's `grabCut` reads it.
    """

    model: npt.NDArray[np.float64]

    @classmethod
    def of(cls, colours: RgbArray, *, broad: bool = False) -> Colours:
        """The mixture of uint8[n, 3], n above 0; `broad` leaves some room for any colour at all."""
        step = max(1, len(colours) // _MOST_PIXELS)
        pixels = colours[::step].astype(np.float64)
        groups = _split(pixels, _PARTS - 1 if broad else _PARTS)
        weights, means, covariances = np.zeros(_PARTS), np.zeros((_PARTS, 3)), np.zeros((_PARTS, 3, 3))
        for place, group in enumerate(groups):
            weights[place] = len(group) / len(pixels)
            means[place], covariances[place] = _moments(group)
        if broad:
            weights *= 1.0 - _BROAD_SHARE
            weights[-1], means[-1] = _BROAD_SHARE, pixels.mean(axis=0)
            covariances[-1] = np.eye(3) * _BROAD_SPREAD
        model = np.concatenate([weights, means.ravel(), covariances.ravel()])
        return cls(model=model.reshape(1, -1))


def cut(picture: RgbArray, labels: RgbArray, *, inside: Colours, around: Colours) -> BoolArray:
    """bool[h, w]: which pixels are the object's, by colour and along edges.

    picture: uint8[h, w, 3].   labels: uint8[h, w] of `INSIDE`, `OUTSIDE` and the two that are only likely.
    """
    decided = labels.copy()
    # Without a rectangle, which is for the modes that begin with one.
    models = around.model.copy(), inside.model.copy()
    cv2.grabCut(picture, decided, (0, 0, 0, 0), *models, 1, cv2.GC_EVAL_FREEZE_MODEL)
    inside_now: BoolArray = (decided == INSIDE) | (decided == MAYBE_INSIDE)
    return inside_now


def _split(pixels: npt.NDArray[np.float64], parts: int) -> list[npt.NDArray[np.float64]]:
    """Groups of alike colours: the widest is halved, across the channel in which it is wide, until enough."""
    groups, spreads = [pixels], [pixels.var(axis=0)]
    while len(groups) < parts:
        place = max(range(len(groups)), key=lambda one: float(spreads[one].max()) * len(groups[one]))
        channel = int(spreads[place].argmax())
        if spreads[place][channel] < _NOISE:
            break
        group = groups[place]
        upper = group[:, channel] > group[:, channel].mean()
        groups[place : place + 1] = halves = [group[upper], group[~upper]]
        spreads[place : place + 1] = [half.var(axis=0) for half in halves]
    return groups


def _moments(group: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    mean = group.mean(axis=0)
    off = group - mean
    return mean, off.T @ off / len(group) + np.eye(3) * _NOISE

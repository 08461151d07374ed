"""Masks against masks: region similarity J, contour accuracy F, and their mean, as DAVIS defines them.

After F. Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation"
(CVPR 2016), and the benchmark's 2017 evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment

from molmo2_ground.rle import Rle

Bools = npt.NDArray[np.bool_]
# As true and false, or as numbers of which 0 is background.
Pixels = npt.NDArray[np.bool_ | np.integer[Any]]
Mask = Rle | Pixels

# A contour may be off by this share of the picture's diagonal.
BOUNDARY_TOLERANCE = 0.008


@dataclass(frozen=True, slots=True, kw_only=True)
class JAndF:
    """Means over the objects of their means over frames; `per_object` holds (j, f) by object id."""

    j: float
    f: float
    j_and_f: float
    per_object: Mapping[int, tuple[float, float]]

    def scores(self) -> dict[str, float]:
        """j, f and j_and_f by name, as `Suite.score` gives them."""
        return {"j": self.j, "f": self.f, "j_and_f": self.j_and_f}


def jaccard(predicted: Mask, truth: Mask) -> float:
    """J: shared pixels as a share of all pixels of either mask; 1 when both are empty.

    predicted, truth: bool[height, width] each, or an `Rle`.
    """
    one, other = _pair(predicted, truth)
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def boundary_f(predicted: Mask, truth: Mask, *, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """F: how well the contours meet, within `tolerance` times the diagonal, rounded up to whole pixels.

    predicted, truth: bool[height, width] each, or an `Rle`.
    Precision is the share of the predicted contour near the true one, recall the share of the true contour
    near the predicted one, F their harmonic mean. No contour on both sides is 1, on one side 0. A mask that
    fills the picture has no contour.
    """
    one, other = _pair(predicted, truth)
    contour, true_contour = _contour(one), _contour(other)
    length, true_length = int(contour.sum()), int(true_contour.sum())
    if not length or not true_length:
        return float(length == true_length)
    radius_px = math.ceil(tolerance * math.hypot(*one.shape))
    # Distances between contour pixels are the same in the smallest box that holds both.
    box = _box(contour | true_contour)
    contour, true_contour = contour[box], true_contour[box]
    precision = int((contour & _near(true_contour, radius_px)).sum()) / length
    recall = int((true_contour & _near(contour, radius_px)).sum()) / true_length
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def j_and_f(
    predicted: Mapping[int, Sequence[Mask | None] | Pixels],
    truth: Mapping[int, Sequence[Mask | None] | Pixels],
    *,
    match: bool = False,
    drop_ends: bool = False,
) -> JAndF:
    """J, F and J&F over objects and frames.

    predicted, truth: by object id, bool[frames, height, width] or a list of masks, one a frame; None is a
    frame in which the object is not there.

    match      True pairs predicted with true objects one to one by their mean J, and leaves predictions
               beyond that out; False takes an id to mean the same object on both sides.
    drop_ends  leave out the first and the last frame, as DAVIS does where the first one is given.

    A true object without a prediction is compared with empty masks. Raises `ValueError` when lengths differ
    or, without `match`, a predicted id is not in the truth.
    """
    if not (isinstance(predicted, Mapping) and isinstance(truth, Mapping)):
        raise ValueError("masks are given by object id, {1: bool[frames, height, width]}; two masks: jaccard")
    lengths = {len(masks) for masks in (*predicted.values(), *truth.values())}
    if len(lengths) > 1:
        raise ValueError(f"every object has one mask or None for each frame; got lengths {sorted(lengths)}")
    frames = slice(1, -1) if drop_ends else slice(None)
    if truth and not any(range(length)[frames] for length in lengths):
        raise ValueError(f"no frame is left to compare of {max(lengths)}")
    true_masks = {key: list(masks)[frames] for key, masks in truth.items()}
    found_masks = {key: list(masks)[frames] for key, masks in predicted.items()}
    if not true_masks:
        right = float(not any(_pixels(mask) for masks in found_masks.values() for mask in masks))
        return JAndF(j=right, f=right, j_and_f=right, per_object={})
    if match:
        found_masks = _matched(found_masks, true_masks)
    elif unknown := sorted(set(found_masks) - set(true_masks)):
        raise ValueError(
            f"predicted objects {unknown} are not in the truth; use match=True to pair by overlap"
        )
    per_object = {}
    for key, masks in true_masks.items():
        found = found_masks.get(key) or [None] * len(masks)
        pairs = [_sized(one, other) for one, other in zip(found, masks, strict=True)]
        per_object[key] = (
            float(np.mean([1.0 if pair is None else jaccard(*pair) for pair in pairs])),
            float(np.mean([1.0 if pair is None else boundary_f(*pair) for pair in pairs])),
        )
    j, f = (float(np.mean([both[place] for both in per_object.values()])) for place in (0, 1))
    return JAndF(j=j, f=f, j_and_f=(j + f) / 2, per_object=per_object)


def _matched(
    predicted: Mapping[int, list[Mask | None]], truth: Mapping[int, list[Mask | None]]
) -> dict[int, list[Mask | None]]:
    """The predicted masks under the ids of the true objects that they overlap most."""
    found, wanted = list(predicted), list(truth)
    mean_j = np.zeros((len(found), len(wanted)))
    for row, one in enumerate(found):
        for column, other in enumerate(wanted):
            pairs = [_sized(a, b) for a, b in zip(predicted[one], truth[other], strict=True)]
            mean_j[row, column] = np.mean([1.0 if pair is None else jaccard(*pair) for pair in pairs])
    rows, columns = linear_sum_assignment(-mean_j)
    return {wanted[column]: predicted[found[row]] for row, column in zip(rows, columns, strict=True)}


def _sized(one: Mask | None, other: Mask | None) -> tuple[Bools, Bools] | None:
    """Both masks as pixels, an absent one empty; None when both are absent."""
    if one is None and other is None:
        return None
    if one is None:
        assert other is not None
        pixels = _decoded(other)
        return np.zeros_like(pixels), pixels
    if other is None:
        pixels = _decoded(one)
        return pixels, np.zeros_like(pixels)
    return _decoded(one), _decoded(other)


def _decoded(mask: Mask) -> Bools:
    if isinstance(mask, Rle):
        return mask.decode()
    pixels = np.asarray(mask)
    if pixels.dtype.kind not in "bui":
        raise ValueError(
            f"a mask is bool[height, width]; got {pixels.dtype}: compare it with a threshold first"
        )
    return pixels.astype(bool, copy=False)


def _pixels(mask: Mask | None) -> int:
    return 0 if mask is None else int(_decoded(mask).sum())


def _pair(predicted: Mask, truth: Mask) -> tuple[Bools, Bools]:
    one, other = _decoded(predicted), _decoded(truth)
    if one.shape != other.shape or one.ndim != 2:
        raise ValueError(
            f"two masks are compared in one picture; got {list(one.shape)} and {list(other.shape)} pixels"
        )
    return one, other


def _contour(mask: Bools) -> Bools:
    """Pixels that differ from the one right of, below or diagonally below them.

    The last row looks to the right only, the last column down only, and the last corner is never contour.
    """
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1, :] |= mask[:-1, :] != mask[1:, :]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge


def _near(contour: Bools, radius_px: int) -> Bools:
    """Pixels no farther than this from a contour pixel, which is a dilation with a disk."""
    near: Bools = distance_transform_edt(~contour) <= radius_px
    return near


def _box(mask: Bools) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

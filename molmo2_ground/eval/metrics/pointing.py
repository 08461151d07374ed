"""Pointing: precision, recall and F1 in images and in video, and PointBench.

Places are matched to objects one to one by distance, and a match is a hit when the place lies in the mask
of its object. Sources and published numbers: docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from molmo2_ground.eval.metrics.anchors import anchor_px
from molmo2_ground.eval.metrics.matched import Matched, matched, nearest_pairs
from molmo2_ground.eval.metrics.placed import Placed, placed_of
from molmo2_ground.thousandths import spell_seconds

if TYPE_CHECKING:
    from molmo2_ground.eval.example import Result, Truth, TruthFrame
    from molmo2_ground.rle import Rle

POINT_BENCH_CATEGORIES = ("affordable", "counting", "reasoning", "spatial", "steerable")
# Times are written in tenths of a second.
_ROUNDING_S = 0.05


def image_point_scores(
    truth: Truth, placed: Result | Iterable[Placed] | None, *, reference_compat: bool = False
) -> Matched:
    """Pointing in one image or several; a place is matched to objects of its own image only.

    truth   what is there: `Truth.from_masks({1: mask})` makes it of bool[height, width] arrays.
    placed  what `grounder.point` returned, or places: `placed_at` makes them of float[n, 2] pixels.

    Nothing there and nothing placed is 1; one of both is 0.
    """
    places = placed_of(placed)
    anchors: list[tuple[int, tuple[float, float], Rle | None]] = []
    for item in truth.objects:
        for frame in item.frames:
            at_px = anchor_px(frame)
            if at_px is not None:
                anchors.append((frame.source_index, at_px, frame.mask))
    hits = 0
    for image in sorted({source_index for source_index, _, _ in anchors}):
        here = [place for place in places if place.source_index == image]
        there = [(at_px, mask) for source_index, at_px, mask in anchors if source_index == image]
        if not here:
            continue
        pairs = nearest_pairs(
            np.array([(place.x_px, place.y_px) for place in here], dtype=np.float64),
            np.array([at_px for at_px, _ in there], dtype=np.float64),
        )
        hits += sum(here[p].lies_in(there[o][1], reference_compat=reference_compat) for p, o in pairs)
    return matched(hits, len(places), len(anchors), reference_compat=reference_compat)


def point_scores(
    truth: Truth,
    placed: Result | Iterable[Placed] | None,
    *,
    tolerance_s: float | None = None,
    reference_compat: bool = False,
) -> Matched:
    """Pointing in a video: each object once, in the right frame and on its mask.

    truth   what is there, with `duration_s`: `Truth.from_masks({1: masks}, times_s=times_s)` makes it of
            bool[frames, height, width] and float[frames] arrays.
    placed  what `grounder.point` or `grounder.count` returned, or places with times in seconds: `placed_at`
            makes them of float[n, 2] pixels.

    An object may have masks at several times; its annotated point is the one of its first frame with
    `xy_px`. Distance is taken over time and place together, each as a share of the whole (in hundredths,
    rounded to tenths). A place hits when it lies in the object's mask that is nearest to its frame's own
    time and at most `tolerance_s` seconds away: without it half a step of the annotation's grid, which has
    `truth.fps` steps a second, and never less than 0.05. So each frame that a model may be shown has the
    one annotated moment that it is about. With `reference_compat` the time that the model named, in
    tenths of a second, must be exactly that of a mask.
    """
    places = placed_of(placed)
    objects = [(point, item.frames) for item in truth.objects if (point := _annotated(item.frames))]
    if not places or not objects:
        return matched(0, len(places), len(objects), reference_compat=reference_compat)
    pairs = nearest_pairs(
        _hundredths(truth, [(p.named_time_s, p.x_px, p.y_px) for p in places]),
        _hundredths(truth, [point for point, _ in objects]),
    )
    reach_s = time_reach_s(truth) if tolerance_s is None else tolerance_s

    def hit(place: Placed, frames: Sequence[TruthFrame]) -> bool:
        if reference_compat:
            assert place.named_time_s is not None
            # Read from the text, where times have one decimal: 2.04 s is told, and named, as 2.0.
            named_s = float(spell_seconds(place.named_time_s))
            return place.lies_in(_mask_at(frames, named_s, 0.0), reference_compat=True)
        own_s = place.named_time_s if place.time_s is None else place.time_s
        return place.lies_in(_mask_at(frames, own_s, reach_s))

    hits = sum(hit(places[p], objects[o][1]) for p, o in pairs)
    return matched(hits, len(places), len(objects), reference_compat=reference_compat)


def time_reach_s(truth: Truth) -> float:
    """How far a frame may be from an annotated moment that it is judged by, seconds: half a grid step.

    A long video is shown at times that are spread evenly and not on the grid of its annotation (384 frames
    of more than 191.5 s are farther apart than half a second), and each has its nearest moment on the grid.
    """
    return max(_ROUNDING_S, 0.5 / truth.fps) if truth.fps else _ROUNDING_S


def point_bench(mask: Rle, placed: Result | Iterable[Placed] | None) -> float:
    """1 when there is at least one place and every one lies in the mask, else 0.

    mask    `Rle.encode` makes it of bool[height, width].   placed: as for `image_point_scores`.

    The pixel is the whole part of the coordinate, in the released evaluator too. A place beyond a mask
    that is smaller than its image is outside.
    """
    places = placed_of(placed)
    return float(bool(places) and all(mask.covers(int(p.x_px), int(p.y_px)) for p in places))


def _annotated(frames: Sequence[TruthFrame]) -> tuple[float | None, float, float] | None:
    """(time_s, x_px, y_px) of the annotated point; without one, the middle of the first mask."""
    for frame in frames:
        if frame.xy_px is not None:
            return frame.time_s, *frame.xy_px
    for frame in frames:
        at_px = anchor_px(frame)
        if at_px is not None:
            return frame.time_s, *at_px
    return None


def _hundredths(truth: Truth, triplets: list[tuple[float | None, float, float]]) -> np.ndarray:
    if truth.duration_s is None or any(time_s is None for time_s, _, _ in triplets):
        raise ValueError("pointing in a video needs the video's duration and a time for each place")
    whole = np.array([truth.duration_s, *truth.size_px], dtype=np.float64)
    return np.round(np.array(triplets, dtype=np.float64) / whole * 100, 1)


def _mask_at(frames: Sequence[TruthFrame], time_s: float | None, tolerance_s: float) -> Rle | None:
    """The mask whose time is nearest, when that is within the tolerance."""
    assert time_s is not None
    timed = [(abs(f.time_s - time_s), f.mask) for f in frames if f.time_s is not None and f.mask is not None]
    distance_s, mask = min(timed, key=lambda pair: pair[0], default=(float("inf"), None))
    # Times come out of divisions; a billionth of a second is no difference.
    return mask if distance_s <= tolerance_s + 1e-9 else None

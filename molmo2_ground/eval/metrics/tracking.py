"""Tracking with points: precision, recall and F1 over annotated frames, and the frames that HOTA reads.

Sources and published numbers, and the released evaluator's defect: docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from molmo2_ground.eval.metrics.anchors import anchor_px
from molmo2_ground.eval.metrics.hota import FrameSimilarity
from molmo2_ground.eval.metrics.matched import Matched, matched, nearest_pairs
from molmo2_ground.eval.metrics.placed import Placed, placed_of

if TYPE_CHECKING:
    from molmo2_ground.eval.example import Result, Truth, TruthFrame
    from molmo2_ground.rle import Rle

# Times are written in tenths of a second, so a named time may be off by half of one.
_TENTH_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """One frame: the objects in sight, each with its anchor point and mask, and the places named there."""

    ids: tuple[int, ...]
    anchors_px: tuple[tuple[float, float], ...]
    masks: tuple[Rle | None, ...]
    wanted: int
    places: tuple[Placed, ...]

    def hits(self, *, reference_compat: bool) -> int:
        if not self.places or not self.anchors_px:
            return 0
        pairs = nearest_pairs(
            np.array([(place.x_px, place.y_px) for place in self.places], dtype=np.float64),
            np.array(self.anchors_px, dtype=np.float64),
        )
        return sum(self.places[p].lies_in(self.masks[o], reference_compat=reference_compat) for p, o in pairs)

    def similarity(self, *, reference_compat: bool) -> FrameSimilarity:
        inside = [
            [place.lies_in(mask, reference_compat=reference_compat) for place in self.places]
            for mask in self.masks[: len(self.ids)]
        ]
        return FrameSimilarity(
            truth_ids=self.ids,
            predicted_ids=tuple(place.object_id for place in self.places),
            similarity=np.array(inside, dtype=np.float64).reshape(len(self.ids), len(self.places)),
        )


def track_scores(
    truth: Truth, placed: Result | Iterable[Placed] | None, *, reference_compat: bool = False
) -> Matched:
    """Precision, recall and F1 of each annotated frame, averaged over the frames.

    truth   what is there: `Truth.from_masks({1: masks}, times_s=times_s)` makes it of
            bool[frames, height, width] and float[frames] arrays. Its frames are those that are judged; the
            public sets annotate one a second.
    placed  what `grounder.track` returned, or places with times in seconds: `placed_at` makes them of
            float[n, 2] pixels.

    In a frame, places are matched to visible objects one to one by pixel distance; a match is a hit when
    the place lies in its object's mask. A frame without objects scores 1 when nothing was placed in it,
    else 0. Places between annotated frames are not judged. Nothing there and nothing placed is 1.
    """
    moments = _moments(truth, placed_of(placed), reference_compat=reference_compat)
    if not moments:
        return matched(0, 0, 0)
    scores = []
    for moment in moments:
        hits = moment.hits(reference_compat=reference_compat)
        # The released evaluator gives a frame without visible objects, but with places, 0 in each.
        wanted = moment.wanted if moment.ids else 0
        scores.append(matched(hits, len(moment.places), wanted, reference_compat=reference_compat))
    precision, recall, f1 = (
        float(np.mean([getattr(score, name) for score in scores])) for name in ("precision", "recall", "f1")
    )
    hits, predicted, wanted = (
        sum(getattr(score, name) for score in scores) for name in ("hits", "predicted", "wanted")
    )
    return Matched(precision=precision, recall=recall, f1=f1, hits=hits, predicted=predicted, wanted=wanted)


def track_frames(
    truth: Truth, placed: Result | Iterable[Placed] | None, *, reference_compat: bool = False
) -> tuple[FrameSimilarity, ...]:
    """The annotated frames as `hota` and `identity_switches` read them: 1 for a place in a mask.

    Takes what `track_scores` takes.
    """
    moments = _moments(truth, placed_of(placed), reference_compat=reference_compat)
    return tuple(moment.similarity(reference_compat=reference_compat) for moment in moments)


def _moments(truth: Truth, placed: tuple[Placed, ...], *, reference_compat: bool) -> list[_Moment]:
    if reference_compat:
        return _reference_moments(truth, placed)
    times = _annotated_times(truth)
    if not times:
        # No frame is annotated: the question has no answer, and each place counts as wrong.
        named = sorted({place.named_time_s or 0.0 for place in placed})
        return [_moment((), _one_each(p for p in placed if (p.named_time_s or 0.0) == t)) for t in named]
    slots = _slots(times, placed, fps=truth.fps)
    at: list[dict[int, TruthFrame]] = [{} for _ in times]
    index = {time: place for place, time in enumerate(times)}
    for item in truth.objects:
        for frame in item.frames:
            at[index[_key(frame.time_s)]][item.object_id] = frame
    return [_moment(tuple(seen.items()), slots[place]) for place, seen in enumerate(at)]


def _moment(seen: tuple[tuple[int, TruthFrame], ...], places: tuple[Placed, ...]) -> _Moment:
    anchored = [(i, anchor, frame.mask) for i, frame in seen if (anchor := anchor_px(frame)) is not None]
    return _Moment(
        ids=tuple(i for i, _, _ in anchored),
        anchors_px=tuple(anchor for _, anchor, _ in anchored),
        masks=tuple(mask for _, _, mask in anchored),
        wanted=len(anchored),
        places=places,
    )


def _one_each(places: Iterable[Placed]) -> tuple[Placed, ...]:
    """The last place of each object."""
    return tuple({place.object_id: place for place in places}.values())


def _annotated_times(truth: Truth) -> list[float]:
    times = {_key(time) for time in truth.frame_times_s}
    times |= {_key(frame.time_s) for item in truth.objects for frame in item.frames}
    return sorted(times)


def _key(time_s: float | None) -> float:
    if time_s is None:
        raise ValueError("tracking is scored over time; a frame of the truth has no time_s")
    # One frame's time, come by in two ways, is the same to a microsecond.
    return round(time_s, 6)


def _slots(
    times: list[float], placed: tuple[Placed, ...], *, fps: float | None
) -> dict[int, tuple[Placed, ...]]:
    """The places of each annotated frame: those within a frame's duration, the nearest one of each object."""
    grid = np.array(times)
    tolerance_s = max(_TENTH_S, 1 / fps if fps else 0.0) + 1e-6
    nearest: dict[tuple[int, int], tuple[float, Placed]] = {}
    for place in placed:
        own = [time for time in (place.time_s, place.shown_time_s) if time is not None]
        if not own:
            raise ValueError("tracking is scored over time; a place has no time_s")
        distances = np.abs(grid[:, None] - np.array(own)[None, :]).min(axis=1)
        slot = int(distances.argmin())
        distance = float(distances[slot])
        key = slot, place.object_id
        if distance <= tolerance_s and (key not in nearest or distance < nearest[key][0]):
            nearest[key] = distance, place
    found: dict[int, list[Placed]] = {slot: [] for slot in range(len(times))}
    for (slot, _), (_, place) in sorted(nearest.items(), key=lambda item: item[0]):
        found[slot].append(place)
    return {slot: tuple(places) for slot, places in found.items()}


def _reference_moments(truth: Truth, placed: tuple[Placed, ...]) -> list[_Moment]:
    """Frames as the released evaluator sees them, its defect included.

    Frames are numbers, round(time x rate), those of the truth and of the prediction together. The masks are
    of all objects in order, hidden ones with an empty mask, but the points of visible objects only; the
    first visible object meets the first mask, whosever it is, and recall divides by all objects.
    """
    if truth.fps is None:
        raise ValueError("reference_compat aligns by frame number and needs the video's fps")
    fps = truth.fps
    objects: list[dict[int, TruthFrame]] = [
        {round(_key(frame.time_s) * fps): frame for frame in item.frames} for item in truth.objects
    ]
    named: dict[int, dict[int, Placed]] = {}
    for place in placed:
        time_s = place.named_time_s
        if time_s is None:
            raise ValueError("tracking is scored over time; a place has no time_s")
        named.setdefault(round(time_s * fps), {})[place.object_id] = place
    numbers = {round(time * fps) for time in _annotated_times(truth)} | set(named)
    moments = []
    for number in sorted(numbers):
        at = [frames.get(number) for frames in objects]
        seen = [
            (item.object_id, anchor)
            for item, frame in zip(truth.objects, at, strict=True)
            if frame is not None and (anchor := anchor_px(frame)) is not None
        ]
        moments.append(
            _Moment(
                ids=tuple(i for i, _ in seen),
                anchors_px=tuple(anchor for _, anchor in seen),
                masks=tuple(frame.mask if frame is not None else None for frame in at),
                wanted=len(objects),
                places=tuple(place for _, place in sorted(named.get(number, {}).items())),
            )
        )
    return moments

"""`Stitcher`: one identity for an object across the windows of a long video."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from molmo2_ground.results import Sample, Track

SHARED_GATE = 0.08
"""Two windows mean one object when its places on shared frames lie at most this far apart, by their median.

Distances are shares of the picture: the length of (dx / width, dy / height). Both windows look at the same
pixels, so they differ only by the model's scatter, which is a few per cent for an object of ordinary size.
"""

CARRY_GATE = 0.12
CARRY_S = 2.0
"""Without a shared frame (hidden there in one of the windows), an object is carried on in a straight line
for at most this many seconds, and taken up again within `CARRY_GATE` of where it should be."""

_FAR = 1e6  # cost of a pair that may not be matched: above any sum of distances


@dataclass(slots=True)
class Stitcher:
    """Identities across windows: give it each window's tracks in order of time.

    tracks  the objects so far, by id. The first window's ids are kept; an object first seen later gets
            the next free number.
    joins   one line for each object of each later window: what it was matched with and why.
    """

    joins: list[str] = field(default_factory=list)
    _labels: dict[int, str] = field(default_factory=dict)
    _samples: dict[int, list[Sample]] = field(default_factory=dict)  # in order of time
    _begun: bool = False

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The objects so far, by id, samples in order of time."""
        return tuple(
            Track(object_id=object_id, label=self._labels[object_id], samples=tuple(samples))
            for object_id, samples in sorted(self._samples.items())
        )

    def add(self, name: str, window: Sequence[Track]) -> None:
        """Join the tracks of the next window; `name` is what `joins` calls it."""
        tracks = [track for track in sorted(window, key=lambda t: t.object_id) if track.samples]
        if not self._begun:
            self._begun = True
            for track in tracks:
                self._extend(track.object_id, track)
            return
        matches = _match(self._recent(tracks), tracks)
        next_id = max(self._samples, default=0) + 1
        for track in tracks:
            if track.object_id in matches:
                object_id, reason = matches[track.object_id]
            else:
                object_id, reason = next_id, "no earlier object is near enough, so it is new"
                next_id += 1
            self._extend(object_id, track)
            self.joins.append(f"{name}: its object {track.object_id} is object {object_id}; {reason}")

    def _recent(self, tracks: Sequence[Track]) -> dict[int, list[Sample]]:
        """The samples that can matter for these tracks, by object id, in order of time."""
        since_s = min((t.first.time_s for t in tracks), default=0.0) - 2 * CARRY_S
        # By search, not by looking at each sample: an object may have been there for an hour.
        return {
            object_id: samples[bisect_left(samples, since_s, key=_time_s) :]
            for object_id, samples in self._samples.items()
            if samples[-1].time_s >= since_s
        }

    def _extend(self, object_id: int, track: Track) -> None:
        self._labels.setdefault(object_id, track.label)
        samples = self._samples.setdefault(object_id, [])
        for sample in track.samples:
            at = bisect_left(samples, sample.time_s, key=_time_s)
            same_time = samples[at : bisect_right(samples, sample.time_s, lo=at, key=_time_s)]
            # On a shared frame the earlier window's place stands: it had seen what led up to it.
            if all(known.source_index != sample.source_index for known in same_time):
                samples.insert(at, sample)


def _time_s(sample: Sample) -> float:
    return sample.time_s


def _match(known: dict[int, list[Sample]], tracks: Sequence[Track]) -> dict[int, tuple[int, str]]:
    """For each track that is a known object: the object's id and the reason, by the track's own id."""
    ids = list(known)
    shared = np.full((len(ids), len(tracks)), np.nan)
    frames = np.zeros((len(ids), len(tracks)), dtype=np.int64)
    for row, object_id in enumerate(ids):
        for column, track in enumerate(tracks):
            shared[row, column], frames[row, column] = apart_on_shared_frames(known[object_id], track)
    matches = {}
    for row, column in assign(shared, SHARED_GATE):
        words = (
            f"on {frames[row, column]} shared frames they lie {100 * shared[row, column]:.1f} % apart "
            f"(at most {100 * SHARED_GATE:.0f} %)"
        )
        matches[tracks[column].object_id] = (ids[row], words)
    taken = {object_id for object_id, _ in matches.values()}
    carried = np.full(shared.shape, np.nan)
    gaps_s = np.zeros(shared.shape)
    for row, object_id in enumerate(ids):
        for column, track in enumerate(tracks):
            # Seen apart on a shared frame is proof of two objects: such a pair is never carried on.
            if object_id not in taken and track.object_id not in matches and not frames[row, column]:
                carried[row, column], gaps_s[row, column] = _off_the_straight_line(known[object_id], track)
    for row, column in assign(carried, CARRY_GATE):
        words = (
            f"no frame shows it in both; carried on for {gaps_s[row, column]:.1f} s it is "
            f"{100 * carried[row, column]:.1f} % off (at most {100 * CARRY_GATE:.0f} %)"
        )
        matches[tracks[column].object_id] = (ids[row], words)
    return matches


def assign(distance: npt.NDArray[np.float64], gate: float) -> list[tuple[int, int]]:
    """Pairs (row, column) no farther apart than `gate`: as many as possible, then as near as possible."""
    if not distance.size:
        return []
    # Imported here: a quarter of a second that a short video never needs.
    from scipy.optimize import linear_sum_assignment

    allowed = np.nan_to_num(distance, nan=np.inf) <= gate
    rows, columns = linear_sum_assignment(np.where(allowed, distance, _FAR))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if allowed[r, c]]


def _distance_norm(a: Sample, b: Sample) -> float:
    """How far apart two places are, shares of the picture."""
    return float(np.hypot(a.x_norm - b.x_norm, a.y_norm - b.y_norm))


def apart_on_shared_frames(known: Sequence[Sample], track: Track) -> tuple[float, int]:
    """How far apart they are on the frames where both are seen, and how many these are; nan and 0 for none.

    The median over the frames, where the n-th counts n times: the later one is, the more it says about who
    goes on as whom. A mean would let one place far off, where a window of the model mixes two objects up in
    its first frame, part an object from itself; standing still, it would get a new number in every window.
    """
    places = {sample.source_index: sample for sample in track.samples}
    apart = np.array([_distance_norm(s, places[s.source_index]) for s in known if s.source_index in places])
    if not apart.size:
        return float("nan"), 0
    order = np.argsort(apart, kind="stable")
    counted = np.cumsum(1 + order)
    return float(apart[order][np.searchsorted(counted, counted[-1] / 2)]), len(apart)


def _off_the_straight_line(known: Sequence[Sample], track: Track) -> tuple[float, float]:
    """How far the track's first place is from where the known object should be then, and the gap, seconds."""
    first = track.samples[0]
    at = min(range(len(known)), key=lambda i: abs(known[i].time_s - first.time_s))
    last = known[at]
    gap_s = first.time_s - last.time_s
    if abs(gap_s) > CARRY_S:
        return float("nan"), gap_s
    vx_norm_s, vy_norm_s = velocity_norm_s(known[: at + 1])
    expected = last.model_copy(
        update={"x_norm": last.x_norm + vx_norm_s * gap_s, "y_norm": last.y_norm + vy_norm_s * gap_s}
    )
    return _distance_norm(expected, first), abs(gap_s)


def velocity_norm_s(samples: Sequence[Sample]) -> tuple[float, float]:
    """How fast an object was going lately, shares of the picture a second: the median over its steps.

    Not its last step: what is being covered shows less and less of itself, and the middle of what shows
    falls behind.
    """
    recent = [s for s in samples if samples[-1].time_s - s.time_s <= CARRY_S]
    steps = [(a, b, b.time_s - a.time_s) for a, b in pairwise(recent) if b.time_s > a.time_s]
    if not steps:
        return 0.0, 0.0
    return (
        float(np.median([(b.x_norm - a.x_norm) / step_s for a, b, step_s in steps])),
        float(np.median([(b.y_norm - a.y_norm) / step_s for a, b, step_s in steps])),
    )

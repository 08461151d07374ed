"""What is to be drawn when: places that were seen, places between two sightings, nothing where none was seen.

The model looks at a few frames a second; a video shows many more. Between two sightings that follow each
other in what the model looked at, a straight line says where the object about was, and is drawn as such.
When the model looked in between and did not see the object, nothing is drawn: there is no place to show.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from molmo2_ground.results import RESULT, Answer, Count, Point, Points, Receipt, Sample, State, Track, Tracks
from molmo2_ground.sightings import SAME_TIME_S, adjoin, looked_times_s

Result = Points | Tracks | Count | Answer

# For so long after it was last seen an object that is never seen again counts as hidden; then it is gone.
HIDDEN_S = 2.0
# How long a lone sighting is echoed by a growing ring, so that an eye can catch it in a moving video.
ECHO_S = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something is, in shares of the picture's width and height (0–1): fits a picture of any size."""

    x_norm: float
    y_norm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One object in one picture.

    state  `observed`: the model saw it in this very frame; else it lies between sightings, or was carried.
    trail  where it was, oldest first, ending at the mark; empty for a still picture.
    """

    object_id: int
    label: str
    place: Place
    state: State
    trail: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """A lone sighting a moment ago: `share` runs from 0 at the sighting to 1 when the echo ends."""

    object_id: int
    place: Place
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The model looked and did not see an object that it had seen before.

    place, last_seen_s  where and when it was last seen;
    start_s             the first look at which it was missed;
    end_s               when it is seen again; `HIDDEN_S` after the last sighting when it never is.
    returns             True when it is seen again.
    """

    object_id: int
    label: str
    place: Place
    last_seen_s: float
    start_s: float
    end_s: float
    returns: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything to draw in one picture."""

    marks: tuple[Mark, ...]
    echoes: tuple[Echo, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """Samples of one object without a gap: the model saw it every time it looked between first and last."""

    object_id: int
    label: str
    samples: tuple[Sample, ...]

    @property
    def times_s(self) -> list[float]:
        """Seconds, rising."""
        return [sample.time_s for sample in self.samples]


class Timeline:
    """A result, ordered so that what is visible at a time is found quickly."""

    def __init__(self, result: Result) -> None:
        points, tracks, receipt = _parts(result)
        self.receipt = receipt
        self.looked_s = looked_times_s(receipt, tracks)
        self.stills = tuple(point for point in points if point.time_s is None)
        of_track = [_legs(track, self.looked_s) for track in tracks]
        self.gaps = tuple(gap for legs in of_track for gap in _gaps(legs, self.looked_s))
        legs = [leg for legs in of_track for leg in legs]
        # A point in a video says "here, at this moment" and nothing of the moments before and after.
        legs += [_lone(point, point.time_s) for point in points if point.time_s is not None]
        self.legs: tuple[Leg, ...] = tuple(
            sorted(legs, key=lambda leg: (leg.object_id, leg.samples[0].time_s))
        )
        self._times_s = [leg.times_s for leg in self.legs]
        self.labels = {p.label for p in self.stills} | {leg.label for leg in self.legs}
        self.object_ids = {p.object_id for p in self.stills} | {leg.object_id for leg in self.legs}
        fps = receipt.source_fps
        # A caller's time may be off by a rounding, but not by half a frame. The average rate says little
        # about the shortest frame of a video of variable rate, hence the cap.
        self.same_frame_s = min(0.45 / fps, 0.015) if fps else 0.015

    def at(self, time_s: float, *, trail_s: float) -> Scene:
        """What to draw in the frame at `time_s`, with trails over the last `trail_s` seconds."""
        marks: list[Mark] = []
        echoes: list[Echo] = []
        for leg, times_s in zip(self.legs, self._times_s, strict=True):
            if time_s < times_s[0] - self.same_frame_s or time_s > times_s[-1] + max(
                ECHO_S, self.same_frame_s
            ):
                continue
            mark = _mark(leg, times_s, time_s, trail_s=trail_s, same_frame_s=self.same_frame_s)
            if mark is not None:
                marks.append(mark)
            elif len(leg.samples) == 1:
                share = (time_s - times_s[0]) / ECHO_S
                if 0 < share < 1:
                    echoes.append(Echo(object_id=leg.object_id, place=_place(leg.samples[0]), share=share))
        return Scene(marks=tuple(marks), echoes=tuple(echoes))

    def hidden_at(self, time_s: float) -> tuple[Gap, ...]:
        """The objects that the model looked for and did not see, at `time_s`; of each the last sighting."""
        near_s = self.same_frame_s
        return tuple(gap for gap in self.gaps if gap.start_s - near_s <= time_s < gap.end_s - near_s)

    def still(self, source_index: int | None) -> Scene:
        """What to draw on a still picture: the points of image `source_index`, or all when it is None."""
        return Scene(
            marks=tuple(
                Mark(object_id=p.object_id, label=p.label, place=_place(p), state=p.state)
                for p in self.stills
                if source_index is None or p.source_index == source_index
            )
        )


def _parts(result: Result) -> tuple[Sequence[Point], Sequence[Track], Receipt]:
    if isinstance(result, Tracks):
        return (), result.tracks, result.receipt
    if isinstance(result, Points):
        return result.points, (), result.receipt
    if isinstance(result, Count):
        return result.points.points, (), result.receipt
    RESULT.check("result", result)
    points = result.points.points if result.points is not None else ()
    tracks = result.tracks.tracks if result.tracks is not None else ()
    return points, tracks, result.receipt


def _legs(track: Track, looked_s: tuple[float, ...]) -> list[Leg]:
    samples = sorted(track.samples, key=lambda sample: sample.time_s)
    if not samples:
        return []
    groups = [[samples[0]]]
    for earlier, later in pairwise(samples):
        if adjoin(earlier.time_s, later.time_s, looked_s):
            groups[-1].append(later)
        else:
            groups.append([later])
    return [Leg(object_id=track.object_id, label=track.label, samples=tuple(group)) for group in groups]


def _gaps(legs: list[Leg], looked_s: tuple[float, ...]) -> list[Gap]:
    """Where one object, whose legs these are in order of time, was looked for and not seen."""
    gaps = []
    for place, leg in enumerate(legs):
        last, later = leg.samples[-1], legs[place + 1] if place + 1 < len(legs) else None
        end_s = last.time_s + HIDDEN_S if later is None else later.samples[0].time_s
        missed = bisect_right(looked_s, last.time_s + SAME_TIME_S)
        if missed == len(looked_s) or looked_s[missed] >= end_s - SAME_TIME_S:
            continue  # nobody looked: that it was not seen says nothing
        gaps.append(
            Gap(
                object_id=leg.object_id,
                label=leg.label,
                place=_place(last),
                last_seen_s=last.time_s,
                start_s=looked_s[missed],
                end_s=end_s,
                returns=later is not None,
            )
        )
    return gaps


def _lone(point: Point, time_s: float) -> Leg:
    sample = Sample(
        time_s=time_s,
        source_index=point.source_index,
        x_px=point.x_px,
        y_px=point.y_px,
        x_norm=point.x_norm,
        y_norm=point.y_norm,
        state=point.state,
    )
    return Leg(object_id=point.object_id, label=point.label, samples=(sample,))


def _mark(
    leg: Leg, times_s: list[float], time_s: float, *, trail_s: float, same_frame_s: float
) -> Mark | None:
    """The object at `time_s`: in a sampled frame, or on the way between two; None outside its leg."""
    after = bisect_right(times_s, time_s)
    near = min(
        (i for i in (after - 1, after) if 0 <= i < len(times_s)), key=lambda i: abs(times_s[i] - time_s)
    )
    if abs(times_s[near] - time_s) <= same_frame_s:
        end, place, state = near, _place(leg.samples[near]), leg.samples[near].state
    elif 0 < after < len(times_s):
        share = (time_s - times_s[after - 1]) / (times_s[after] - times_s[after - 1])
        end, place, state = after, _between(leg.samples[after - 1], leg.samples[after], share), "interpolated"
    else:
        return None
    start = bisect_left(times_s, time_s - trail_s)
    trail = [_place(sample) for sample in leg.samples[start:end]]
    if 0 < start < len(times_s) and start <= end and times_s[start] > time_s - trail_s:
        # The trail's old end glides along its line instead of jumping from sample to sample.
        share = (time_s - trail_s - times_s[start - 1]) / (times_s[start] - times_s[start - 1])
        trail.insert(0, _between(leg.samples[start - 1], leg.samples[start], share))
    return Mark(
        object_id=leg.object_id,
        label=leg.label,
        place=place,
        state=state,
        trail=(*trail, place) if trail and trail_s > 0 else (),
    )


def _place(at: Point | Sample) -> Place:
    return Place(x_norm=at.x_norm, y_norm=at.y_norm)


def _between(earlier: Sample, later: Sample, share: float) -> Place:
    return Place(
        x_norm=earlier.x_norm + share * (later.x_norm - earlier.x_norm),
        y_norm=earlier.y_norm + share * (later.y_norm - earlier.y_norm),
    )

"""`ShownPlaces`: where the things of an annotation are in the frames that the model is shown.

An annotation knows moments of a file; a clip shows some of them. Only these can be said, under the time that
the model is told. What is hidden is never said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molmo2_ground.answer import Group, ParsedPoint
from molmo2_ground.query import MAX_TRACK_FPS
from molmo2_ground.thousandths import to_thousandths
from molmo2_ground.train.inside_point import MIDDLE, box_point, mask_point

if TYPE_CHECKING:
    from collections.abc import Iterable

    from molmo2_ground.clip import Clip
    from molmo2_ground.train.rows import Annotation, Moment, Place, Row

# Rates that data sets are asked for at, beside their own.
_USUAL_RATES = (1.0, 2.0)
_SAME_RATE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPlaces:
    """Places in thousandths of the picture, group by group.

    groups    one for each annotated picture that is shown, in order of key, those without a place included.
              The key is the picture's number from 1, or the time in seconds, rounded as it is written.
    times_s   of a video: the time that is shown for each group, not rounded.
    missing   things that the clip's time has and none of its frames shows, although each place counts, and
              those of frames that share their name with an earlier one: a list of places without them would
              be wrong.
    unplaced  places in sight of which nobody says where they are.
    lost      (why, how many) of places that are not to be seen after all.
    """

    groups: tuple[Group, ...]
    times_s: tuple[float, ...] = ()
    missing: int = 0
    unplaced: int = 0
    lost: tuple[tuple[str, int], ...] = ()

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The things that are seen anywhere, rising."""
        return tuple(sorted(_ids(self.groups)))

    def on_grid(self, rate_fps: float, *, match_s: float = 0.01) -> ShownPlaces:
        """Only the times that are a whole number of steps of 1 / rate_fps seconds, to within `match_s`."""
        kept = [
            (group, time_s)
            for group, time_s in zip(self.groups, self.times_s, strict=True)
            if abs(time_s - round(time_s * rate_fps) / rate_fps) < match_s
        ]
        return replace(self, groups=tuple(g for g, _ in kept), times_s=tuple(t for _, t in kept))


def shown_places(
    annotation: Annotation, row: Row, clip: Clip, *, rng: np.random.Generator, match_s: float = 0.01
) -> ShownPlaces:
    """The places of an annotation that the clip shows.

    clip     its shown times count from the start of `row.clip_s`; a still image for each of `row.media`.
    rng      where in masks and boxes the points lie; one place for each thing, the same in all frames.
    match_s  a moment belongs to the frame shown nearest to it when they are closer than this.

    Raises `ValueError` when the row and the clip, or the row's kind and its moments, are not of one kind.
    """
    inside = _Inside(annotation, row, clip, rng)
    if row.kind == "video":
        pairs, missing = _moments_of_frames(annotation, row, clip, match_s)
    else:
        pairs, missing = _moments_of_images(annotation, row, clip), 0
    groups: dict[int | float, Group] = {}
    times_s: dict[int | float, float] = {}
    unnamed: set[int] = set()
    for key, time_s, picture, moments in pairs:
        if key in groups:
            # Two frames within a tenth of a second have one name; the first one has it.
            unnamed |= {
                place.object_id for moment in moments for place in moment.places if not place.occluded
            }
            continue
        places = [place for moment in moments for place in moment.places if not place.occluded]
        points = (inside.point(place, picture) for place in places)
        groups[key] = Group(key=key, points=tuple(point for point in points if point is not None))
        if time_s is not None:
            times_s[key] = time_s
    return ShownPlaces(
        groups=tuple(groups[key] for key in sorted(groups)),
        times_s=tuple(times_s[key] for key in sorted(times_s)),
        missing=missing + len(unnamed - _ids(groups.values())),
        unplaced=inside.unplaced,
        lost=tuple(inside.lost.items()),
    )


def _in_sight(moments: Iterable[Moment]) -> list[Place]:
    return [place for moment in moments for place in moment.places if not place.occluded]


def _ids(groups: Iterable[Group]) -> set[int]:
    return {point.object_id for group in groups for point in group.points}


def seen_once(groups: Iterable[Group]) -> list[Group]:
    """Every thing of a video where it is first seen, and nowhere else: pointing names each once."""
    met: set[int] = set()
    first = []
    for group in groups:
        new = tuple(point for point in group.points if point.object_id not in met)
        met |= {point.object_id for point in new}
        first.append(Group(key=group.key, points=new))
    return first


def seen_first_and_last(groups: Iterable[Group]) -> list[Group]:
    """Every thing where it is first seen and where it is last seen; once when that is one moment."""
    ordered = list(groups)
    last: dict[int, int | float] = {}
    for group in ordered:
        last.update((point.object_id, group.key) for point in group.points)
    met: set[int] = set()
    ends = []
    for group in ordered:
        kept = tuple(p for p in group.points if p.object_id not in met or last[p.object_id] == group.key)
        met |= {point.object_id for point in group.points}
        ends.append(Group(key=group.key, points=kept))
    return ends


def asked_rates(
    annotation: Annotation, clip: Clip, shown: ShownPlaces, *, match_s: float = 0.01
) -> tuple[float, ...]:
    """Rates at which places can be asked for and all be told, places a second, rising.

    The clip shows every step of the rate. Of an annotation on a regular grid every step was looked at, those
    without a moment too; of an irregular one, every step has its moment.
    """
    frames_s = clip.shown_times_s
    if not len(frames_s):
        return ()
    own = annotation.rate_fps
    kept = []
    for rate in sorted(set(_USUAL_RATES) if own is None else {*_USUAL_RATES, own}):
        steps = np.arange(np.floor((frames_s[-1] + match_s) * rate) + 1) / rate
        steps = steps[steps > frames_s[0] - match_s]
        if rate > MAX_TRACK_FPS or not len(steps) or not _all_near(steps, frames_s, match_s):
            continue
        if own is None:
            # A grid of one step is none, unless there is no more than that to see.
            told = len(steps) > min(1, len(frames_s) - 1) and _all_near(
                steps, np.array(shown.times_s), match_s
            )
        else:
            told = _divides(rate, own)
        if told:
            kept.append(float(rate))
    return tuple(kept)


def _divides(rate: float, own: float) -> bool:
    steps = own / rate
    return steps > 1 - _SAME_RATE and abs(steps - round(steps)) < _SAME_RATE * steps


def _all_near(wanted: npt.NDArray[np.float64], there: npt.NDArray[np.float64], reach: float) -> bool:
    if not len(there):
        return False
    return bool((np.abs(wanted[:, None] - there[None, :]).min(axis=1) < reach).all())


class _Inside:
    """Turns places into points in thousandths, and counts those that give none."""

    def __init__(self, annotation: Annotation, row: Row, clip: Clip, rng: np.random.Generator) -> None:
        self.sizes = row.size_px or tuple((frame.width_px, frame.height_px) for frame in clip.frames)
        self.one_size = row.kind == "video"
        ids = sorted({place.object_id for moment in annotation.moments for place in moment.places})
        drawn = rng.random((len(ids), 2))
        self.at = {object_id: (float(a), float(d)) for object_id, (a, d) in zip(ids, drawn, strict=True)}
        self.lost: dict[str, int] = {}
        self.unplaced = 0

    def point(self, place: Place, picture: int) -> ParsedPoint | None:
        width, height = self.sizes[0 if self.one_size else picture]
        found = self._found(place, (float(width), float(height)))
        if found is None:
            return None
        x, y = found
        if not (-1 <= x <= width + 1 and -1 <= y <= height + 1):
            self._lose("lie outside the picture")
            return None
        return ParsedPoint(object_id=place.object_id, x=to_thousandths(x, width), y=to_thousandths(y, height))

    def _found(self, place: Place, size_px: tuple[float, float]) -> tuple[float, float] | None:
        at = self.at.get(place.object_id, MIDDLE)
        if place.x_px is not None and place.y_px is not None:
            return place.x_px, place.y_px
        if place.mask is not None:
            found = mask_point(place.mask.decode(), size_px=size_px, at=at)
            if found is None:
                self._lose("have a mask without a pixel")
            return found
        if place.box_px is not None:
            found = box_point(place.box_px, size_px=size_px, at=at)
            if found is None:
                self._lose("have a box that is empty or outside the picture")
            return found
        self.unplaced += 1
        return None

    def _lose(self, why: str) -> None:
        self.lost[why] = self.lost.get(why, 0) + 1


# (key, time shown if it is a video, number of the picture, what is annotated of it)
Pairs = list[tuple[int | float, float | None, int, "list[Moment]"]]


def _moments_of_images(annotation: Annotation, row: Row, clip: Clip) -> Pairs:
    if clip.kind != "images" or (row.media and len(clip) != len(row.media)):
        raise ValueError(
            f"row {row.row_id} is about {len(row.media)} still images; the clip is {clip.kind} of {len(clip)}"
        )
    by_image: dict[int, list[Moment]] = {}
    for moment in annotation.moments:
        if moment.image >= len(clip):
            raise ValueError(
                f"row {row.row_id} has a moment of image {moment.image}; images are 0 to {len(clip) - 1}"
            )
        by_image.setdefault(moment.image, []).append(moment)
    return [(image + 1, None, image, moments) for image, moments in sorted(by_image.items())]


def _moments_of_frames(annotation: Annotation, row: Row, clip: Clip, match_s: float) -> tuple[Pairs, int]:
    """What is annotated of each frame, and how many things only moments between the frames have."""
    if clip.kind != "video":
        raise ValueError(f"row {row.row_id} is about a video; the clip is {clip.kind} of {len(clip)}")
    start_s = 0.0 if row.clip_s is None else row.clip_s[0]
    times = []
    for moment in annotation.moments:
        if moment.time_s is None:
            raise ValueError(f"row {row.row_id} is about a video, and a moment of it has no time_s")
        times.append(moment.time_s - start_s)
    shown = clip.shown_times_s
    pairs: Pairs = []
    said: set[int] = set()
    if times:
        moments_s = np.array(times)
        for number, shown_s in enumerate(shown.tolist()):
            nearest = int(np.abs(moments_s - shown_s).argmin())
            if abs(moments_s[nearest] - shown_s) < match_s:
                pairs.append((round(shown_s, 1), shown_s, number, [annotation.moments[nearest]]))
                said.add(nearest)
    if annotation.rate_fps is not None:
        # Annotated densely: what shows only between the frames is not to be seen in them, and not asked for.
        return pairs, 0
    seen = {p.object_id for n in said for p in annotation.moments[n].places if not p.occluded}
    between = {
        place.object_id
        for number, moment in enumerate(annotation.moments)
        if number not in said and shown[0] - match_s < times[number] < shown[-1] + match_s
        for place in moment.places
        if not place.occluded
    }
    return pairs, len(between - seen)

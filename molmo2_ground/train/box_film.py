"""`BoxFilm`: one video with its boxes, brought to the times at which the model will be shown frames.

The model follows things on a regular grid, k / rate seconds after the start of what it is shown. A box is
drawn for a frame of the file, and that frame is on screen for a while: here each time of the grid finds the
frame that is on screen then, by the file's own presentation times, and the boxes of that frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np
import numpy.typing as npt

from molmo2_ground.rle import Rle
from molmo2_ground.sources.film_facts import SAME_TIME_S, FilmFacts
from molmo2_ground.train.box_table import BoxLine, LineProblem
from molmo2_ground.train.rows import Place

Times = npt.NDArray[np.float64]

# A gap this much longer than usual between two annotated frames is one in which nothing was to be seen.
_GAP = 1.5
# Times are written in tenths of a second.
_MOST_FPS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GridMoment:
    """A time at which a frame is shown, seconds of the file, and the places then with their labels."""

    time_s: float
    places: tuple[tuple[str, Place], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxFilm:
    """The moments of one video on their grid.

    rate_fps  moments a second; None when the boxes lie on no grid, and the moments are the annotated frames.
    start_s   where the grid begins, and end_s where the last moment's step is over.
    """

    facts: FilmFacts
    rate_fps: float | None
    start_s: float
    end_s: float
    moments: tuple[GridMoment, ...]

    @classmethod
    def of(
        cls,
        facts: FilmFacts,
        lines: Sequence[BoxLine],
        *,
        rate_fps: float,
        normalised: bool,
        whole: bool,
        looked_at: Iterable[int] = (),
    ) -> tuple[BoxFilm | None, list[LineProblem]]:
        """Bring a video's lines to its grid; None when no line is left. What is wrong comes along.

        rate_fps: at most so many moments a second. normalised: boxes are shares of the picture, 0 to 1.
        whole: everything in the video is annotated, so a frame without boxes has nothing in it also before
        the first and after the last box. looked_at: frames of which it is known that nothing else is in them.
        """
        seen, problems = _by_time(facts, lines, normalised=normalised)
        if not seen:
            return None, problems
        for frame in looked_at:
            seen.setdefault(float(facts.times_s[frame]), [])
        annotated = np.array(sorted(seen), dtype=np.float64)
        step_s = median(b - a for a, b in pairwise(annotated)) if len(annotated) > 1 else None
        found = None if step_s is None else _grid(facts, annotated, step_s, rate_fps=rate_fps, whole=whole)
        if found is None:
            moments = tuple(GridMoment(time_s=float(at), places=tuple(seen[float(at)])) for at in annotated)
            return (
                cls(facts=facts, rate_fps=None, start_s=0.0, end_s=facts.duration_s, moments=moments),
                problems,
            )
        rate, times, matches = found
        moments = tuple(
            GridMoment(time_s=float(at), places=() if hit is None else tuple(seen[hit]))
            for at, hit in zip(times, matches, strict=True)
        )
        end_s = facts.duration_s if whole else min(facts.duration_s, float(times[-1]) + 1 / rate)
        return (
            cls(facts=facts, rate_fps=rate, start_s=float(times[0]), end_s=end_s, moments=moments),
            problems,
        )


def _by_time(
    facts: FilmFacts, lines: Iterable[BoxLine], *, normalised: bool
) -> tuple[dict[float, list[tuple[str, Place]]], list[LineProblem]]:
    """Places by the time they were annotated at, and the lines that do not fit the video."""
    numbers = _object_numbers(lines)
    seen: dict[float, list[tuple[str, Place]]] = {}
    first_line: dict[tuple[float, int], int] = {}
    labels: dict[int, tuple[str, int]] = {}
    problems = []
    for line in lines:
        try:
            time_s = _time_of(facts, line)
            object_id = numbers[line.object_name]
            place = _place_of(facts, line, object_id, normalised=normalised)
            label, where = labels.setdefault(object_id, (line.label, line.line))
            if label != line.label:
                raise ValueError(
                    f"object {line.object_name} is called {line.label!r} here and {label!r} in line {where}"
                )
            where = first_line.setdefault((time_s, object_id), line.line)
            if where != line.line:
                raise ValueError(f"object {line.object_name} has a box at this time already, in line {where}")
        except ValueError as error:
            problems.append(LineProblem(line=line.line, reason=str(error), place=line.place))
            continue
        seen.setdefault(time_s, []).append((line.label, place))
    return seen, problems


def _object_numbers(lines: Iterable[BoxLine]) -> dict[str, int]:
    """A number for each object's name: its name where all are whole numbers from 1, else by turns."""
    names = list(dict.fromkeys(line.object_name for line in lines))
    numbers = {int(name) for name in names if name.isascii() and name.isdigit()} - {0}
    if len(numbers) == len(names):
        return {name: int(name) for name in names}
    return {name: number for number, name in enumerate(names, start=1)}


def _time_of(facts: FilmFacts, line: BoxLine) -> float:
    if line.frame is not None:
        if not 0 <= line.frame < len(facts.times_s):
            raise ValueError(
                f"{line.video} has {len(facts.times_s)} frames, counted from 0; got frame {line.frame}"
            )
        return float(facts.times_s[line.frame])
    assert line.time_s is not None
    if not 0 <= line.time_s <= facts.duration_s + facts.half_frame_s:
        raise ValueError(f"{line.video} lasts {facts.duration_s:.2f} s; got the time {line.time_s:g} s")
    return min(line.time_s, facts.duration_s)


def _place_of(facts: FilmFacts, line: BoxLine, object_id: int, *, normalised: bool) -> Place:
    box, (width, height) = line.box, facts.size_px
    if box is not None and normalised:
        if max(abs(edge) for edge in box) > 2:
            raise ValueError(f"the box {_shown(box)} is not in shares of the picture, 0 to 1")
        box = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    return place_in_picture(
        object_id,
        facts.size_px,
        box_px=box,
        mask=line.mask,
        point_px=line.point_px,
        occluded=line.occluded,
    )


def place_in_picture(
    object_id: int,
    size_px: tuple[int, int],
    *,
    box_px: tuple[float, float, float, float] | None = None,
    mask: Rle | None = None,
    point_px: tuple[float, float] | None = None,
    occluded: bool = False,
) -> Place:
    """A place with its box cut at the picture's edges.

    Raises `ValueError` when it lies outside the picture altogether, or its mask is empty or of another size.
    """
    width, height = size_px
    cut = None
    if box_px is not None:
        left, top, right, bottom = box_px
        cut = max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)
        if not (cut[0] < cut[2] and cut[1] < cut[3]):
            raise ValueError(
                f"the box {_shown(box_px)} lies outside the picture of {width} x {height} pixels"
            )
    if mask is not None and (mask.size_hw != (height, width) or not mask.area_px):
        raise ValueError(
            f"the mask is empty, or (height, width) {mask.size_hw} and the picture {(height, width)}"
        )
    x_px, y_px = (None, None) if point_px is None else point_px
    if x_px is not None and y_px is not None and not (0 <= x_px <= width and 0 <= y_px <= height):
        raise ValueError(
            f"the point ({x_px:g}, {y_px:g}) lies outside the picture of {width} x {height} pixels"
        )
    return Place(object_id=object_id, x_px=x_px, y_px=y_px, box_px=cut, mask=mask, occluded=occluded)


def _shown(box: tuple[float, float, float, float]) -> str:
    return f"({box[0]:g}, {box[1]:g}, {box[2]:g}, {box[3]:g})"


def _grid(
    facts: FilmFacts, annotated: Times, step_s: float, *, rate_fps: float, whole: bool
) -> tuple[float, Times, list[float | None]] | None:
    """The densest grid, at most `rate_fps`, that the boxes were drawn on: rate, times, annotated times.

    Its times count from 0, or where that does not fit from the first box. A time without a box is empty when
    the boxes around it are further apart than usual; when they are not, nobody looked there, and the grid is
    the wrong one.
    """
    if not _is_regular(facts, annotated, step_s):
        return None
    natural = round(1 / step_s, 3)
    rates = [
        rate_fps,
        rate_fps / 2,
        rate_fps / 4,
        *([natural] if natural <= min(rate_fps, _MOST_FPS) else []),
    ]
    for rate in sorted(rates, reverse=True):
        if step_s > 1 / rate + 2 * facts.half_frame_s:
            continue
        for anchor_s in (0.0,) if whole else (0.0, float(annotated[0])):
            times = _grid_times(facts, annotated, rate=rate, anchor_s=anchor_s, whole=whole)
            matches = [_match(facts, annotated, at) for at in times]
            skipped = any(
                hit is None and _between(annotated, float(at)) <= _GAP * step_s
                for at, hit in zip(times, matches, strict=True)
            )
            if not skipped and sum(hit is not None for hit in matches) > 1:
                return rate, times, matches
    return None


def _is_regular(facts: FilmFacts, annotated: Times, step_s: float) -> bool:
    """Whether at least half of the annotated times follow each other by the usual step.

    Others fit a coarse grid only by chance, and what was seen between two of its times would be lost.
    """
    slack_s = max(facts.half_frame_s + SAME_TIME_S, step_s / 4)
    return bool((np.abs(np.diff(annotated) - step_s) <= slack_s).mean() >= 0.5)


def _grid_times(facts: FilmFacts, annotated: Times, *, rate: float, anchor_s: float, whole: bool) -> Times:
    first_s, last_s = (0.0, facts.duration_s) if whole else (float(annotated[0]), float(annotated[-1]))
    count = int((facts.duration_s - anchor_s) * rate) + 2
    times = anchor_s + np.arange(count, dtype=np.float64) / rate
    slack_s = facts.half_frame_s
    return times[
        (times < facts.duration_s - SAME_TIME_S) & (times >= first_s - slack_s) & (times <= last_s + slack_s)
    ]


def _match(facts: FilmFacts, annotated: Times, time_s: float) -> float | None:
    """The annotated time that belongs to the frame on screen at `time_s`, or None."""
    for wanted_s in (facts.on_screen(time_s), time_s):
        nearest = float(annotated[np.abs(annotated - wanted_s).argmin()])
        if abs(nearest - wanted_s) <= facts.half_frame_s + SAME_TIME_S:
            return nearest
    return None


def _between(annotated: Times, time_s: float) -> float:
    """How far apart the annotated times on both sides of a time are; endless before the first and last."""
    after = int(np.searchsorted(annotated, time_s))
    if after in (0, len(annotated)):
        return float("inf")
    return float(annotated[after] - annotated[after - 1])

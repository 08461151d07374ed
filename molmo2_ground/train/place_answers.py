"""`place_answer`: what the model should say where things are, in every form that it is trained on.

All of it is written by `molmo2_ground.answer`, which also reads the answers of inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molmo2_ground.answer import (
    Group,
    ParsedAnswer,
    ParsedPoint,
    count_answer,
    count_first_answer,
    format_answer,
    number_answer,
    points_answer,
    tracks_answer,
)
from molmo2_ground.train.shown_places import seen_first_and_last, seen_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from molmo2_ground.train.rows import TaskName
    from molmo2_ground.train.shown_places import ShownPlaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The point that a track is to go on from, and the second, as it is written, in which it is shown."""

    time_s: float
    point: ParsedPoint

    def markup(self, label: str) -> str:
        """The point as it stands in the question. Raises `ValueError` for a label that cannot be written."""
        one = Group(key=self.time_s, points=(self.point,))
        return format_answer(points_answer(label, [one]))


def draw_start(shown: ShownPlaces, rng: np.random.Generator, *, random_share: float) -> Start | None:
    """Where a track from a point starts: one of the things, its first sighting or, with a chance, any.

    None when nothing is seen.
    """
    ids = shown.object_ids
    if not ids:
        return None
    object_id = ids[int(rng.integers(len(ids)))]
    anywhere = rng.random() < random_share
    sightings = [
        (float(group.key), point)
        for group in shown.groups
        for point in group.points
        if point.object_id == object_id
    ]
    time_s, point = sightings[int(rng.integers(len(sightings))) if anywhere else 0]
    return Start(time_s=time_s, point=point)


def place_answer(
    task: TaskName,
    label: str,
    shown: ShownPlaces,
    *,
    images: Sequence[int] | None = None,
    start: Start | None = None,
) -> ParsedAnswer:
    """The answer to a question about places; "There are none." where nothing is to be seen.

    shown     for tracks at a rate: `ShownPlaces.on_grid`.
    images    numbers from 1 of the pictures asked about, of several; None for all.
    start     for tracks from a point: only this thing, and only later times.

    Raises `ValueError` for a task that has no places, and as `points_answer` and `tracks_answer` do.
    """
    groups = list(shown.groups)
    if images is not None:
        groups = [group for group in groups if group.key in images]
    if task in ("point", "point_then_count", "count_then_point", "count"):
        # The same number in two pictures of a list is not one thing.
        once = seen_once(groups) if any(isinstance(group.key, float) for group in groups) else groups
        if task == "count":
            return number_answer(sum(len(group.points) for group in once))
        if task == "point":
            return points_answer(label, once)
        return count_answer(label, once) if task == "point_then_count" else count_first_answer(label, once)
    if task == "first_last":
        return tracks_answer(label, seen_first_and_last(groups))
    if task == "track":
        return tracks_answer(label, groups)
    if task in ("track_from_point", "track_from_box"):
        if start is None:
            raise ValueError(f"{task} needs the point to start at; got none")
        later = [_only(start.point.object_id, group) for group in groups if group.key > start.time_s]
        return tracks_answer(label, later)
    raise ValueError(f"{task} has no places; its answer is in the row's words")


def n_points(answer: ParsedAnswer) -> int:
    """How many points an answer writes."""
    return sum(len(group.points) for element in answer.elements for group in element.groups)


def _only(object_id: int, group: Group) -> Group:
    return Group(key=group.key, points=tuple(p for p in group.points if p.object_id == object_id))

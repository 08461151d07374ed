"""`split_row`: a row with more places than one tree may ask about, as several rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molmo2_ground.train.styles import POINT_TASKS

if TYPE_CHECKING:
    from molmo2_ground.train.rows import Annotation, Row


def split_row(row: Row, *, max_points: int = 60) -> tuple[Row, ...]:
    """The row itself if its pointing and counting answers fit into one tree, else rows that each fit.

    Annotations go in order into the first part that has room. Word tasks and tracks ask for no room. An
    annotation with more places than `max_points` is a part of its own, which `row_tree` leaves out with the
    reason. Parts are named `row_id#1`, `row_id#2`, …; they are what a data set's size should count.
    """
    parts: list[list[Annotation]] = []
    rooms: list[int] = []
    for annotation in row.annotations:
        needed = _most_points(annotation, row)
        fitting = next((i for i, room in enumerate(rooms) if needed <= room), None)
        if fitting is None:
            parts.append([])
            rooms.append(max_points)
            fitting = len(parts) - 1
        parts[fitting].append(annotation)
        rooms[fitting] -= needed
    if len(parts) <= 1:
        return (row,)
    return tuple(
        row.model_copy(update={"row_id": f"{row.row_id}#{number}", "annotations": tuple(part)})
        for number, part in enumerate(parts, start=1)
    )


def _most_points(annotation: Annotation, row: Row) -> int:
    """The most points that an answer about this annotation can have."""
    if not POINT_TASKS & set(annotation.task):
        return 0
    visible = [place for moment in annotation.moments for place in moment.places if not place.occluded]
    return len({place.object_id for place in visible}) if row.kind == "video" else len(visible)

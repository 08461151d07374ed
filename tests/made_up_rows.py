"""Training rows made up for tests, and folders of them beside small real media."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from molmo2_ground.rle import Rle
from molmo2_ground.train.row_folder import write_rows
from molmo2_ground.train.rows import Annotation, Moment, Place, Row
from tests.media import SIZE_PX, Shelf, constant_rate

WIDTH_PX, HEIGHT_PX = SIZE_PX


def box(
    object_id: int, left: float = 10, top: float = 10, *, side: float = 20, hidden: bool = False
) -> Place:
    """A square box, `side` pixels wide."""
    return Place(object_id=object_id, box_px=(left, top, left + side, top + side), occluded=hidden)


def point(object_id: int, x_px: float = 30, y_px: float = 20) -> Place:
    """A point."""
    return Place(object_id=object_id, x_px=x_px, y_px=y_px)


def mask(object_id: int, *, rows: slice = slice(10, 30), columns: slice = slice(20, 50)) -> Place:
    """A rectangle of pixels of a picture of tests.media."""
    pixels = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.bool_)
    pixels[rows, columns] = True
    return Place(object_id=object_id, mask=Rle.encode(pixels))


def moments(times_s: Sequence[float], *places: Place) -> tuple[Moment, ...]:
    """The same places at each of these times."""
    return tuple(Moment(time_s=time_s, places=places) for time_s in times_s)


def track_row(row_id: str = "walk", **changes: object) -> Row:
    """A track at two a second of a video of 1.2 s, and where its thing is."""
    fields: dict[str, object] = {
        "row_id": row_id,
        "kind": "video",
        "media": ("clip.mp4",),
        "size_px": (SIZE_PX,),
        "annotations": (
            Annotation(
                task=("track",), label="the dog", moments=moments((0.0, 0.5, 1.0), box(1)), rate_fps=2.0
            ),
            Annotation(task=("point", "point_then_count"), label="the dog", moments=moments((0.0,), box(1))),
        ),
    }
    return Row.model_validate(fields | changes)


def row_folder(media: Shelf, folder: Path, *rows: Row) -> Path:
    """A folder of these rows beside `clip.mp4`, 12 frames at 10 a second."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(media(constant_rate), folder / "clip.mp4")
    write_rows(folder, rows)
    return folder

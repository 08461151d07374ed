"""A CSV table: one object in one frame a line, as a spreadsheet and `train convert-boxes` read it."""

from __future__ import annotations

import csv
import io
import os

from molmo2_ground.export.marks import Box, MarkedMedia
from molmo2_ground.export.written import Written, counted, number, write_text

COLUMNS = (
    "media", "frame", "time_s", "object_id", "label", "state", "x_px", "y_px", "left", "top", "right",
    "bottom", "area_px",
)  # fmt: skip


def write_csv(media: MarkedMedia, path: str | os.PathLike[str], *, radius_px: float | None = None) -> Written:
    """Write a header and a line for each mark, by frame and then by object.

    frame counts from 0. The box is that of the mask, or with `radius_px` the square around a point; cells
    without a value are empty. area_px counts the pixels of the mask. Raises `OSError`.
    """
    media.check_settled()
    text = io.StringIO(newline="")
    table = csv.writer(text)  # ends lines as RFC 4180 does, and so quotes every kind of line end in a label
    table.writerow(COLUMNS)
    dropped = []
    for mark in media.marks:
        point = ("", "") if mark.point_px is None else tuple(map(number, mark.point_px))
        box = mark.extent_px(radius_px)
        area = "" if mark.mask is None else str(mark.mask.area_px)
        name = media.name if media.kind == "video" else media.file_of(mark.frame)
        time = "" if mark.time_s is None else number(mark.time_s)
        table.writerow(
            (name, mark.frame, time, mark.object_id, mark.label, mark.state, *point, *_cells(box), area)
        )
        if mark.mask is not None:
            dropped.append(("the shape of its mask has no place in a table", mark.object_id, mark.frame))
    left_out = (*media.left_out, *counted(dropped))
    return Written(path=write_text(path, text.getvalue()), marks=len(media.marks), left_out=left_out)


def _cells(box: Box | None) -> tuple[str, ...]:
    return ("",) * 4 if box is None else tuple(number(edge) for edge in box)

"""MOT Challenge text: boxes, one a line, with frames, ids and pixels counted from 1."""

from __future__ import annotations

import os
from collections.abc import Iterator

from molmo2_ground.export.marks import Box, Mark, MarkedMedia
from molmo2_ground.export.written import Written, counted, lines_of, number, write_text


def write_mot(media: MarkedMedia, path: str | os.PathLike[str], *, radius_px: float | None = None) -> Written:
    """Write a tracker's result: `frame,id,left,top,width,height,conf,x,y,z`, by frame and then by object.

    Boxes are those of the masks; a bare point gets the square of `radius_px` around it. `conf` is always 1,
    because nobody measured one, and the three places of the world are -1.
    Raises `ValueError` for points without a radius, `OSError`.
    """
    rows, dropped = mot_rows(media, tail="1,-1,-1,-1", radius_px=radius_px)
    left_out = (*media.left_out, *counted(dropped), *_labels_lost(media))
    return Written(path=write_text(path, lines_of(rows)), marks=len(rows), left_out=left_out)


def mot_rows(
    media: MarkedMedia, *, tail: str, radius_px: float | None
) -> tuple[list[str], list[tuple[str, int, int]]]:
    """The lines of all boxes with these last columns, and what was left out: empty masks."""
    media.check_settled()
    check_numbers(media)
    rows, dropped = [], []
    for mark, box in boxes(media, radius_px=radius_px, format_name="MOT"):
        if box is None:
            dropped.append(("its mask is empty and has no box", mark.object_id, mark.frame))
            continue
        left, top, right, bottom = box
        # The outer corner of the first pixel is (1, 1) there, and (0, 0) here.
        cells = [number(value) for value in (left + 1, top + 1, right - left, bottom - top)]
        rows.append(f"{mark.frame + 1},{mark.object_id},{','.join(cells)},{tail}")
    return rows, dropped


def boxes(
    media: MarkedMedia, *, radius_px: float | None, format_name: str
) -> Iterator[tuple[Mark, Box | None]]:
    """Each mark with its box, None for an empty mask. Raises `ValueError` for a point without a radius."""
    if radius_px is not None and not radius_px > 0:
        raise ValueError(f"the radius of the box around a point is above 0 pixels; got {radius_px:g}")
    for mark in media.marks:
        box = mark.extent_px(radius_px)
        if box is None and mark.mask is None:
            raise ValueError(
                f"{format_name} holds boxes, and object {mark.object_id} in frame {mark.frame} is only a "
                "point; give its masks (--masks MASKS.json), or a radius for a box around it (--radius-px N)"
            )
        yield mark, box


def check_numbers(media: MarkedMedia) -> None:
    """MOT counts objects from 1 and knows videos alone. Raises `ValueError`."""
    if any(mark.object_id < 1 for mark in media.marks):
        raise ValueError("MOT numbers objects from 1; object 0 has no place there")


def _labels_lost(media: MarkedMedia) -> tuple[str, ...]:
    names = ", ".join(f"{object_id} {label!r}" for object_id, label in list(media.labels.items())[:5])
    more = ", …" if len(media.labels) > 5 else ""
    return (f"labels have no place in MOT text: {names}{more}",) if media.labels else ()

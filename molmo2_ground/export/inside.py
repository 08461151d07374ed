"""Marks that a result can hold: those whose place lies in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from molmo2_ground._amount import amount
from molmo2_ground.errors import SourceError
from molmo2_ground.export.marks import Box, Mark, MarkedMedia

# Percents and decimals that were rounded on the way put a place at the edge a little beyond it.
_ROUNDING_PX = 0.01


def inside(media: MarkedMedia) -> MarkedMedia:
    """The same without the marks whose place lies outside the picture; how many and the first is told.

    A box may stick out. Where that puts its middle outside, it is cut to its part in the picture, so that the
    place is still one on the object.
    Raises `SourceError` when no mark is left: the size is then another than that of the annotation.
    """
    kept: list[Mark] = []
    cut: list[Mark] = []
    outside: list[Mark] = []
    for mark in media.marks:
        size_px = media.size_of(mark.frame)
        if is_inside(mark, size_px):
            kept.append(mark)
        elif mark.point_px is None and (part := _part(mark.box_px, size_px)) is not None:
            cut.append(mark)
            kept.append(replace(mark, box_px=part))
        else:
            outside.append(mark)
    if outside and not kept:
        raise SourceError(
            f"{media.name}: none of {amount(len(outside), 'place')} lies in the picture; "
            f"{_first(outside, media)}; expected the annotations of a video or picture of this size"
        )
    lines = []
    if cut:
        lines.append(
            f"{amount(len(cut), 'box', several='boxes')} with the middle outside the picture cut to the part "
            f"in it; {_first(cut, media)}"
        )
    if outside:
        lines.append(
            f"{amount(len(outside), 'place')} outside the picture left out; {_first(outside, media)}"
        )
    return replace(media, marks=tuple(kept), left_out=(*media.left_out, *lines))


def is_inside(mark: Mark, size_px: tuple[int, int]) -> bool:
    """Whether its point or the middle of its box lies in a picture of (width, height) pixels; a mask does."""
    place = _spot(mark)
    return place is None or all(
        -_ROUNDING_PX <= value <= most + _ROUNDING_PX for value, most in zip(place, size_px, strict=True)
    )


def _spot(mark: Mark) -> tuple[float, float] | None:
    if mark.point_px is not None:
        return mark.point_px
    if mark.mask is not None or mark.box_px is None:
        return None
    left, top, right, bottom = mark.box_px
    return (left + right) / 2, (top + bottom) / 2


def _part(box: Box | None, size_px: tuple[int, int]) -> Box | None:
    if box is None:
        return None
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(float(size_px[0]), box[2]), min(float(size_px[1]), box[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _first(marks: Sequence[Mark], media: MarkedMedia) -> str:
    mark = marks[0]
    x_px, y_px = _spot(mark) or (0.0, 0.0)
    width, height = media.size_of(mark.frame)
    of_the_rest = "" if len(marks) == 1 else "the first, "
    return (
        f"{of_the_rest}object {mark.object_id} in frame {mark.frame}, counted from 0, is at "
        f"({x_px:g}, {y_px:g}) of {width} x {height} pixels"
    )

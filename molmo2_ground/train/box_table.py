"""`BoxTable`: a CSV of boxes as people keep it, one line a box, read with its line numbers.

Columns, by any of the names in `COLUMNS`: video, time in seconds or frame number, object, label, and the box
as left, top, right, bottom or as left, top, width, height; occluded may be missing.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from molmo2_ground.errors import SourceError
from molmo2_ground.rle import Rle

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "video": ("video", "file", "filename", "file_name", "video_name", "clip", "path", "media"),
    "time_s": ("time_s", "time", "seconds", "timestamp", "timestamp_s", "t"),
    "frame": ("frame", "frame_index", "frame_number", "frame_id", "frame_num"),
    "object_id": ("object_id", "object", "obj_id", "track_id", "track", "instance_id", "id"),
    "label": ("label", "class", "class_name", "category", "name", "expression", "description"),
    "left": ("left", "x_min", "xmin", "x1", "x"),
    "top": ("top", "y_min", "ymin", "y1", "y"),
    "right": ("right", "x_max", "xmax", "x2"),
    "bottom": ("bottom", "y_max", "ymax", "y2"),
    "width": ("width", "w", "box_width"),
    "height": ("height", "h", "box_height"),
    "occluded": ("occluded", "hidden", "is_occluded"),
}
_YES, _NO = ("1", "true", "yes", "y", "t"), ("0", "false", "no", "n", "f", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineProblem:
    """A line that cannot be used, and why; line counts from 1, the header included.

    place: what it is called where there are no lines. more: of so many later lines the same is to be said.
    """

    line: int
    reason: str
    place: str = ""
    more: int = 0

    def __str__(self) -> str:
        others = f" and {self.more:,} more" if self.more else ""
        return f"{self.place or f'line {self.line}'}{others}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxLine:
    """One line: one thing in one frame. The box is as it stands there, pixels or shares of the picture.

    frame, time_s   one of them: the frame's number as the table counts, or seconds.
    mask, point_px  what other formats have beside a box, or instead of one; pixels.
    place           what messages call it where there are no lines.
    """

    line: int
    video: str
    frame: int | None
    time_s: float | None
    object_name: str
    label: str
    box: tuple[float, float, float, float] | None
    occluded: bool
    mask: Rle | None = None
    point_px: tuple[float, float] | None = None
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxTable:
    """The lines that could be read, in order, and what was wrong with the others."""

    lines: tuple[BoxLine, ...]
    problems: tuple[LineProblem, ...]

    @classmethod
    def read(cls, path: str | Path) -> BoxTable:
        """Read a CSV with a header; comma, semicolon or tab between the cells.

        Where a table has frame numbers and times, the numbers count, which are exact.
        Raises `SourceError` when the file cannot be read, is no text, or lacks a column.
        """
        file = Path(path).expanduser()
        try:
            with file.open(encoding="utf-8-sig", newline="") as text:
                head = text.readline()
                between = max(",;\t", key=head.count)
                text.seek(0)
                reader = csv.reader(text, delimiter=between)
                titles = next(reader, [])
                found = list(_read(reader, _columns(titles, file.name), len(titles)))
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{path} is no text in UTF-8: {_not_utf8(file)}. Save the table again as CSV in UTF-8, which "
                "every spreadsheet offers."
            ) from error
        except csv.Error as error:
            raise SourceError(f"{path} is no table of text: {error}") from error
        return cls(
            lines=tuple(line for line in found if isinstance(line, BoxLine)),
            problems=tuple(line for line in found if isinstance(line, LineProblem)),
        )


def _not_utf8(file: Path) -> str:
    """Where the first bytes are that are no UTF-8."""
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        try:
            line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return f"line {number} has the byte {line[error.start]:#04x}"
    return "it has bytes of another kind"


def _columns(head: Sequence[str], name: str) -> dict[str, int]:
    """Where each known column stands; raises `SourceError` for one that is missing or comes twice."""
    titles = [title.strip().lower().replace(" ", "_").replace("-", "_") for title in head]
    found = {}
    for column, names in COLUMNS.items():
        places = [at for at, title in enumerate(titles) if title in names]
        if len(places) > 1:
            raise SourceError(
                f"{name} has {len(places)} columns that may be {column}: "
                f"{', '.join(titles[at] for at in places)}. Keep one, give the others another name."
            )
        if places:
            found[column] = places[0]
    missing = [column for column in ("video", "object_id", "label", "left", "top") if column not in found]
    if "frame" not in found and "time_s" not in found:
        missing.append("time_s or frame")
    for edge, size in (("right", "width"), ("bottom", "height")):
        if edge not in found and size not in found:
            missing.append(f"{edge} or {size}")
    if missing:
        raise SourceError(
            f"{name} has no column {', '.join(missing)}; its header is {', '.join(titles) or 'empty'}. "
            "docs/training-data.md lists the names that are understood."
        )
    return found


def _read(
    reader: Iterator[list[str]], columns: Mapping[str, int], width: int
) -> Iterator[BoxLine | LineProblem]:
    for cells in reader:
        number: int = reader.line_num  # type: ignore[attr-defined]  # csv's readers count; iterators do not
        if not any(cell.strip() for cell in cells):
            continue
        # One cell more or less may stand anywhere in the line, and all behind it in the wrong column.
        if len(cells) != width:
            yield LineProblem(line=number, reason=f"it has {len(cells)} cells; the header has {width}")
            continue
        try:
            yield _line(number, {column: cells[at].strip() for column, at in columns.items()})
        except ValueError as error:
            yield LineProblem(line=number, reason=str(error))


def _line(number: int, cells: Mapping[str, str]) -> BoxLine:
    for column in ("video", "object_id", "label"):
        if not cells[column]:
            raise ValueError(f"{column} is empty")
        if not "".join(cells[column].split()).isprintable():
            raise ValueError(f"{column} is {cells[column]!r}; expected letters that can be shown")
    frame = None if not cells.get("frame") else _whole(cells["frame"], "frame")
    time_s = None if frame is not None or not cells.get("time_s") else _number(cells["time_s"], "time_s")
    if frame is None and time_s is None:
        raise ValueError("neither a time nor a frame number is given")
    left, top = _number(cells["left"], "left"), _number(cells["top"], "top")
    right = _edge(cells, "right", "width", left)
    bottom = _edge(cells, "bottom", "height", top)
    if not (left < right and top < bottom):
        raise ValueError(
            f"the box ({left:g}, {top:g}, {right:g}, {bottom:g}) is inside out or empty; "
            "expected left, top, right, bottom"
        )
    occluded = cells.get("occluded", "").lower()
    if occluded not in (*_YES, *_NO):
        raise ValueError(f"occluded is {occluded!r}; expected 1 or 0, yes or no")
    return BoxLine(
        line=number,
        video=cells["video"],
        frame=frame,
        time_s=time_s,
        object_name=cells["object_id"],
        label=" ".join(cells["label"].split()),
        box=(left, top, right, bottom),
        occluded=occluded in _YES,
    )


def _edge(cells: Mapping[str, str], edge: str, size: str, start: float) -> float:
    return _number(cells[edge], edge) if cells.get(edge) else start + _number(cells.get(size, ""), size)


def _number(cell: str, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{column} is {cell!r}; expected a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{column} is {cell!r}; expected a finite number")
    return value


def _whole(cell: str, column: str) -> int:
    value = _number(cell, column)
    if value != int(value):
        raise ValueError(f"{column} is {cell!r}; expected a whole number")
    return int(value)

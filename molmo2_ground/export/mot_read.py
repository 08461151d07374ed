"""MOT Challenge text back into marks: a tracker's result, or gt.txt with what lies around it."""

from __future__ import annotations

import configparser
import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from molmo2_ground._amount import amount
from molmo2_ground.errors import SourceError
from molmo2_ground.export.marks import Mark, MarkedMedia
from molmo2_ground.export.read_marks import collected

_FEWEST_COLUMNS = 6
_BOX = ("left", "top", "width", "height")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """What seqinfo.ini says, where there is one."""

    name: str
    size_px: tuple[int, int] = (0, 0)
    fps: float | None = None
    frame_count: int | None = None


def read_mot(path: str | os.PathLike[str], *, label: str | None = None) -> tuple[MarkedMedia, ...]:
    """Read `frame,id,left,top,width,height[,conf[,class[,visibility]]]`, all counted from 1.

    label: what the boxes are of. Without it the class numbers are looked up in labels.txt beside the file, as
    CVAT writes it, one name a line. Lines of a truth (gt.txt) whose seventh column is 0 are not to be
    considered: they are left out and named. seqinfo.ini, beside the file or in the folder above, gives the
    name, the size and the rate.
    Raises `SourceError` when the file cannot be read, is none, or nothing says what the boxes are of.
    """
    file = Path(path)
    around = _around(file)
    names = _names(file)
    marks, ignored, seen = [], 0, dict[tuple[int, int], int]()
    for line, cells in _lines(file):
        try:
            mark = _mark(cells, label=label, names=names)
            before = seen.setdefault((mark.frame, mark.object_id), line)
            if before != line:
                raise ValueError(
                    f"object {mark.object_id} has a box in frame {mark.frame + 1} already, in line {before}; "
                    "expected one"
                )
        except ValueError as error:
            raise SourceError(f"{path} line {line}: {error}") from error
        if _is_truth(file) and len(cells) > 6 and float(cells[6]) == 0:
            ignored += 1
            continue
        marks.append(mark)
    lines = (
        (f"{amount(ignored, 'time')}: a box that the truth says is not to be considered",) if ignored else ()
    )
    try:
        return (
            MarkedMedia(
                name=around.name,
                kind="video",
                size_px=around.size_px,
                fps=around.fps,
                frame_count=around.frame_count,
                frames=tuple(sorted({mark.frame for mark in marks})),
                marks=collected(marks),
                left_out=lines,
            ),
        )
    except ValueError as error:
        raise SourceError(f"{path}: {error}") from error


def _is_truth(file: Path) -> bool:
    return file.name == "gt.txt"


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            for number, cells in enumerate(csv.reader(text), start=1):
                if any(cell.strip() for cell in cells):
                    yield number, [cell.strip() for cell in cells]
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{file} is no MOT text: {error}") from error


def _mark(cells: list[str], *, label: str | None, names: tuple[str, ...]) -> Mark:
    if len(cells) < _FEWEST_COLUMNS:
        raise ValueError(
            f"expected frame,id,left,top,width,height, parted by commas; got {amount(len(cells), 'cell')}"
        )
    frame, object_id = (_whole(cells[at], name) for at, name in enumerate(("frame", "id")))
    left, top, width, height = (_number(cells[at], name) for at, name in enumerate(_BOX, start=2))
    if frame < 1 or object_id < 0:
        raise ValueError(
            f"frames count from 1 and objects have numbers; got frame {frame}, object {object_id}"
        )
    if not (width > 0 and height > 0):
        raise ValueError(f"a box has a width and a height above 0 pixels; got {width:g} x {height:g}")
    return Mark(
        object_id=object_id,
        label=_label(cells, label, names),
        frame=frame - 1,
        box_px=(
            round(left - 1, 6),
            round(top - 1, 6),
            round(left - 1 + width, 6),
            round(top - 1 + height, 6),
        ),
    )


def _label(cells: list[str], label: str | None, names: tuple[str, ...]) -> str:
    if label is not None:
        return label
    number = _whole(cells[7], "class") if len(cells) > 7 and names else 0
    if 1 <= number <= len(names):
        return names[number - 1]
    raise ValueError("MOT text does not say what its boxes are of; give it (--label NAME)")


def _around(file: Path) -> _Around:
    folder = file.absolute().parent
    otherwise = file.stem if not _is_truth(file) else (folder.parent if folder.name == "gt" else folder).name
    for place in (folder, folder.parent):
        ini = place / "seqinfo.ini"
        if not ini.is_file():
            continue
        settings = configparser.ConfigParser(interpolation=None)
        try:
            settings.read(ini, encoding="utf-8-sig")
            known = settings["Sequence"]
            return _Around(
                name=known.get("name", otherwise),
                size_px=(known.getint("imWidth", 0), known.getint("imHeight", 0)),
                fps=known.getfloat("frameRate", 0.0) or None,
                frame_count=known.getint("seqLength", 0) or None,
            )
        except (configparser.Error, KeyError, ValueError, OSError) as error:
            raise SourceError(f"{ini} cannot be read: {error}") from error
    return _Around(name=otherwise)


def _names(file: Path) -> tuple[str, ...]:
    place = file.parent / "labels.txt"
    if not place.is_file():
        return ()
    try:
        return tuple(line.strip() for line in place.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{place} cannot be read: {error}") from error


def _number(cell: str, name: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{name} is {cell!r}; expected a number") from None
    if not abs(value) < 1e9:
        raise ValueError(f"{name} is {cell!r}; expected a number below a thousand million")
    return value


def _whole(cell: str, name: str) -> int:
    value = _number(cell, name)
    if value != int(value):
        raise ValueError(f"{name} is {cell!r}; expected a whole number")
    return int(value)

"""CVAT XML 1.1 back into marks: points, boxes, outlines and masks, of one task or of all of a project.

The file is somebody else's: it is read by defusedxml, which refuses document types and entities.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Literal, cast, get_args
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from molmo2_ground._amount import amount
from molmo2_ground.errors import SourceError
from molmo2_ground.export.cvat import OBJECT, STATE
from molmo2_ground.export.marks import TO_THE_END, Mark, MarkedMedia
from molmo2_ground.export.read_marks import Drawn, assembled
from molmo2_ground.export.shapes import box_around, check_picture, mask_of_outlines, mask_of_runs
from molmo2_ground.results import State

_SHAPES = ("points", "box", "polygon", "mask")
_FILLED = ("points", "box", "polygon")  # a mask stands for its own frame
_OTHER_SHAPES = ("polyline", "ellipse", "cuboid", "skeleton", "tag")


def read_cvat(path: str | os.PathLike[str]) -> tuple[MarkedMedia, ...]:
    """Read annotations.xml, or the archive that CVAT gives with it inside; one medium a task.

    A keyframe is `observed` and a frame in between that CVAT filled in is `interpolated`, unless the file has
    our attribute `state`. A frame that is `outside` has no mark. A shape of several points is several
    objects. Objects are numbered by our attribute `object_id` where every one has it, else by the order of
    tracks. Outlines become masks of the pixels whose middle they hold. Other shapes are left out and named.
    Raises `SourceError` when the file cannot be read or is none of CVAT's.
    """
    reader = _Reader(name=Path(path).stem)
    try:
        with _opened(Path(path)) as file:
            reader.read(file)
    except (ParseError, DefusedXmlException) as error:
        words = str(error) if isinstance(error, ParseError) else f"{type(error).__name__}, which is refused"
        raise SourceError(f"{path} is no annotation file of CVAT that can be read: {words}") from error
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise SourceError(f"{path}: {error}") from error
    if not reader.is_cvat:
        raise SourceError(f"{path} is no annotation file of CVAT: expected <annotations> with its <version>")
    try:
        return tuple(reader.media())
    except ValueError as error:
        raise SourceError(f"{path}: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.rsplit("/", 1)[-1] == "annotations.xml"]
            if len(names) != 1:
                raise SourceError(f"{path} holds {len(names)} files annotations.xml; expected one")
            with archive.open(names[0]) as file:
                yield file
        return
    with path.open("rb") as file:
        yield file


@dataclass
class _Task:
    """What is known of one task: `meta` about it, and its marks as they come."""

    name: str
    size_px: tuple[int, int] = (0, 0)
    frame_count: int | None = None
    kind: Literal["video", "images"] = "video"
    drawn: list[Drawn] = field(default_factory=list)
    frames: set[int] = field(default_factory=set)
    images: dict[int, tuple[str, tuple[int, int]]] = field(default_factory=dict)
    _grouped: set[tuple[str, str, int]] = field(default_factory=set)

    def one_of_group(self, group: str | None, tag: str, frame: int) -> Hashable:
        """The object that a group stands for; None for no group, or one that holds two of a kind here."""
        if group in (None, "", "0"):
            return None
        assert group is not None
        place = group, tag, frame
        if place in self._grouped:
            return None
        self._grouped.add(place)
        return "group", group, frame if self.kind == "images" else None


class _Reader:
    """Walks through the file once, keeping one track or picture at a time."""

    def __init__(self, *, name: str) -> None:
        self.is_cvat = False
        self._name = name
        self._tasks: dict[str, _Task] = {}
        self._left_out: dict[str, int] = {}
        self._tracks = 0

    def read(self, file: IO[bytes]) -> None:
        depth = 0
        for event, element in ElementTree.iterparse(file, events=("start", "end"), forbid_dtd=True):
            depth += 1 if event == "start" else -1
            if event == "start" and depth == 1 and element.tag != "annotations":
                return
            if event == "end" and depth == 1:  # a part of the whole is complete
                self._take(element)
                element.clear()

    def _take(self, element: Element) -> None:
        if element.tag == "version":
            self.is_cvat = True
        elif element.tag == "meta":
            self._take_meta(element)
        elif element.tag == "track":
            self._take_track(element)
        elif element.tag == "image":
            self._take_image(element)

    def _take_meta(self, meta: Element) -> None:
        for task in (*meta.iter("task"), *meta.iter("job")):
            number = (task.findtext("id") or "").strip()
            name = (task.findtext("source") or task.findtext("name") or self._name).strip()
            found = _Task(name=name)
            size = task.find("original_size")
            if size is not None:
                found.size_px = (
                    _whole(size.findtext("width"), "width"),
                    _whole(size.findtext("height"), "height"),
                )
                check_picture(found.size_px)
            if (task.findtext("size") or "").strip():
                found.frame_count = _whole(task.findtext("size"), "size") or None
            self._tasks[number] = found

    def _task(self, element: Element) -> _Task:
        """The task that a track or picture belongs to: the one it names, else the only one."""
        number = element.get("task_id", "")
        if number not in self._tasks and len(self._tasks) == 1 and not number:
            return next(iter(self._tasks.values()))
        return self._tasks.setdefault(number, _Task(name=self._name))

    def _take_track(self, track: Element) -> None:
        task, label, number = self._task(track), _label(track), self._tracks
        self._tracks += 1
        frames = [_whole(shape.get("frame"), "frame") for shape in track]
        for shape, frame, after in zip(track, frames, [*frames[1:], TO_THE_END], strict=True):
            task.frames.add(frame)
            if shape.get("outside") == "1":
                continue
            where = f"track {track.get('id', number)}, frame {frame}"
            drawn = shape.get("keyframe", "1") == "1"
            for place, mark in self._marks(shape, label, frame, task.size_px, where, drawn=drawn):
                name: Hashable = ("track", number, place)
                if shape.tag in _FILLED:
                    mark = replace(mark, until=after)
                if shape.tag == "mask":  # CVAT has no tracks of masks, and a group holds those of one object
                    name = task.one_of_group(track.get("group_id"), "mask", frame) or name
                task.drawn.append(Drawn(name=name, kept=_object_of(shape), mark=mark))

    def _take_image(self, image: Element) -> None:
        task = self._task(image)
        task.kind = "images"
        number = _whole(image.get("id"), "id")
        size_px = _whole(image.get("width"), "width"), _whole(image.get("height"), "height")
        check_picture(size_px)
        task.images[number] = image.get("name", ""), size_px
        task.frames.add(number)
        for order, shape in enumerate(image):
            where = f"picture {image.get('name', number)}"
            for place, mark in self._marks(shape, _label(shape), number, size_px, where, drawn=True):
                name: Hashable = ("shape", number, order, place)
                if place == 0:
                    name = task.one_of_group(shape.get("group_id"), shape.tag, number) or name
                task.drawn.append(Drawn(name=name, kept=_object_of(shape), mark=mark))

    def _marks(
        self, shape: Element, label: str, frame: int, size_px: tuple[int, int], where: str, *, drawn: bool
    ) -> Iterator[tuple[int, Mark]]:
        if shape.tag not in _SHAPES:
            if shape.tag in _OTHER_SHAPES:
                reason = f"shapes <{shape.tag}> have no place in points, boxes or masks"
                self._left_out[reason] = self._left_out.get(reason, 0) + 1
            return
        base = Mark(
            object_id=0,
            label=label,
            frame=frame,
            state=_state_of(shape, drawn=drawn),
            occluded=shape.get("occluded") == "1",
        )
        try:
            yield from enumerate(_placed(base, shape, size_px))
        except ValueError as error:
            raise ValueError(f"{where}: <{shape.tag}>: {error}") from error

    def media(self) -> Iterator[MarkedMedia]:
        left_out = tuple(f"{amount(count, 'time')}: {reason}" for reason, count in self._left_out.items())
        for task in self._tasks.values():
            if task.kind == "images":
                yield _pictures(task, left_out)
            else:
                marks = assembled(task.drawn)
                yield MarkedMedia(
                    name=task.name,
                    kind="video",
                    size_px=task.size_px,
                    frame_count=task.frame_count,
                    frames=tuple(sorted(task.frames)),
                    marks=marks,
                    left_out=left_out,
                )


def _pictures(task: _Task, left_out: tuple[str, ...]) -> MarkedMedia:
    """Pictures in the order of their numbers, counted anew from 0."""
    places = {number: place for place, number in enumerate(sorted(task.images))}
    names, sizes = zip(*(task.images[number] for number in places), strict=True)
    marks = [replace(mark, frame=places[mark.frame]) for mark in assembled(task.drawn)]
    return MarkedMedia(
        name=task.name,
        kind="images",
        size_px=sizes[0],
        sizes_px=tuple(sizes) if len(set(sizes)) > 1 else (),
        image_names=tuple(names),
        frame_count=len(names),
        frames=tuple(range(len(names))),
        marks=tuple(marks),
        left_out=left_out,
    )


def _placed(base: Mark, shape: Element, size_px: tuple[int, int]) -> Iterator[Mark]:
    if shape.tag == "points":
        for x, y in _pairs(shape.get("points")):
            yield replace(base, point_px=(x, y))
    elif shape.tag == "polygon":
        outline = [value for pair in _pairs(shape.get("points")) for value in pair]
        yield replace(base, mask=mask_of_outlines([outline], size_px))
    elif shape.tag == "mask":
        runs = [_whole(run, "rle") for run in (shape.get("rle") or "").split(",")]
        x, y, wide, high = (_whole(shape.get(name), name) for name in ("left", "top", "width", "height"))
        yield replace(base, mask=mask_of_runs(runs, (x, y, wide, high), size_px))
    else:
        left, top, right, bottom = (_number(shape.get(name), name) for name in ("xtl", "ytl", "xbr", "ybr"))
        box = min(left, right), min(top, bottom), max(left, right), max(top, bottom)
        degrees = _number(shape.get("rotation", "0"), "rotation")
        if degrees:
            box = box_around(box, degrees=degrees, pivot=((left + right) / 2, (top + bottom) / 2))
        yield replace(base, box_px=box)


def _label(element: Element) -> str:
    return element.get("label", "")


def _attribute(shape: Element, name: str) -> str:
    return next((a.text or "" for a in shape.iter("attribute") if a.get("name") == name), "").strip()


def _object_of(shape: Element) -> int | None:
    text = _attribute(shape, OBJECT)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _state_of(shape: Element, *, drawn: bool) -> State:
    if not drawn:
        return "interpolated"
    text = _attribute(shape, STATE)
    return cast(State, text) if text in get_args(State) else "observed"


def _pairs(text: str | None) -> list[tuple[float, float]]:
    pairs = []
    for pair in (text or "").split(";"):
        values = pair.split(",")
        if len(values) != 2:
            raise ValueError(f"expected points x,y;x,y; got {pair!r}")
        pairs.append((_number(values[0], "points"), _number(values[1], "points")))
    return pairs


def _number(text: str | None, name: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise ValueError(f"{name} is {text!r}; expected a number") from None
    if not abs(value) < 1e9:
        raise ValueError(f"{name} is {text!r}; expected a place in a picture")
    return value


def _whole(text: str | None, name: str) -> int:
    value = _number(text, name)
    if value != int(value):
        raise ValueError(f"{name} is {text!r}; expected a whole number")
    return int(value)

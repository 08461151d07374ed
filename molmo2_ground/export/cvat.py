"""CVAT XML 1.1: tracks of points, boxes and masks in a video, or shapes on pictures.

The elements and attributes are those of CVAT's "XML annotation format", version 1.1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import numpy as np

from molmo2_ground._atomic import atomic_path
from molmo2_ground.export.marks import Mark, MarkedMedia
from molmo2_ground.export.written import Written
from molmo2_ground.results import State
from molmo2_ground.rle import Rle

STATE, OBJECT = "state", "object_id"
# XML 1.0 has no way to write these characters, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_cvat(media: MarkedMedia, path: str | os.PathLike[str]) -> Written:
    """Write the annotations of one task, a video or pictures; coordinates in pixels, frames from 0.

    Of a video an object is a track of `<points>`, or of `<box>` where it has no point: a keyframe for each
    mark, and `outside` in the next frame that was looked at where it was not there. CVAT has no tracks of
    masks (it keeps the first and drops the others), so each mask is a track of one frame, as CVAT itself
    writes them; those of one object share a `group_id`.
    The attributes `object_id` and `state` keep what CVAT has no place for; it drops them on import unless the
    task's labels have them, as they stand in the file. Doubts about masks (`flags`) are left out and named.
    Raises `ValueError` for a label that is empty or that XML cannot hold, `OSError`.
    """
    media.check_settled()
    _check_labels(media)
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    _add_meta(root, media)
    if media.kind == "video":
        _add_tracks(root, media)
    else:
        _add_images(root, media)
    ElementTree.indent(root)
    with atomic_path(path) as unfinished:
        ElementTree.ElementTree(root).write(unfinished, encoding="utf-8", xml_declaration=True)
    return Written(path=Path(path), marks=len(media.marks), left_out=_left_out(media))


def _check_labels(media: MarkedMedia) -> None:
    for object_id, label in media.labels.items():
        if not label.strip():
            raise ValueError(f"object {object_id} has no label, and CVAT needs one")
        found = _NOT_IN_XML.search(label)
        if found is not None:
            raise ValueError(f"XML cannot hold the character {found[0]!r} of the label {label!r}")


def _left_out(media: MarkedMedia) -> tuple[str, ...]:
    lines = list(media.left_out)
    flagged = sorted({mark.object_id for mark in media.marks if mark.flags})
    if flagged:
        lines.append(f"doubts about masks have no place in CVAT: objects {', '.join(map(str, flagged))}")
    if media.kind == "video" and media.frame_count is None and media.marks:
        lines.append(
            "the video's length is not known, so CVAT goes on showing what is there in the last frame that "
            "was looked at; name the video (--video) to end it there"
        )
    return tuple(lines)


def _add_meta(root: ElementTree.Element, media: MarkedMedia) -> None:
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    mode = "interpolation" if media.kind == "video" else "annotation"
    for name, text in (
        ("name", _clean(media.name)),
        ("size", str(media.length)),
        ("mode", mode),
        ("overlap", "0"),
        ("bugtracker", ""),
        ("flipped", "False"),
    ):
        ElementTree.SubElement(task, name).text = text
    labels = ElementTree.SubElement(task, "labels")
    for label in media.categories:
        element = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(element, "name").text = label
        attributes = ElementTree.SubElement(element, "attributes")
        _add_attribute_kind(attributes, OBJECT, mutable=False, kind="text", values=("",))
        _add_attribute_kind(attributes, STATE, mutable=True, kind="select", values=get_args(State))
    segment = ElementTree.SubElement(ElementTree.SubElement(task, "segments"), "segment")
    for name, number in (("id", 0), ("start", 0), ("stop", media.length - 1)):
        ElementTree.SubElement(segment, name).text = str(number)
    if media.kind == "video":
        size = ElementTree.SubElement(task, "original_size")
        for name, number in zip(("width", "height"), media.size_px, strict=True):
            ElementTree.SubElement(size, name).text = str(number)
        ElementTree.SubElement(task, "source").text = _clean(media.name)


def _clean(text: str) -> str:
    """A name without what XML cannot hold; it is there for people."""
    return _NOT_IN_XML.sub("_", text)


def _add_attribute_kind(
    parent: ElementTree.Element, name: str, *, mutable: bool, kind: str, values: Sequence[str]
) -> None:
    attribute = ElementTree.SubElement(parent, "attribute")
    for field, text in (
        ("name", name),
        ("mutable", str(mutable)),
        ("input_type", kind),
        ("default_value", values[0]),
        ("values", "\n".join(values)),
    ):
        ElementTree.SubElement(attribute, field).text = text


def _add_tracks(root: ElementTree.Element, media: MarkedMedia) -> None:
    number = 0
    for object_id, label in media.labels.items():
        marks = media.of(object_id)
        pointed = [mark for mark in marks if mark.point_px is not None]
        boxed = [mark for mark in marks if mark.point_px is None and mark.box_px is not None]
        alone = [[mark] for mark in marks if mark.mask is not None]
        for shapes, tag in (
            *(((pointed, "points"),) if pointed else ()),
            *(((boxed, "box"),) if boxed else ()),
            *((one, "mask") for one in alone),
        ):
            source = "manual" if media.made_by == "annotation" else "auto"
            track = ElementTree.SubElement(root, "track", id=str(number), label=label, source=source)
            if tag == "mask":
                track.set("group_id", str(object_id))
            number += 1
            _add_keyframes(track, media, shapes, tag)


def _add_keyframes(track: ElementTree.Element, media: MarkedMedia, marks: Sequence[Mark], tag: str) -> None:
    seen = {mark.frame for mark in marks}
    for mark in marks:
        places = _places(mark, tag)
        _add_keyframe(track, tag, mark, frame=mark.frame, outside=False, places=places)
        # A mask stands for its own frame alone; other shapes go on to the next frame that was looked at.
        after = mark.frame + 1 if tag == "mask" else media.next_frame(mark.frame)
        if after is None:
            after = mark.frame + 1
        if after not in seen and after < media.length:
            _add_keyframe(track, tag, mark, frame=after, outside=True, places=places)


def _add_keyframe(
    track: ElementTree.Element,
    tag: str,
    mark: Mark,
    *,
    frame: int,
    outside: bool,
    places: Iterable[tuple[str, str]],
) -> None:
    shape = ElementTree.SubElement(
        track,
        tag,
        frame=str(frame),
        keyframe="1",
        outside=str(int(outside)),
        occluded=str(int(mark.occluded)),
    )
    _fill(shape, mark, places)


def _add_images(root: ElementTree.Element, media: MarkedMedia) -> None:
    for frame in range(media.length):
        width, height = media.size_of(frame)
        image = ElementTree.SubElement(
            root,
            "image",
            id=str(frame),
            name=_clean(media.file_of(frame)),
            width=str(width),
            height=str(height),
        )
        for mark in media.in_frame(frame):
            for tag, there in (
                ("points", mark.point_px is not None),
                ("box", mark.point_px is None and mark.box_px is not None),
                ("mask", mark.mask is not None),
            ):
                if there:
                    shape = ElementTree.SubElement(
                        image, tag, label=mark.label, source="file", occluded=str(int(mark.occluded))
                    )
                    shape.set("group_id", str(mark.object_id))
                    _fill(shape, mark, _places(mark, tag))


def _fill(shape: ElementTree.Element, mark: Mark, places: Iterable[tuple[str, str]]) -> None:
    for name, text in places:
        shape.set(name, text)
    shape.set("z_order", "0")
    for name, text in ((OBJECT, str(mark.object_id)), (STATE, mark.state)):
        ElementTree.SubElement(shape, "attribute", name=name).text = text


def _places(mark: Mark, tag: str) -> tuple[tuple[str, str], ...]:
    if tag == "mask":
        assert mark.mask is not None
        return _mask_places(mark.mask)
    if tag == "box":
        assert mark.box_px is not None
        return tuple(
            (name, repr(float(edge)))
            for name, edge in zip(("xtl", "ytl", "xbr", "ybr"), mark.box_px, strict=True)
        )
    assert mark.point_px is not None
    return (("points", ",".join(repr(float(value)) for value in mark.point_px)),)


def _mask_places(mask: Rle) -> tuple[tuple[str, str], ...]:
    """Runs along the rows of the mask's own box, background first; an empty mask is one pixel of nothing."""
    left, top, right, bottom = mask.box_px or (0, 0, 1, 1)
    pixels = mask.decode()[top:bottom, left:right].ravel()
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff([0, *changes.tolist(), pixels.size])
    if pixels[0]:
        runs = np.concatenate([[0], runs])
    return (
        ("rle", ", ".join(str(int(run)) for run in runs)),
        ("left", str(left)),
        ("top", str(top)),
        ("width", str(right - left)),
        ("height", str(bottom - top)),
    )

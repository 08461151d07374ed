"""COCO files back into marks: of pictures, or of the frames of videos where the file says which they are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from molmo2_ground._amount import amount
from molmo2_ground.errors import SourceError
from molmo2_ground.export.marks import Mark, MarkedMedia
from molmo2_ground.export.read_marks import Drawn, assembled, read_json
from molmo2_ground.export.shapes import check_picture, mask_of_outlines
from molmo2_ground.results import MaskFlag, State
from molmo2_ground.rle import Rle

Found = TypeVar("Found")

_FRAME_NAMES = ("frame_id", "frame_index")
_TRACK_NAMES = ("track_id", "instance_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """A picture, or a frame: its medium, its number there, and its size."""

    medium: object
    frame: int
    name: str
    size_px: tuple[int, int]
    time_s: float | None


def read_coco(path: str | os.PathLike[str]) -> tuple[MarkedMedia, ...]:
    """Read annotations of objects; one medium a video, and all other pictures as one.

    A picture with a `video_id` and a `frame_id` (or `frame_index`) is a frame of a video, numbered from 0.
    `track_id` (or `instance_id`, or CVAT's among `attributes`) tells which object it is; without it each
    annotation is an object. A `segmentation` is a mask, a single visible key point a point, and a `bbox` a
    box where there is neither. Crowds, and annotations without a place, are left out and named.
    Raises `SourceError` when the file cannot be read or is none of COCO's.
    """
    document = read_json(path, what="COCO file")
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise SourceError(f"{path} is no COCO file of objects: expected a list of images")
    try:
        return tuple(_media(document, name=Path(path).stem))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        words = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{path}: {words}") from error


def _media(document: Mapping[str, Any], *, name: str) -> Iterator[MarkedMedia]:
    videos = {video["id"]: video for video in document.get("videos") or ()}
    labels = {category["id"]: str(category["name"]) for category in document.get("categories") or ()}
    images = _images(document["images"])
    drawn: dict[object, list[Drawn]] = {image.medium: [] for image in images.values()}
    left_out: dict[str, int] = {}
    for annotation in document.get("annotations") or ():
        try:
            image = _named(images, annotation["image_id"], "image")
            mark = _mark(annotation, image, labels)
        except (ValueError, KeyError) as error:
            words = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"annotation {annotation.get('id')}: {words}") from error
        if isinstance(mark, str):
            left_out[mark] = left_out.get(mark, 0) + 1
            continue
        track = _track(annotation)
        key = ("alone", annotation["id"]) if track is None else ("track", track)
        kept = track if isinstance(track, int) and track >= 0 else None
        drawn[image.medium].append(Drawn(name=key, kept=kept, mark=mark))
    lines = tuple(f"{amount(count, 'time')}: {reason}" for reason, count in left_out.items())
    for medium, found in drawn.items():
        own = [image for image in images.values() if image.medium == medium]
        yield _medium(own, found, videos.get(medium), name=name, left_out=lines)


def _images(entries: list[dict[str, Any]]) -> dict[Any, _Image]:
    images: dict[Any, _Image] = {}
    pictures = 0
    for entry in entries:
        size_px = int(entry["width"]), int(entry["height"])
        check_picture(size_px)
        frame = next((entry[name] for name in _FRAME_NAMES if name in entry), None)
        video = entry.get("video_id")
        if frame is None or video is None:
            video, frame, pictures = None, pictures, pictures + 1
        images[entry["id"]] = _Image(
            medium=video,
            frame=int(frame),
            name=str(entry.get("file_name", "")),
            size_px=size_px,
            time_s=float(entry["time_s"]) if "time_s" in entry else None,
        )
    return images


def _medium(
    images: list[_Image],
    drawn: list[Drawn],
    video: Mapping[str, Any] | None,
    *,
    name: str,
    left_out: tuple[str, ...],
) -> MarkedMedia:
    images = sorted(images, key=lambda image: image.frame)
    sizes = tuple(image.size_px for image in images)
    marks = assembled(drawn)
    if images[0].medium is None:
        return MarkedMedia(
            name=images[0].name if len(images) == 1 else name,
            kind="images",
            size_px=sizes[0],
            sizes_px=sizes if len(set(sizes)) > 1 else (),
            image_names=tuple(image.name for image in images),
            frame_count=len(images),
            frames=tuple(range(len(images))),
            marks=marks,
            left_out=left_out,
        )
    if len(set(sizes)) > 1:
        raise ValueError(f"the frames of video {images[0].medium} differ in size: {sorted(set(sizes))}")
    known = video or {}
    folder = images[0].name.rsplit("/", 1)[0] if "/" in images[0].name else name
    return MarkedMedia(
        name=str(known.get("name") or known.get("file_name") or folder),
        kind="video",
        size_px=sizes[0],
        fps=float(known["fps"]) if known.get("fps") else None,
        frame_count=int(known["length"]) if known.get("length") else None,
        frames=tuple(image.frame for image in images),
        times_s={image.frame: image.time_s for image in images if image.time_s is not None},
        marks=marks,
        left_out=left_out,
    )


def _named(known: Mapping[Any, Found], number: Any, what: str) -> Found:
    if number not in known:
        raise ValueError(f"there is no {what} {number}")
    return known[number]


def _track(annotation: Mapping[str, Any]) -> Any:
    extra = annotation.get("attributes")
    for fields in (annotation, extra if isinstance(extra, dict) else {}):
        for name in _TRACK_NAMES:
            if fields.get(name) is not None:
                return fields[name]
    return None


def _mark(annotation: Mapping[str, Any], image: _Image, labels: Mapping[Any, str]) -> Mark | str:
    """The mark of an annotation, or why it has none."""
    if annotation.get("iscrowd"):
        return "crowds are of no single object"
    extra = annotation.get("attributes")
    mark = Mark(
        object_id=0,
        label=_named(labels, annotation["category_id"], "category"),
        frame=image.frame,
        time_s=image.time_s,
        state=_state(annotation),
        flags=tuple(flag for flag in get_args(MaskFlag) if flag in (annotation.get("flags") or ())),
        occluded=bool(isinstance(extra, dict) and extra.get("occluded")),
        point_px=_point(annotation.get("keypoints") or ()),
        mask=_mask(annotation.get("segmentation"), image.size_px),
    )
    if mark.point_px is not None or mark.mask is not None:
        return mark
    left, top, width, height = (float(value) for value in annotation.get("bbox") or (0, 0, 0, 0))
    if not (width > 0 and height > 0):
        return "an annotation without a mask, a point or a box"
    return replace(mark, box_px=(left, top, left + width, top + height))


def _state(annotation: Mapping[str, Any]) -> State:
    state = annotation.get("state")
    return cast(State, state) if state in get_args(State) else "observed"


def _point(key_points: Sequence[float]) -> tuple[float, float] | None:
    """The place of the only key point that can be seen; a skeleton of several is no single place."""
    visible = [
        (float(key_points[at]), float(key_points[at + 1]))
        for at in range(0, len(key_points) - 2, 3)
        if key_points[at + 2] > 0
    ]
    return visible[0] if len(visible) == 1 else None


def _mask(segmentation: Any, size_px: tuple[int, int]) -> Rle | None:
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        return mask_of_outlines(segmentation, size_px)
    mask = Rle.from_coco(segmentation)
    if mask.size_hw != (size_px[1], size_px[0]):
        raise ValueError(
            f"its mask is (height, width) {mask.size_hw}, its picture {(size_px[1], size_px[0])}"
        )
    mask.runs()
    return mask

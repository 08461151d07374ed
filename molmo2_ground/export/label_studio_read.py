"""Label Studio's JSON export back into marks: tracks in videos; boxes, points and outlines on pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from molmo2_ground._amount import amount
from molmo2_ground.errors import SourceError
from molmo2_ground.export.label_studio import IMAGE, VIDEO
from molmo2_ground.export.marks import TO_THE_END, Mark, MarkedMedia
from molmo2_ground.export.read_marks import Drawn, assembled, read_json
from molmo2_ground.export.shapes import box_around, check_picture, mask_of_outlines
from molmo2_ground.results import State

_OURS = re.compile(r"object-(\d{1,9})")
# An upload's name begins with eight letters of Label Studio's own.
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
_PICTURE_TYPES = ("rectanglelabels", "keypointlabels", "polygonlabels")


def read_label_studio(path: str | os.PathLike[str]) -> tuple[MarkedMedia, ...]:
    """Read the JSON export; one medium a video, and all pictures as one.

    Of each task the last annotation that was not cancelled counts, else the last prediction. Keyframes are
    `observed`; frames that Label Studio filled in (`auto`) are `interpolated`. A key that is not `enabled` is
    the last frame in which the object is seen. The file does not say how large a video is: its places stay in
    percent until the video does (`settled`). A turned box becomes the upright one around it. Results without
    a place are left out and named.
    Raises `SourceError` when the file cannot be read or is none of Label Studio's.
    """
    tasks = read_json(path, what="export of Label Studio")
    if isinstance(tasks, dict):
        tasks = [tasks]
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise SourceError(f"{path} is no export of Label Studio: expected a list of tasks with their data")
    left_out: dict[str, int] = {}
    videos, pictures = [], []
    for number, task in enumerate(tasks, start=1):
        try:
            results = _results(task)
            kinds = {str(result.get("type")) for result in results}
            if VIDEO in task["data"] or "videorectangle" in kinds:
                videos.append(_video(task, results, left_out, name=Path(path).stem))
            else:
                pictures.append(_picture(task, results, left_out, number=number - 1))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            words = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise SourceError(f"{path}: task {number}: {words}") from error
    lines = tuple(f"{amount(count, 'time')}: {reason}" for reason, count in left_out.items())
    found = [*videos, *([_together(pictures, name=Path(path).stem)] if pictures else [])]
    return tuple(replace(media, left_out=lines) for media in found)


def _results(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    drawn = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
    chosen = (drawn or list(task.get("predictions") or ()))[-1:]
    return [result for one in chosen for result in one.get("result") or ()]


def _name(data: Mapping[str, Any], key: str, otherwise: str) -> str:
    address = data.get(key)
    if not isinstance(address, str):
        address = next(
            (value for value in data.values() if isinstance(value, str) and "." in value), otherwise
        )
    name = address.split("?d=", 1)[-1].split("?", 1)[0].replace("\\", "/").rsplit("/", 1)[-1]
    return _UPLOAD.sub("", name) or otherwise


def _object(result: Mapping[str, Any]) -> int | None:
    found = _OURS.fullmatch(str(result.get("id", "")))
    return None if found is None else int(found[1])


def _label(value: Mapping[str, Any], key: str) -> str:
    labels = value.get(key) or [""]
    return str(labels[0])


def _video(
    task: Mapping[str, Any], results: list[dict[str, Any]], left_out: dict[str, int], *, name: str
) -> MarkedMedia:
    drawn, counts, rates = [], set[int](), set[float]()
    for number, result in enumerate(results):
        if result.get("type") != "videorectangle":
            _leave(left_out, result)
            continue
        value = result["value"]
        frames, duration = value.get("framesCount"), value.get("duration")
        if frames:
            counts.add(int(frames))
            if duration:
                rates.add(int(frames) / float(duration))
        label = _label(value, "labels")
        drawn += [
            Drawn(name=number, kept=_object(result), mark=mark) for mark in _keys(value["sequence"], label)
        ]
    marks = assembled(drawn)
    return MarkedMedia(
        name=_name(task["data"], VIDEO, name),
        kind="video",
        size_px=(100, 100),
        percent=True,
        fps=max(rates, default=None),
        frame_count=max(counts, default=None),
        frames=tuple(sorted({mark.frame for mark in marks})),
        marks=marks,
    )


def _keys(sequence: list[dict[str, Any]], label: str) -> Iterator[Mark]:
    keys = sorted(sequence, key=lambda key: int(key["frame"]))
    for key, after in zip(keys, [*keys[1:], None], strict=True):
        frame = int(key["frame"]) - 1
        left, top = float(key["x"]), float(key["y"])
        box = left, top, left + float(key["width"]), top + float(key["height"])
        if key.get("rotation"):
            box = box_around(box, degrees=float(key["rotation"]), pivot=(left, top))
        state: State = "interpolated" if key.get("auto") else "observed"
        until = None
        if key.get("enabled"):
            until = TO_THE_END if after is None else int(after["frame"]) - 1
        yield Mark(object_id=0, label=label, frame=frame, state=state, box_px=box, until=until)


def _picture(
    task: Mapping[str, Any], results: list[dict[str, Any]], left_out: dict[str, int], *, number: int
) -> tuple[str, tuple[int, int], list[Drawn]]:
    sizes = {
        (int(result["original_width"]), int(result["original_height"]))
        for result in results
        if result.get("type") in _PICTURE_TYPES
    }
    if len(sizes) > 1:
        raise ValueError(f"one picture has one size; got {sorted(sizes)}")
    size_px = next(iter(sizes), (0, 0))
    drawn = []
    for order, result in enumerate(results):
        if result.get("type") not in _PICTURE_TYPES:
            _leave(left_out, result)
            continue
        check_picture(size_px)
        mark = _shape(result, size_px)
        drawn.append(Drawn(name=(number, order), kept=_object(result), mark=mark))
    return _name(task["data"], IMAGE, f"picture {number + 1}"), size_px, drawn


def _shape(result: Mapping[str, Any], size_px: tuple[int, int]) -> Mark:
    value, kind = result["value"], result["type"]
    across, down = size_px[0] / 100, size_px[1] / 100
    mark = Mark(object_id=0, label=_label(value, kind), frame=0)
    if kind == "polygonlabels":
        outline = [part for x, y in value["points"] for part in (float(x) * across, float(y) * down)]
        return replace(mark, mask=mask_of_outlines([outline], size_px))
    x, y = float(value["x"]) * across, float(value["y"]) * down
    if kind == "keypointlabels":
        return replace(mark, point_px=(x, y))
    box = x, y, x + float(value["width"]) * across, y + float(value["height"]) * down
    if value.get("rotation"):
        box = box_around(box, degrees=float(value["rotation"]), pivot=(x, y))
    return replace(mark, box_px=box)


def _together(pictures: list[tuple[str, tuple[int, int], list[Drawn]]], *, name: str) -> MarkedMedia:
    drawn = [
        replace(one, mark=replace(one.mark, frame=frame))
        for frame, (_, _, found) in enumerate(pictures)
        for one in found
    ]
    sizes = tuple(size for _, size, _ in pictures)
    return MarkedMedia(
        name=name if len(pictures) > 1 else pictures[0][0],
        kind="images",
        size_px=sizes[0],
        sizes_px=sizes if len(set(sizes)) > 1 else (),
        image_names=tuple(picture for picture, _, _ in pictures),
        frame_count=len(pictures),
        frames=tuple(range(len(pictures))),
        marks=assembled(drawn),
    )


def _leave(left_out: dict[str, int], result: Mapping[str, Any]) -> None:
    reason = f"results of type {result.get('type')!r} have no place in points, boxes or masks"
    left_out[reason] = left_out.get(reason, 0) + 1

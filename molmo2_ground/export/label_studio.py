"""Label Studio: tasks as its import takes them, with `VideoRectangle` tracks or shapes on pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from molmo2_ground.export.marks import Box, Mark, MarkedMedia
from molmo2_ground.export.mot import boxes
from molmo2_ground.export.written import Written, counted, write_json

# The names in Label Studio's own template for following things in videos, and in ours for pictures.
VIDEO, BOX, IMAGE, POINT = "video", "box", "image", "point"


def label_config(media: MarkedMedia) -> str:
    """The labelling interface that the tasks go with, as XML to paste into the project's settings."""
    from xml.sax.saxutils import quoteattr

    labels = "\n".join(f"    <Label value={quoteattr(label)}/>" for label in media.categories)
    if media.kind == "video":
        rate = f' frameRate="{media.fps:g}"' if media.fps else ""
        return (
            f'<View>\n  <Labels name="videoLabels" toName="{VIDEO}">\n{labels}\n  </Labels>\n'
            f'  <Video name="{VIDEO}" value="$video"{rate}/>\n'
            f'  <VideoRectangle name="{BOX}" toName="{VIDEO}"/>\n</View>\n'
        )
    return (
        f'<View>\n  <Image name="{IMAGE}" value="$image"/>\n'
        f'  <KeyPointLabels name="{POINT}" toName="{IMAGE}">\n{labels}\n  </KeyPointLabels>\n'
        f'  <RectangleLabels name="{BOX}" toName="{IMAGE}">\n{labels}\n  </RectangleLabels>\n</View>\n'
    )


def write_label_studio(
    media: MarkedMedia, path: str | os.PathLike[str], *, radius_px: float | None = None
) -> Written:
    """Write one task for a video, or one a picture; places in percent of the picture.

    Label Studio has no points in videos: an object is a track of boxes, of its masks or of `radius_px` around
    its points. Frames count from 1. Each mark is a keyframe; `enabled` is false where the object is not there
    in the next frame that was looked at, so that Label Studio shows nothing in between.
    Boxes are cut at the edges of the picture, which its schema asks for.
    On pictures points are key points and masks become their boxes. What a model found is a prediction, what
    people drew an annotation. States, the shapes of masks and times that no even rate gives are left out and
    named.
    Raises `ValueError` for an empty label or a point of a video without a radius, `OSError`.
    """
    media.check_settled()
    for object_id, label in media.labels.items():
        if not label.strip():
            raise ValueError(f"object {object_id} has no label, and Label Studio needs one")
    if media.kind == "video":
        results, dropped = _tracks(media, radius_px)
        tasks = [_task(media, {VIDEO: media.name}, results)]
    else:
        tasks, dropped = _pictures(media)
    left_out = (*media.left_out, *_uneven(media), *counted(dropped))
    return Written(path=write_json(path, tasks), marks=len(media.marks), left_out=left_out)


def _task(media: MarkedMedia, data: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, Any]:
    if media.made_by == "annotation":
        return {"data": data, "annotations": [{"result": results}]}
    return {"data": data, "predictions": [{"model_version": media.made_by, "result": results}]}


def _tracks(
    media: MarkedMedia, radius_px: float | None
) -> tuple[list[dict[str, Any]], list[tuple[str, int, int]]]:
    found: dict[int, list[tuple[Mark, Box]]] = {}
    dropped = []
    for mark, whole in boxes(media, radius_px=radius_px, format_name="a video of Label Studio"):
        if whole is None:
            dropped.append(("its mask is empty and has no box", mark.object_id, mark.frame))
            continue
        box = _in_picture(whole, media.size_of(mark.frame))
        if box != whole:
            dropped.append(("its box is cut at the edge of the picture", mark.object_id, mark.frame))
        found.setdefault(mark.object_id, []).append((mark, box))
        if mark.state != "observed":
            dropped.append((f"that it was {mark.state} has no place", mark.object_id, mark.frame))
        if mark.mask is not None:
            dropped.append(("its mask became its box", mark.object_id, mark.frame))
    results = [_track(media, object_id, keyframes) for object_id, keyframes in sorted(found.items())]
    return results, dropped


def _track(media: MarkedMedia, object_id: int, keyframes: Sequence[tuple[Mark, Box]]) -> dict[str, Any]:
    there = {mark.frame for mark, _ in keyframes}
    sequence = [
        {
            "frame": mark.frame + 1,
            "enabled": media.next_frame(mark.frame) in there,
            "rotation": 0,
            **_percents(box, media.size_of(mark.frame)),
            "time": _time(media, mark.frame),
        }
        for mark, box in keyframes
    ]
    value = {
        "framesCount": media.length,
        "duration": media.length / media.fps if media.fps else _time(media, media.length - 1),
        "sequence": sequence,
        "labels": [media.labels[object_id]],
    }
    return {
        "id": f"object-{object_id}",
        "type": "videorectangle",
        "from_name": BOX,
        "to_name": VIDEO,
        "value": value,
    }


def _time(media: MarkedMedia, frame: int) -> float:
    """Seconds as Label Studio counts them, frame 1 at the first frame's end, or as they are.

    Raises `ValueError` when nothing is known of them.
    """
    if media.fps:
        return (frame + 1) / media.fps
    known = [time_s for time_s in (media.time_of(frame), *media.times_s.values()) if time_s is not None]
    if not known:
        raise ValueError(f"{media.name}: Label Studio needs times, and the frames have none")
    exact = media.time_of(frame)
    return max(known) if exact is None else exact


def _uneven(media: MarkedMedia) -> tuple[str, ...]:
    """What to say of a video whose frames are not shown at an even rate, by which Label Studio counts."""
    if media.kind != "video" or not media.fps:
        return ()
    fps = media.fps
    away_s = max((abs(time_s - frame / fps) for frame, time_s in media.times_s.items()), default=0.0)
    if away_s <= 0.5 / fps:
        return ()
    return (
        f"its frames are not shown at an even rate, and Label Studio counts by one ({fps:g} a second): its "
        f"times are up to {away_s:.2f} s off, until the file is imported with the video (--media)",
    )


def _in_picture(box: Box, size_px: tuple[int, int]) -> Box:
    width, height = size_px
    left, right = (min(max(edge, 0.0), float(width)) for edge in (box[0], box[2]))
    top, bottom = (min(max(edge, 0.0), float(height)) for edge in (box[1], box[3]))
    return left, top, right, bottom


def _pictures(media: MarkedMedia) -> tuple[list[dict[str, Any]], list[tuple[str, int, int]]]:
    tasks, dropped = [], []
    for frame in range(media.length):
        results = []
        width, height = media.size_of(frame)
        for mark in media.in_frame(frame):
            common = {
                "id": f"object-{mark.object_id}",
                "to_name": IMAGE,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
            }
            box = mark.extent_px()
            if mark.point_px is not None:
                x, y = 100 * mark.point_px[0] / width, 100 * mark.point_px[1] / height
                value: dict[str, Any] = {"x": x, "y": y, "width": 1, "keypointlabels": [mark.label]}
                results.append({**common, "type": "keypointlabels", "from_name": POINT, "value": value})
            elif box is not None:
                value = {**_percents(box, (width, height)), "rotation": 0, "rectanglelabels": [mark.label]}
                results.append({**common, "type": "rectanglelabels", "from_name": BOX, "value": value})
            if mark.mask is not None:
                words = "its mask has no place" if mark.point_px is not None else "its mask became its box"
                dropped.append((words, mark.object_id, frame))
        tasks.append(_task(media, {IMAGE: media.file_of(frame)}, results))
    return tasks, dropped


def _percents(box: Box, size_px: tuple[int, int]) -> dict[str, float]:
    left, top, right, bottom = box
    width, height = size_px
    return {
        "x": 100 * left / width,
        "y": 100 * top / height,
        "width": 100 * (right - left) / width,
        "height": 100 * (bottom - top) / height,
    }

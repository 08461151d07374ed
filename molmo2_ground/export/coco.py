"""COCO: a picture an entry for each frame, and an annotation for each object in it."""

from __future__ import annotations

import os
from typing import Any

from molmo2_ground.export.marks import Mark, MarkedMedia
from molmo2_ground.export.written import Written, write_json

_VISIBLE = 2  # of a key point: labelled and to be seen


def write_coco(
    media: MarkedMedia, path: str | os.PathLike[str], *, radius_px: float | None = None
) -> Written:
    """Write one JSON file; a frame of a video is a picture called `NAME/00015.jpg` by its number in the file.

    Pictures: the frames that were looked at, those with nothing in them too. Categories: the labels, in
    order of the alphabet. A mask is `segmentation` with text `counts`, with its `area` and `bbox`; a point is
    one of `keypoints`. A point without a mask has the box of `radius_px` around it, or an empty one at it.
    Beside the fields of COCO: `video_id`, `frame_id` and `time_s` of a picture, `track_id` and `state` of an
    annotation, which is how trackers extend it. Raises `OSError`.
    """
    media.check_settled()
    categories = {label: number for number, label in enumerate(media.categories, start=1)}
    frame_ids = {frame: number for number, frame in enumerate(media.frames, start=1)}
    document: dict[str, Any] = {
        "info": {"description": media.name, "contributor": media.made_by},
        "licenses": [],
    }
    if media.kind == "video":
        video: dict[str, Any] = {"id": 1, "name": media.name, "length": media.length}
        document["videos"] = [video | ({"fps": media.fps} if media.fps else {})]
    document["images"] = [_image(media, frame, number) for frame, number in frame_ids.items()]
    document["categories"] = [
        {"id": number, "name": label, "supercategory": "", "keypoints": ["point"], "skeleton": []}
        for label, number in categories.items()
    ]
    document["annotations"] = [
        {
            "id": number,
            "image_id": frame_ids[mark.frame],
            "category_id": categories[mark.label],
            "track_id": mark.object_id,
            "state": mark.state,
            "iscrowd": 0,
            **_places(mark, radius_px),
        }
        for number, mark in enumerate(media.marks, start=1)
    ]
    return Written(path=write_json(path, document), marks=len(media.marks), left_out=media.left_out)


def _image(media: MarkedMedia, frame: int, number: int) -> dict[str, Any]:
    width, height = media.size_of(frame)
    image: dict[str, Any] = {
        "id": number,
        "file_name": media.file_of(frame),
        "width": width,
        "height": height,
        "frame_id": frame,
    }
    time_s = media.time_of(frame)
    if media.kind == "video":
        image["video_id"] = 1
        if time_s is not None:
            image["time_s"] = time_s
    return image


def _places(mark: Mark, radius_px: float | None) -> dict[str, Any]:
    box = mark.extent_px(radius_px)
    places: dict[str, Any] = {}
    if box is not None:
        width, height = box[2] - box[0], box[3] - box[1]
        places |= {"bbox": [box[0], box[1], width, height], "area": width * height}
    elif mark.point_px is not None:
        places |= {"bbox": [*mark.point_px, 0, 0], "area": 0}
    else:
        places |= {"bbox": [0, 0, 0, 0], "area": 0}
    if mark.mask is not None:
        places |= {"segmentation": mark.mask.to_coco(), "area": mark.mask.area_px}
    if mark.point_px is not None:
        places |= {"keypoints": [*mark.point_px, _VISIBLE], "num_keypoints": 1}
    if mark.flags:
        places["flags"] = list(mark.flags)
    if mark.occluded:
        places["attributes"] = {"occluded": True}  # where CVAT writes it
    return places

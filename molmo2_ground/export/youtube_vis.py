"""YouTube-VIS: one JSON file with a list of masks an object, null where it is not to be seen."""

from __future__ import annotations

import os
from typing import Any

from molmo2_ground.export.marks import Mark, MarkedMedia
from molmo2_ground.export.mots import check_has_masks
from molmo2_ground.export.written import Written, counted, write_json
from molmo2_ground.rle import Rle


def write_youtube_vis(media: MarkedMedia, path: str | os.PathLike[str]) -> Written:
    """Write one video with the frames that were looked at, and an annotation for each object.

    segmentations, bboxes ([left, top, width, height]) and areas have one entry a frame, None where the object
    has no mask. Frames are called `NAME/00015.jpg` by their number in the file. Masks may overlap.
    Bare points are left out and named. Raises `ValueError` when there is no mask at all, `OSError`.
    """
    media.check_settled()
    check_has_masks(media, "YouTube-VIS")
    width, height = media.size_px
    if any(media.size_of(frame) != media.size_px for frame in media.frames):
        raise ValueError("YouTube-VIS has one size for all frames; these pictures differ in size")
    categories = {label: number for number, label in enumerate(media.categories, start=1)}
    annotations = [
        _annotation(media, object_id, categories[label], number)
        for number, (object_id, label) in enumerate(media.labels.items(), start=1)
        if any(mark.mask is not None for mark in media.of(object_id))
    ]
    video = {
        "id": 1,
        "width": width,
        "height": height,
        "length": len(media.frames),
        "file_names": [media.file_of(frame) for frame in media.frames],
        "source_indices": list(media.frames),
        "date_captured": "",
        "license": 0,
        "coco_url": "",
        "flickr_url": "",
    }
    document = {
        "info": {"description": media.name, "contributor": media.made_by},
        "licenses": [],
        "videos": [video],
        "categories": [
            {"id": number, "name": label, "supercategory": ""} for label, number in categories.items()
        ],
        "annotations": annotations,
    }
    masks = sum(mark.mask is not None for mark in media.marks)
    dropped = (
        ("it is only a point", mark.object_id, mark.frame) for mark in media.marks if mark.mask is None
    )
    return Written(
        path=write_json(path, document), marks=masks, left_out=(*media.left_out, *counted(dropped))
    )


def _annotation(media: MarkedMedia, object_id: int, category_id: int, number: int) -> dict[str, Any]:
    width, height = media.size_px
    by_frame = {mark.frame: mark for mark in media.of(object_id) if mark.mask is not None}
    marks = [by_frame.get(frame) for frame in media.frames]
    return {
        "id": number,
        "video_id": 1,
        "category_id": category_id,
        "object_id": object_id,
        "width": width,
        "height": height,
        "length": len(media.frames),
        "iscrowd": 0,
        "segmentations": [None if mark is None or mark.mask is None else _runs(mark.mask) for mark in marks],
        "bboxes": [_box(mark) for mark in marks],
        "areas": [None if mark is None or mark.mask is None else mark.mask.area_px for mark in marks],
    }


def _runs(mask: Rle) -> dict[str, Any]:
    """Runs as a list, as the data set has them: TrackEval reads no compressed ones in a truth."""
    return {"size": list(mask.size_hw), "counts": mask.runs().tolist()}


def _box(mark: Mark | None) -> list[float] | None:
    box = None if mark is None else mark.extent_px()
    return None if box is None else [box[0], box[1], box[2] - box[0], box[3] - box[1]]

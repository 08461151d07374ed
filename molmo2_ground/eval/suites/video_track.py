"""Molmo2-VideoTrackEval: follow what a sentence names, in clips of animals, dancers, sports, people and more.

The folder holds the table of the split `test` and the clips `<clip>.mp4` below it; where two sets have a clip
of one name, each lies in a folder named after its video_dataset. Fields of a row: id, clip, video_dataset,
fps, w and h (or width and height), exp (or expression), points[] {object_id, points [x, y] in pixels or null,
one a frame} and masks[] {object_id, masks: a mask or null, one a frame}, both from the clip's first frame on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from molmo2_ground.eval.example import Example, Settings
from molmo2_ground.eval.suites.dataset import (
    PAPER_FRAMES,
    PAPER_SHOW_FPS,
    Rows,
    TrackingSuite,
    checked_mask,
    judged_frames,
    table_rows,
    tagged,
    tracked_truth,
)
from molmo2_ground.eval.suites.media import Shelf
from molmo2_ground.eval.suites.records import BadRowError, Record, in_picture, pair
from molmo2_ground.query import Query
from molmo2_ground.rle import Rle

# The released evaluation asks for, and judges, one frame a second.
TRACK_FPS = 1.0
DOMAINS = {
    "aptv2": "animals",
    "dancetrack": "dancers",
    "sportsmot": "sports",
    "personpath22": "person",
    "sav": "misc",
}

_Frames = dict[int, tuple[tuple[float, float] | None, Rle | None]]


class VideoTrack(TrackingSuite):
    """Molmo2-VideoTrackEval."""

    name = "video-track"
    settings = Settings(
        max_frames=PAPER_FRAMES,
        max_new_tokens=4096,
        note="greedy, shown up to 10 frames a second, asked and judged at 1 frame a second",
    )

    def _rows(self) -> Rows:
        shelf = Shelf.of_videos(self.folder)
        return table_rows(self.folder, split="test", shelf=shelf, example=_example)


def _example(row: Record, shelf: Shelf) -> Example:
    dataset, fps = row.text("video_dataset"), row.positive("fps")
    size_px = row.size_px()
    path = shelf.find(row.name("clip"), within=dataset)
    info = shelf.video(path, size_px)
    points = _by_object(row, "points")
    masks = _by_object(row, "masks")
    if points.keys() != masks.keys():
        raise BadRowError(f"points are given for the objects {sorted(points)}, masks for {sorted(masks)}")
    annotated = max((len(frames) for frames in (*points.values(), *masks.values())), default=0)
    if info.frame_count is not None and annotated > info.frame_count:
        raise BadRowError(f"{annotated} frames are annotated; {path.name} has {info.frame_count}")
    judged = judged_frames(annotated, fps=fps, judged_fps=TRACK_FPS)
    truth = tracked_truth(
        {
            number: _visible(points[name], masks[name], size_px=size_px, judged=judged, name=name)
            for number, name in enumerate(points, start=1)
        },
        size_px=size_px,
        fps=fps,
        frame_count=annotated,
        judged=judged,
    )
    return tagged(
        Example(
            key=row.name("id"),
            media=path,
            query=Query.track(
                row.text(row.one_of("exp", "expression")), fps=TRACK_FPS, show_fps=PAPER_SHOW_FPS
            ),
            truth=truth,
        ),
        category=DOMAINS.get(dataset.casefold(), dataset),
    )


def _by_object(row: Record, field: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for item in row.records(field):
        object_id = item.name("object_id")
        if object_id in found:
            raise BadRowError(f"the object {object_id} comes twice in {field}")
        found[object_id] = item.items(field)
    return found


def _visible(
    points: list[Any], masks: list[Any], *, size_px: tuple[int, int], judged: Sequence[int], name: str
) -> _Frames:
    """The judged frames in which an object shows. Every mask is decoded, also those between."""
    found: _Frames = {}
    asked = frozenset(judged)
    for index in range(max(len(points), len(masks))):
        mask = None
        if index < len(masks) and masks[index] is not None:
            what = f"the mask of object {name} at frame {index}"
            mask = checked_mask(masks[index], size_px=size_px, what=what)
            mask = mask if mask.area_px else None
        point = points[index] if index < len(points) else None
        if index in asked and (point is not None or mask is not None):
            what = f"the point of object {name} at frame {index}"
            xy_px = None if point is None else in_picture(pair(point, what), size_px, what)
            found[index] = xy_px, mask
    return found

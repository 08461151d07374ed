"""Molmo2-VideoPointEval: point to everything of a description in a video, judged by masks around the moment.

The folder holds the table of the split `val` and the videos, at two frames a second, below it, called
`<video_id>_2fps.mp4` or `<video_id>.mp4`. Fields of a row: video_id, video_duration, width, height, label,
points[i] {x, y} in pixels at two_fps_timestamps[i] seconds, masks[i] a list of {frame_id, rle}; frame_id
counts half seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from molmo2_ground.eval.example import Example, Result, Settings, Truth, TruthFrame, TruthObject
from molmo2_ground.eval.metrics import placed_of, point_scores, pooled_matched
from molmo2_ground.eval.suites.dataset import (
    PAPER_FRAMES,
    DatasetSuite,
    Rows,
    checked_mask,
    table_rows,
    tagged,
)
from molmo2_ground.eval.suites.media import Shelf
from molmo2_ground.eval.suites.records import BadRowError, Record, in_picture
from molmo2_ground.query import Query

# Frames are numbered, and times are written, in half seconds.
ANNOTATION_FPS = 2.0


class VideoPoint(DatasetSuite):
    """Molmo2-VideoPointEval. The question is the released one: how many, answered by pointing."""

    name = "video-point"
    settings = Settings(
        max_frames=PAPER_FRAMES, max_new_tokens=2048, note="greedy, 2 frames a second, at most 384"
    )
    headline = ("f1", "precision", "recall")

    def _rows(self) -> Rows:
        shelf = Shelf.of_videos(self.folder)
        return table_rows(self.folder, split="val", shelf=shelf, example=_example)

    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        """precision, recall, f1, and what the released evaluator would give as `reference_*`."""
        placed = placed_of(result)
        found = point_scores(example.truth, placed)
        released = point_scores(example.truth, placed, reference_compat=True).scores()
        shares = found.scores() if result is not None else dict.fromkeys(found.scores(), 0.0)
        scores = {"readable": float(result is not None), **shares, **found.counts()}
        return scores | {f"reference_{name}": value for name, value in released.items()}

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Means over the questions, and `pooled_*` over all points together."""
        return super().summary(rows) | pooled_matched(rows)


def video_of(shelf: Shelf, video_id: str) -> tuple[str, ...]:
    """The names that a video may have; an id `part/name` lies in a folder whose name starts with `part`."""
    name = video_id.rsplit("/", 1)[-1]
    return f"{name}_2fps", name


def _example(row: Record, shelf: Shelf) -> Example:
    video_id, label = row.name("video_id"), row.text("label")
    size_px = row.size_px()
    within = video_id.rsplit("/", 1)[0] if "/" in video_id else ""
    path = shelf.find(*video_of(shelf, video_id), within=within)
    shelf.video(path, size_px)
    points, masks = row.records("points"), row.items("masks")
    times = row.numbers("two_fps_timestamps")
    if not len(points) == len(masks) == len(times):
        raise BadRowError(
            f"there are {len(points)} points, {len(masks)} masks and {len(times)} times; "
            "expected as many of each"
        )
    objects = tuple(
        TruthObject(object_id=i, frames=_frames(points[i - 1], times[i - 1], masks[i - 1], size_px, i))
        for i in range(1, len(points) + 1)
    )
    times_s = {f.time_s for item in objects for f in item.frames if f.time_s is not None}
    truth = Truth(
        size_px=size_px,
        duration_s=row.positive("video_duration"),
        fps=ANNOTATION_FPS,
        count=len(objects),
        objects=objects,
        frame_times_s=tuple(sorted(times_s)),
    )
    example = Example(key=f"{video_id}:{label}", media=path, query=Query.count(label), truth=truth)
    return tagged(example)


def _frames(
    point: Record, time_s: float, masks: object, size_px: tuple[int, int], number: int
) -> tuple[TruthFrame, ...]:
    xy_px = in_picture((point.number("x"), point.number("y")), size_px, f"point {number}")
    own = round(time_s * ANNOTATION_FPS)
    at = {own: TruthFrame(time_s=time_s, source_index=own, xy_px=xy_px)}
    for item in Record({"masks": masks}).records("masks"):
        index = item.whole("frame_id")
        what = f"the mask of point {number} at frame {index}"
        mask = checked_mask(item.record("rle").fields, size_px=size_px, what=what)
        at[index] = TruthFrame(
            time_s=index / ANNOTATION_FPS,
            source_index=index,
            xy_px=at[index].xy_px if index in at else None,
            mask=mask,
        )
    return tuple(frame for _, frame in sorted(at.items()))

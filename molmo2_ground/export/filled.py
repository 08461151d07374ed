"""The frames between keyframes, as the annotation tool itself shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from molmo2_ground.export.marks import Mark, MarkedMedia


def filled(media: MarkedMedia) -> MarkedMedia:
    """Add the marks that a tool fills in between keyframes, as `interpolated`.

    Label Studio and CVAT show a point or a box on to the next keyframe of its object, moving in a straight
    line, and after the last one where it was; where the object is not there they say so. Frames that somebody
    drew stay as they are. The end is that of the video, where it is known.
    """
    ends = media.frame_count or (max(media.frames) + 1 if media.frames else 0)
    marks = [made for object_id in media.labels for made in _way(media.of(object_id), ends=ends)]
    return replace(
        media,
        marks=tuple(sorted(marks, key=lambda mark: (mark.frame, mark.object_id))),
        frames=tuple(sorted({*media.frames, *(mark.frame for mark in marks)})),
    )


def _way(marks: Sequence[Mark], *, ends: int) -> Iterator[Mark]:
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        yield mark
        if mark.until is None:
            continue
        goal = after if after is not None and after.frame == mark.until else None
        end = min(mark.until, ends if after is None else after.frame)
        for frame in range(mark.frame + 1, end):
            yield _between(mark, goal, frame)


def _between(mark: Mark, after: Mark | None, frame: int) -> Mark:
    share = 0.0 if after is None else (frame - mark.frame) / (after.frame - mark.frame)
    point, box = mark.point_px, mark.box_px
    if after is not None and point is not None and after.point_px is not None:
        point = _mixed(point[0], after.point_px[0], share), _mixed(point[1], after.point_px[1], share)
    if after is not None and box is not None and after.box_px is not None:
        left, top, right, bottom = (_mixed(a, b, share) for a, b in zip(box, after.box_px, strict=True))
        box = left, top, right, bottom
    return replace(
        mark,
        frame=frame,
        time_s=None,
        state="interpolated",
        point_px=point,
        box_px=box,
        mask=None,
        flags=(),
        until=None,
    )


def _mixed(first: float, second: float, share: float) -> float:
    return first + share * (second - first)

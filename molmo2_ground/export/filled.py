"""The frames between keyframes, as the annotation tool itself shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from molmo2_ground.errors import SourceError
from molmo2_ground.export.marks import Mark, MarkedMedia

# An hour at 60 frames a second with a dozen objects, and some.
_MOST = 3_000_000


def filled(media: MarkedMedia) -> MarkedMedia:
    """Add the marks that a tool fills in between keyframes, as `interpolated`.

    Label Studio and CVAT show a point or a box on to the next keyframe of its object, moving in a straight
    line, and after the last one where it was; where the object is not there they say so. Frames that somebody
    drew stay as they are; between two outlines there is the box around them. The end is that of the video,
    where it is known. Raises `SourceError` when more frames are to be filled in than can be meant.
    """
    ends = media.frame_count or (max(media.frames) + 1 if media.frames else 0)
    spans = [span for object_id in media.labels for span in _spans(media.of(object_id), ends=ends)]
    added = sum(len(frames) for _, _, frames in spans)
    if added > _MOST:
        raise SourceError(
            f"{media.name}: {added:,} places would be filled in between keyframes; the numbers of its frames "
            "are wrong"
        )
    between = [_between(mark, goal, frame) for mark, goal, frames in spans for frame in frames]
    marks = (*media.marks, *between)
    return replace(
        media,
        marks=tuple(sorted(marks, key=lambda mark: (mark.frame, mark.object_id))),
        frames=tuple(sorted({*media.frames, *(mark.frame for mark in marks)})),
    )


def _spans(marks: Sequence[Mark], *, ends: int) -> Iterator[tuple[Mark, Mark | None, range]]:
    """Each mark that is shown on: where it moves to, if anywhere, and the frames to fill in."""
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        if mark.until is not None:
            goal = after if after is not None and after.frame == mark.until else None
            end = min(mark.until, ends if after is None else after.frame)
            yield mark, goal, range(mark.frame + 1, end)


def _between(mark: Mark, after: Mark | None, frame: int) -> Mark:
    share = 0.0 if after is None else (frame - mark.frame) / (after.frame - mark.frame)
    point = mark.point_px
    # How an outline changes between two is not for us to say; the box around it moves straight.
    box = mark.extent_px() if point is None else mark.box_px
    goal = None if after is None else after.extent_px()
    if after is not None and point is not None and after.point_px is not None:
        point = _mixed(point[0], after.point_px[0], share), _mixed(point[1], after.point_px[1], share)
    if box is not None and goal is not None:
        left, top, right, bottom = (_mixed(a, b, share) for a, b in zip(box, goal, strict=True))
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

"""What people drew, as results: tracks, points and masks whose receipt says that no model was asked."""

from __future__ import annotations

import numpy as np

from molmo2_ground._amount import amount
from molmo2_ground.export.inside import inside
from molmo2_ground.export.marks import Mark, MarkedMedia
from molmo2_ground.results import Mask as ResultMask
from molmo2_ground.results import Masks, Point, Points, Receipt, Sample, Track, Tracks
from molmo2_ground.rle import Rle

ANNOTATION = "annotation"


def to_tracks(media: MarkedMedia, *, origin: str) -> Tracks:
    """Marks of a video as tracks; of a box the middle, of a mask one of its pixels near its middle.

    origin: where the marks come from, in words, for the receipt: `CVAT XML 1.1, street.xml`.
    What lies outside the picture is left out, and a note of the receipt says so (`inside`).
    Raises `ValueError` for marks without times (`settled` gives them), `SourceError` when all lie outside.
    """
    media = inside(media)
    tracks = []
    for object_id, label in media.labels.items():
        samples = tuple(
            _sample(media, mark, place)
            for mark in media.of(object_id)
            if (place := place_of(mark)) is not None
        )
        if samples:
            tracks.append(Track(object_id=object_id, label=label, samples=samples))
    return Tracks(tracks=tuple(tracks), receipt=receipt_of(media, origin=origin))


def to_points(media: MarkedMedia, *, origin: str) -> Points:
    """Marks of pictures as points, picture by picture.

    What lies outside its picture is left out, and a note of the receipt says so (`inside`). Raises
    `SourceError` when all do.
    """
    media = inside(media)
    points = []
    for mark in media.marks:
        place = place_of(mark)
        if place is None:
            continue
        (x, y), (width, height) = place, media.size_of(mark.frame)
        points.append(
            Point(
                object_id=mark.object_id,
                x_px=x,
                y_px=y,
                x_norm=x / width,
                y_norm=y / height,
                time_s=mark.time_s,
                source_index=mark.frame,
                label=mark.label,
                state=mark.state,
            )
        )
    return Points(points=tuple(points), receipt=receipt_of(media, origin=origin))


def to_masks(media: MarkedMedia, *, origin: str) -> Masks:
    """The masks among the marks; boxes and bare points have none."""
    masks = tuple(
        ResultMask(
            object_id=mark.object_id,
            source_index=mark.frame,
            time_s=mark.time_s,
            size_px=media.size_of(mark.frame),
            counts=_counts(mark.mask),
            state=mark.state,
            flags=mark.flags,
        )
        for mark in media.marks
        if mark.mask is not None
    )
    drawn = {mask.object_id for mask in masks}
    labels = {object_id: label for object_id, label in media.labels.items() if object_id in drawn}
    return Masks(masks=masks, labels=labels, segmenter=ANNOTATION, receipt=receipt_of(media, origin=origin))


def receipt_of(media: MarkedMedia, *, origin: str) -> Receipt:
    """A receipt that says where the marks come from; `replay` has nothing to derive from it, and says so."""
    times_s = [media.time_of(frame) for frame in media.frames]
    video = media.kind == "video"
    if video and None in times_s:
        raise ValueError(f"{media.name}: frames without times; give them first (export.settled)")
    known = tuple(time for time in times_s if time is not None) if video else ()
    hidden = sum(mark.occluded for mark in media.marks)
    notes = [f"read from {origin}; no model was asked"]
    if hidden:
        notes.append(f"{amount(hidden, 'place')} marked as occluded, which a result has no field for")
    sizes = tuple(media.size_of(frame) for frame in media.frames)
    return Receipt(
        task=ANNOTATION,
        query="",
        model_id=ANNOTATION,
        backend="import",
        recipe=origin,
        prompt="",
        raw_text="",
        stop_reason="imported",
        source=media.name,
        frame_times_s=known,
        shown_times_s=known,
        frame_source_indices=media.frames,
        size_px=media.size_px,
        sizes_px=sizes if len(set(sizes)) > 1 else (),
        source_fps=media.fps,
        notes=(*notes, *media.left_out),
    )


def place_of(mark: Mark) -> tuple[float, float] | None:
    """One place of a mark: its point, a pixel of its mask near the middle, or the middle of its box."""
    if mark.point_px is not None:
        return mark.point_px
    if mark.mask is not None:
        return _inside(mark.mask)
    if mark.box_px is None:
        return None
    left, top, right, bottom = mark.box_px
    return (left + right) / 2, (top + bottom) / 2


def _inside(mask: Rle) -> tuple[float, float] | None:
    """The middle of the mask's pixel that is nearest to its centre of mass; None for an empty mask."""
    rows, columns = np.nonzero(mask.decode())
    if not rows.size:
        return None
    away = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    nearest = int(away.argmin())
    return float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5


def _counts(mask: Rle) -> str:
    if isinstance(mask.counts, bytes):
        return mask.counts.decode("ascii")
    counts = Rle.encode(mask.decode()).counts
    assert isinstance(counts, bytes)
    return counts.decode("ascii")


def _sample(media: MarkedMedia, mark: Mark, place: tuple[float, float]) -> Sample:
    (x, y), (width, height) = place, media.size_of(mark.frame)
    time_s = mark.time_s if mark.time_s is not None else media.time_of(mark.frame)
    if time_s is None:
        raise ValueError(f"{media.name}: frame {mark.frame} has no time; give it first (export.settled)")
    return Sample(
        time_s=time_s,
        source_index=mark.frame,
        x_px=x,
        y_px=y,
        x_norm=x / width,
        y_norm=y / height,
        state=mark.state,
    )

"""Answers that a model could have given about an example, made from its truth."""

from __future__ import annotations

from molmo2_ground.eval.example import Example, Result, TruthFrame
from molmo2_ground.eval.metrics.anchors import anchor_px
from molmo2_ground.results import Count, Point, Points, Receipt, Sample, Track, Tracks


def receipt_for(example: Example) -> Receipt:
    """The receipt of an answer that looked at the annotated frames."""
    times = example.truth.frame_times_s
    fps = example.truth.fps or 1.0
    return Receipt(
        task=example.query.task,
        query=example.query.phrase,
        model_id="made up",
        backend="scripted",
        recipe="",
        prompt="",
        raw_text="",
        stop_reason="end",
        source=str(example.media),
        frame_times_s=times,
        shown_times_s=times,
        frame_source_indices=tuple(round(time * fps) for time in times),
        size_px=example.truth.size_px,
    )


def perfect(example: Example) -> Result:
    """What a model that makes no mistake answers: tracks in every frame, points in the annotated one.

    What a suite asks in words of its own is answered by tracks.
    """
    if example.query.task in ("track", "ask"):
        return _perfect_tracks(example)
    points = Points(
        points=tuple(
            _point(example, number, _annotated(item.frames))
            for number, item in enumerate(example.truth.objects, start=1)
        ),
        receipt=receipt_for(example),
    )
    if example.query.task == "count":
        assert example.truth.count is not None
        return Count(value=example.truth.count, stated=example.truth.count, points=points)
    return points


def empty(example: Example) -> Result:
    """The answer that there is none."""
    receipt = receipt_for(example)
    if example.query.task in ("track", "ask"):
        return Tracks(tracks=(), receipt=receipt)
    points = Points(points=(), receipt=receipt)
    return Count(value=0, stated=None, points=points) if example.query.task == "count" else points


def _perfect_tracks(example: Example) -> Tracks:
    tracks = tuple(
        Track(object_id=number, label="it", samples=tuple(_sample(example, frame) for frame in item.frames))
        for number, item in enumerate(example.truth.objects, start=1)
        if item.frames
    )
    return Tracks(tracks=tracks, receipt=receipt_for(example))


def _annotated(frames: tuple[TruthFrame, ...]) -> TruthFrame:
    return next((frame for frame in frames if frame.xy_px is not None), frames[-1])


def _point(example: Example, number: int, frame: TruthFrame) -> Point:
    (x, y), (width, height) = _place(frame), example.truth.size_px
    return Point(
        object_id=number,
        x_px=x,
        y_px=y,
        x_norm=x / width,
        y_norm=y / height,
        time_s=frame.time_s,
        source_index=frame.source_index,
        label="it",
    )


def _sample(example: Example, frame: TruthFrame) -> Sample:
    (x, y), (width, height) = _place(frame), example.truth.size_px
    assert frame.time_s is not None
    return Sample(
        time_s=frame.time_s,
        source_index=frame.source_index,
        x_px=x,
        y_px=y,
        x_norm=x / width,
        y_norm=y / height,
    )


def _place(frame: TruthFrame) -> tuple[float, float]:
    place = anchor_px(frame)
    assert place is not None, "an object has a frame in which it cannot be seen"
    return place

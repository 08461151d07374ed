"""Results made by hand for tests of drawing and of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from molmo2_ground.results import (
    Mask,
    MaskFlag,
    Masks,
    Point,
    Points,
    Receipt,
    Sample,
    State,
    Track,
    Tracks,
)
from molmo2_ground.rle import Rle

SIZE_PX = (640, 360)


def receipt(
    *,
    looked_s: Sequence[float] = (),
    size_px: tuple[int, int] = SIZE_PX,
    query: str = "the red car",
    fps: float | None = 30.0,
    **fields: Any,
) -> Receipt:
    """A receipt of a model that looked at these times (seconds)."""
    return Receipt(
        task=fields.pop("task", "track"),
        query=query,
        model_id="tiny",
        backend="scripted",
        recipe="hand/1",
        prompt=f"Track {query}.",
        raw_text=fields.pop("raw_text", "as written"),
        stop_reason="end",
        source=fields.pop("source", "street.mp4"),
        frame_times_s=tuple(looked_s),
        shown_times_s=tuple(looked_s),
        frame_source_indices=fields.pop(
            "frame_source_indices", tuple(round(t * (fps or 1)) for t in looked_s)
        ),
        size_px=size_px,
        source_fps=fps,
        **fields,
    )


def track(
    places: Mapping[float, tuple[float, float]],
    *,
    object_id: int = 1,
    label: str = "the red car",
    size_px: tuple[int, int] = SIZE_PX,
    state: State = "observed",
) -> Track:
    """An object at these places: time in seconds -> (x, y) in pixels of `size_px`."""
    samples = tuple(
        Sample(
            time_s=time_s,
            source_index=round(time_s * 30),
            x_px=x_px,
            y_px=y_px,
            x_norm=x_px / size_px[0],
            y_norm=y_px / size_px[1],
            state=state,
        )
        for time_s, (x_px, y_px) in places.items()
    )
    return Track(object_id=object_id, label=label, samples=samples)


def tracks(*each: Track, looked_s: Sequence[float] = (), **fields: Any) -> Tracks:
    """Objects found by a model that looked at these times; fields as of `receipt`."""
    return Tracks(tracks=each, receipt=receipt(looked_s=looked_s, **fields))


def points(
    places: Sequence[tuple[float, float]],
    *,
    times_s: Sequence[float] | None = None,
    source_indices: Sequence[int] | None = None,
    size_px: tuple[int, int] = SIZE_PX,
    label: str = "mug",
    **fields: Any,
) -> Points:
    """Points at (x, y) in pixels; of a still image without `times_s` (seconds)."""
    made = tuple(
        Point(
            object_id=i + 1,
            x_px=x_px,
            y_px=y_px,
            x_norm=x_px / size_px[0],
            y_norm=y_px / size_px[1],
            time_s=None if times_s is None else times_s[i],
            source_index=0 if source_indices is None else source_indices[i],
            label=label,
        )
        for i, (x_px, y_px) in enumerate(places)
    )
    fields.setdefault("task", "point")
    return Points(points=made, receipt=receipt(size_px=size_px, **fields))


def masks(
    boxes_px: Sequence[tuple[int, int, tuple[int, int, int, int]]],
    *,
    size_px: tuple[int, int] = SIZE_PX,
    flags: Mapping[int, tuple[MaskFlag, ...]] | None = None,
    fps: float | None = 30.0,
    label: str = "the red car",
) -> Masks:
    """Rectangles as masks: (object id, frame, (left, top, right, bottom) in pixels of `size_px`).

    flags: by object id. fps: for the times of the frames; None for images.
    """
    made = []
    for object_id, source_index, (left_px, top_px, right_px, bottom_px) in boxes_px:
        dense = np.zeros(size_px[::-1], dtype=bool)
        dense[top_px:bottom_px, left_px:right_px] = True
        made.append(
            mask_of(
                dense,
                object_id=object_id,
                source_index=source_index,
                time_s=None if fps is None else source_index / fps,
                flags=(flags or {}).get(object_id, ()),
            )
        )
    return Masks(
        masks=tuple(made),
        labels={mask.object_id: label for mask in made},
        segmenter="by hand",
        receipt=receipt(size_px=size_px),
    )


def mask_of(dense: npt.NDArray[np.bool_], **fields: Any) -> Mask:
    """bool[height, width] as a mask of object 1 in frame 0; other fields as of `Mask`."""
    counts = Rle.encode(dense).counts
    assert isinstance(counts, bytes)
    fields = {"object_id": 1, "source_index": 0} | fields
    height_px, width_px = dense.shape
    return Mask(size_px=(width_px, height_px), counts=counts.decode("ascii"), **fields)

"""Small truths with boxes for masks, and places in them, for the tests of the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from molmo2_ground.eval.example import Truth, TruthFrame, TruthObject
from molmo2_ground.eval.metrics import Placed
from molmo2_ground.rle import Rle

SIZE_PX = (40, 30)
# (left, top, right, bottom), the right and bottom edge left out.
Box = tuple[int, int, int, int]


def box_mask(box: Box, *, size_px: tuple[int, int] = SIZE_PX) -> np.ndarray:
    mask = np.zeros(size_px[::-1], dtype=bool)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = True
    return mask


def middle(box: Box) -> tuple[float, float]:
    left, top, right, bottom = box
    return (left + right) / 2, (top + bottom) / 2


def frame_of(box: Box, time_s: float | None, *, source_index: int = 0) -> TruthFrame:
    return TruthFrame(
        time_s=time_s, source_index=source_index, xy_px=middle(box), mask=Rle.encode(box_mask(box))
    )


def video_truth(
    objects: Mapping[int, Mapping[float, Box]],
    *,
    times_s: Sequence[float] = (),
    fps: float | None = 10.0,
    duration_s: float | None = 10.0,
) -> Truth:
    """`objects` gives the box of each object at each time at which it can be seen."""
    return Truth(
        size_px=SIZE_PX,
        duration_s=duration_s,
        fps=fps,
        frame_times_s=tuple(times_s),
        objects=tuple(
            TruthObject(
                object_id=object_id,
                frames=tuple(
                    frame_of(box, time, source_index=round(time * (fps or 1))) for time, box in boxes.items()
                ),
            )
            for object_id, boxes in objects.items()
        ),
    )


def perfect(truth: Truth) -> tuple[Placed, ...]:
    """Every annotated point, under the object's own id."""
    return tuple(
        Placed(
            object_id=item.object_id,
            x_px=frame.xy_px[0],
            y_px=frame.xy_px[1],
            time_s=frame.time_s,
            source_index=frame.source_index,
        )
        for item in truth.objects
        for frame in item.frames
        if frame.xy_px is not None
    )


def place(object_id: int, time_s: float | None, x_px: float, y_px: float, *, image: int = 0) -> Placed:
    return Placed(object_id=object_id, time_s=time_s, x_px=x_px, y_px=y_px, source_index=image)

"""Results to export: a film of two cars and a wandering dog with masks, points alone, and pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from molmo2_ground.results import (
    Mask,
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

SIZE_PX = (48, 32)
FPS = 10.0
# Frames that the model looked at; the second object is not in frame 5, and gone from 15 on.
LOOKED_AT = (0, 5, 10, 15)
LABELS = {1: "red car", 2: 'dog, "größe" <ü>\nline', 7: "blue car"}


def receipt(**changes: object) -> Receipt:
    times = tuple(frame / FPS for frame in LOOKED_AT)
    fields: dict[str, object] = {
        "task": "track",
        "query": "all",
        "model_id": "scripted",
        "backend": "scripted",
        "recipe": "track-default/1",
        "prompt": "Track all.",
        "raw_text": "",
        "stop_reason": "end",
        "source": "street one.mp4",
        "frame_times_s": times,
        "shown_times_s": times,
        "frame_source_indices": LOOKED_AT,
        "size_px": SIZE_PX,
        "source_fps": FPS,
    }
    return Receipt.model_validate({**fields, **changes})


def sample(frame: int, x_px: float, y_px: float, state: State = "observed") -> Sample:
    return Sample(
        time_s=frame / FPS,
        source_index=frame,
        x_px=x_px,
        y_px=y_px,
        x_norm=x_px / SIZE_PX[0],
        y_norm=y_px / SIZE_PX[1],
        state=state,
    )


def tracks() -> Tracks:
    return Tracks(
        tracks=(
            Track(object_id=1, label=LABELS[1], samples=tuple(sample(f, 5.25 + f, 10.1) for f in LOOKED_AT)),
            Track(object_id=2, label=LABELS[2], samples=(sample(0, 20, 20), sample(10, 22.5, 21))),
            Track(
                object_id=7,
                label=LABELS[7],
                samples=(sample(0, 40, 6), sample(3, 41, 7, "propagated"), sample(5, 42, 8)),
            ),
        ),
        receipt=receipt(),
    )


def disc(x: float, y: float, radius: float) -> npt.NDArray[np.bool_]:
    rows, columns = np.mgrid[: SIZE_PX[1], : SIZE_PX[0]]
    return np.asarray((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2)


def mask(object_id: int, frame: int, pixels: npt.NDArray[np.bool_], state: State = "observed") -> Mask:
    counts = Rle.encode(pixels).counts
    assert isinstance(counts, bytes)
    return Mask(
        object_id=object_id,
        source_index=frame,
        time_s=frame / FPS,
        size_px=SIZE_PX,
        counts=counts.decode("ascii"),
        state=state,
    )


def masks() -> Masks:
    """Discs on the points of `tracks`; the dog lies partly on the red car in frames 0 to 10."""
    found = []
    for frame in range(16):
        state: State = "observed" if frame in LOOKED_AT else "propagated"
        found.append(mask(1, frame, disc(5 + frame, 10, 6.2), state))
        if frame not in (5,) and frame <= 10:
            found.append(mask(2, frame, disc(10 + frame, 12, 3.4), state))
    found.sort(key=lambda one: (one.source_index, one.object_id))
    return Masks(
        masks=tuple(found),
        labels={1: LABELS[1], 2: LABELS[2]},
        segmenter="discs",
        receipt=receipt(),
    )


def points_on_pictures() -> Points:
    """Five mugs on two of three pictures."""
    places = [(1, 0, 3.5, 4.0), (2, 0, 10.0, 8.25), (3, 2, 1.0, 2.0), (4, 2, 40.0, 30.0), (5, 2, 0.0, 0.0)]
    sizes = ((48, 32), (20, 30), (50, 40))
    points = tuple(
        Point(
            object_id=object_id,
            x_px=x,
            y_px=y,
            x_norm=x / sizes[picture][0],
            y_norm=y / sizes[picture][1],
            source_index=picture,
            label="mug",
        )
        for object_id, picture, x, y in places
    )
    return Points(
        points=points,
        receipt=receipt(
            task="point",
            source="3 images",
            frame_times_s=(),
            shown_times_s=(),
            frame_source_indices=(0, 1, 2),
            sizes_px=sizes,
            source_fps=None,
        ),
    )

"""Results as objects of Roboflow's supervision, one picture at a time: `KeyPoints` and `Detections`.

What the model does not say is not made up: both come without confidence. Object ids, labels and states ride
along in `data`, one entry an object: `class_name`, `state`, `source_index`, `time_s` (NaN for pictures), and
in key points, which have no field for it, `tracker_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molmo2_ground.results import Count, Mask, Masks, Points, State, Tracks

if TYPE_CHECKING:
    import supervision as sv

Placed = Points | Tracks | Count

DEFAULT_RADIUS_PX = 10.0
# supervision reads a key point at exactly (0, 0) as "missing". So far is one in that corner moved, both ways.
NUDGE_PX = 1 / 1024
_SAME_TIME_S = 0.05  # as in `Tracks.at`


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One object in one picture: a place, or a mask."""

    object_id: int
    label: str
    source_index: int
    time_s: float | None
    state: State
    x_px: float = 0.0
    y_px: float = 0.0
    mask: Mask | None = None


def to_key_points(
    result: Placed,
    *,
    source_index: int | None = None,
    time_s: float | None = None,
    class_names: Sequence[str] | None = None,
) -> sv.KeyPoints:
    """`sv.KeyPoints` of one picture: an object is a skeleton of one key point.

    source_index, time_s: which frame or image, by its number or as the nearest within 0.05 s; may be left out
    when the result has places in one picture only. class_names: the classes in order of their ids; without
    it the result's own labels, sorted, so that a class keeps its id in all pictures of one result.
    A place at (0, 0), which supervision takes for missing, is moved by `NUDGE_PX`.
    Raises `ValueError` when it is not clear which picture is meant, or for a label that is not a class.
    """
    import supervision as sv

    every = list(_entries(result))
    entries = _in_one_picture(every, source_index=source_index, time_s=time_s)
    xy = np.array([(e.x_px, e.y_px) for e in entries], dtype=np.float32).reshape(-1, 1, 2)
    # After rounding to float32: what is nearly nothing becomes nothing there.
    xy[(xy == 0).all(axis=2)] = NUDGE_PX
    data = _data(entries)
    data["tracker_id"] = np.array([e.object_id for e in entries], dtype=np.int64)
    return sv.KeyPoints(xy=xy, class_id=_class_ids(entries, every, class_names), data=data)


def to_detections(
    result: Placed | Masks,
    *,
    radius_px: float = DEFAULT_RADIUS_PX,
    source_index: int | None = None,
    time_s: float | None = None,
    class_names: Sequence[str] | None = None,
) -> sv.Detections:
    """`sv.Detections` of one picture, with object ids as `tracker_id`.

    Masks give their real boxes and bool[n, height, width]; an object whose mask has no pixel has no box and
    is left out. A point is no box: it becomes a square of `radius_px` pixels to each side around the point,
    not cut at the rim so that its centre stays the point, and `metadata["radius_px"]` says so.
    Other arguments and errors as of `to_key_points`; `ValueError` also for a radius of 0 or less.
    """
    import supervision as sv

    if not radius_px > 0:
        raise ValueError(f"radius_px must be above 0; got {radius_px}")
    every = list(_entries(result))
    entries = _in_one_picture(every, source_index=source_index, time_s=time_s)
    boxes: list[tuple[float, float, float, float]] = []
    masks = None
    metadata: dict[str, Any] = {}
    if isinstance(result, Masks):
        boxed = [(e, e.mask, e.mask.box_px) for e in entries if e.mask is not None]
        entries = [entry for entry, _, box in boxed if box is not None]
        boxes = [box for _, _, box in boxed if box is not None]
        dense = [mask.dense() for _, mask, box in boxed if box is not None]
        masks = np.stack(dense) if dense else None
    else:
        r = radius_px
        boxes = [(e.x_px - r, e.y_px - r, e.x_px + r, e.y_px + r) for e in entries]
        metadata["radius_px"] = float(radius_px)
    return sv.Detections(
        xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        mask=masks,
        class_id=_class_ids(entries, every, class_names),
        tracker_id=np.array([e.object_id for e in entries], dtype=np.int64),
        data=_data(entries),
        metadata=metadata,
    )


def _entries(result: Placed | Masks) -> Iterator[_Entry]:
    """Everything that the result holds, in its order."""
    if isinstance(result, Masks):
        for mask in result:
            yield _Entry(
                object_id=mask.object_id,
                label=result.labels[mask.object_id],
                source_index=mask.source_index,
                time_s=mask.time_s,
                state=mask.state,
                mask=mask,
            )
    elif isinstance(result, Tracks):
        for track in result:
            for sample in track.samples:
                yield _Entry(
                    object_id=track.object_id,
                    label=track.label,
                    source_index=sample.source_index,
                    time_s=sample.time_s,
                    state=sample.state,
                    x_px=sample.x_px,
                    y_px=sample.y_px,
                )
    else:
        for point in result.points if isinstance(result, Count) else result:
            yield _Entry(
                object_id=point.object_id,
                label=point.label,
                source_index=point.source_index,
                time_s=point.time_s,
                state=point.state,
                x_px=point.x_px,
                y_px=point.y_px,
            )


def _in_one_picture(
    every: Sequence[_Entry], *, source_index: int | None, time_s: float | None
) -> list[_Entry]:
    """Those of the picture that is meant; none when nothing was found in it."""
    if source_index is not None and time_s is not None:
        raise ValueError("a picture is named by source_index or by time_s; got both")
    if time_s is not None:
        timed = [(abs(e.time_s - time_s), e.source_index) for e in every if e.time_s is not None]
        apart_s, source_index = min(timed, default=(float("inf"), -1))
        if apart_s > _SAME_TIME_S:
            return []
    elif source_index is None:
        pictures = sorted({e.source_index for e in every})
        if len(pictures) > 1:
            raise ValueError(
                f"supervision holds one picture at a time, and this result has places in {len(pictures)}: "
                f"name one by source_index (from {pictures[0]} to {pictures[-1]}) or time_s"
            )
        return list(every)
    return [e for e in every if e.source_index == source_index]


def _class_ids(
    entries: Iterable[_Entry], every: Iterable[_Entry], class_names: Sequence[str] | None
) -> npt.NDArray[np.int64]:
    names = sorted({e.label for e in every}) if class_names is None else list(class_names)
    numbers = {name: number for number, name in enumerate(names)}
    unknown = sorted({e.label for e in entries} - numbers.keys())
    if unknown:
        raise ValueError(f"expected labels among the class names {names}; got {unknown[0]!r}")
    return np.array([numbers[e.label] for e in entries], dtype=np.int64)


def _data(entries: Sequence[_Entry]) -> dict[str, Any]:
    """Arrays with one entry an object, also for none: supervision joins pictures by their names."""
    times_s = [np.nan if e.time_s is None else e.time_s for e in entries]
    return {
        "class_name": np.array([e.label for e in entries], dtype=str),
        "state": np.array([e.state for e in entries], dtype=str),
        "source_index": np.array([e.source_index for e in entries], dtype=np.int64),
        "time_s": np.array(times_s, dtype=np.float64),
    }

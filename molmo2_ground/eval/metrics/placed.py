"""`Placed`, one predicted place as the metrics see it, and how a result is read into places or a number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molmo2_ground.results import Count, Point, Points, Receipt, Sample, Tracks

if TYPE_CHECKING:
    from molmo2_ground.eval.example import Result
    from molmo2_ground.rle import Rle


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One place that the model named.

    source_index  number of the frame in its file, of the image in its list.
    time_s        seconds, the frame's own; None for a still image.
    shown_time_s  the time that the model was told for this frame and that its text names; it differs from
                  `time_s` by less than a frame. None when unknown: `time_s` is used then.
    """

    object_id: int
    x_px: float
    y_px: float
    source_index: int = 0
    time_s: float | None = None
    shown_time_s: float | None = None

    @property
    def named_time_s(self) -> float | None:
        """The time in the model's text, the frame's own when that is not known."""
        return self.time_s if self.shown_time_s is None else self.shown_time_s

    def lies_in(self, mask: Rle | None, *, reference_compat: bool = False) -> bool:
        """True when this place is on a pixel of the mask; never for no mask.

        A coordinate is a place on the picture, whose first pixel reaches from 0 to 1, so it lies in the
        pixel of its whole part, and the picture's far edge belongs to the last pixel. The released
        evaluator rounds instead, half a pixel off, and takes the far edge as outside.
        """
        if mask is None:
            return False
        if reference_compat:
            return mask.covers(round(self.x_px), round(self.y_px))
        height, width = mask.size_hw
        if not (0 <= self.x_px <= width and 0 <= self.y_px <= height):
            return False
        return mask.covers(min(int(self.x_px), width - 1), min(int(self.y_px), height - 1))


def placed_at(
    xy_px: npt.ArrayLike,
    *,
    object_ids: Sequence[int] | npt.NDArray[np.integer] | None = None,
    times_s: Sequence[float] | npt.NDArray[np.floating] | None = None,
    source_indices: Sequence[int] | npt.NDArray[np.integer] | None = None,
) -> tuple[Placed, ...]:
    """Places from arrays, for predictions that no grounder made.

    xy_px           float[n, 2], pixels (x, y); (0, 0) is the outer corner of the top left one.
    object_ids      int[n], which object each is; without it 1, 2, ..., one an object.
    times_s         float[n], seconds; None for still images.
    source_indices  int[n], number of the frame, or of the image in its list, from 0; 0 without it.
    """
    places = np.asarray(xy_px, dtype=np.float64)
    if not places.size:
        return ()
    if places.ndim != 2 or places.shape[1] != 2:
        raise ValueError(f"places are float[n, 2], (x, y) in pixels; got shape {list(places.shape)}")
    count = len(places)
    given = {"object_ids": object_ids, "times_s": times_s, "source_indices": source_indices}
    for name, values in given.items():
        if values is not None and len(values) != count:
            raise ValueError(f"there are {count} places; {name} has {len(values)} values")
    return tuple(
        Placed(
            object_id=i + 1 if object_ids is None else int(object_ids[i]),
            x_px=float(places[i, 0]),
            y_px=float(places[i, 1]),
            source_index=0 if source_indices is None else int(source_indices[i]),
            time_s=None if times_s is None else float(times_s[i]),
        )
        for i in range(count)
    )


def placed_of(found: Result | Iterable[Placed] | None) -> tuple[Placed, ...]:
    """Every place in a result, in its order; none when the answer could not be read (`None`).

    Places themselves are passed on, so that each metric takes either.
    """
    if found is None:
        return ()
    if not isinstance(found, Points | Tracks | Count):
        places = tuple(found)
        for place in places:
            if not isinstance(place, Placed):
                raise ValueError(
                    f"expected a result of a grounder or places; got {type(place).__name__}: "
                    "placed_at makes places from arrays"
                )
        return places
    shown_s = _shown_times(found.receipt)
    if isinstance(found, Tracks):
        return tuple(_placed(track.object_id, sample, shown_s) for track in found for sample in track.samples)
    points = found.points if isinstance(found, Count) else found
    assert isinstance(points, Points)
    return tuple(_placed(point.object_id, point, shown_s) for point in points)


def counted(result: Result | None, *, reference_compat: bool = False) -> int | None:
    """The number that a result stands for, None when the answer could not be read.

    The released evaluator of video counting reads the number in the text alone, and its pattern for "none"
    never matches: with `reference_compat` an answer without a number is unreadable.
    """
    if result is None:
        return None
    if isinstance(result, Count):
        return result.stated if reference_compat else result.value
    return len(result)


def _placed(object_id: int, place: Point | Sample, shown_s: dict[int, float]) -> Placed:
    return Placed(
        object_id=object_id,
        x_px=place.x_px,
        y_px=place.y_px,
        source_index=place.source_index,
        time_s=place.time_s,
        shown_time_s=shown_s.get(place.source_index),
    )


def _shown_times(receipt: Receipt) -> dict[int, float]:
    """Shown time by number of the frame; the first where one frame was shown for two times."""
    if len(receipt.shown_times_s) != len(receipt.frame_source_indices):
        return {}
    pairs = zip(receipt.frame_source_indices, receipt.shown_times_s, strict=True)
    shown: dict[int, float] = {}
    for source_index, time_s in pairs:
        shown.setdefault(source_index, time_s)
    return shown

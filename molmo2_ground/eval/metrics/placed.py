"""`Placed`, one predicted place as the metrics see it, and how a result is read into places or a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molmo2_ground.results import Count, Point, Points, Receipt, Sample, Tracks

if TYPE_CHECKING:
    from molmo2_ground.eval.example import Result
    from molmo2_ground.masks import Rle


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


def placed_of(result: Result | None) -> tuple[Placed, ...]:
    """Every place in a result, in its order; none when the answer could not be read (`None`)."""
    if result is None:
        return ()
    shown_s = _shown_times(result.receipt)
    if isinstance(result, Tracks):
        return tuple(
            _placed(track.object_id, sample, shown_s) for track in result for sample in track.samples
        )
    points = result.points if isinstance(result, Count) else result
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

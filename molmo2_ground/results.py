"""What a question brings back: typed places in space and time, with the receipt of how they were found.

Pixels refer to the source picture as a player shows it: x to the right, y down, (0, 0) the outer corner of
the top left pixel, (width, height) the outer corner of the bottom right one. Seconds count from the first
frame of the video. All models are frozen and survive `model_validate_json(model_dump_json())` unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

State = Literal["observed", "propagated", "interpolated", "predicted"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rejected(_Value):
    """A piece of the answer that was left out, and why."""

    text: str
    reason: str


class ParseReport(_Value):
    """What reading the answer left out; clean when nothing was rejected, truncated or cut."""

    rejected: tuple[Rejected, ...] = ()
    truncated: bool = False
    repeats_cut: int = 0

    @property
    def clean(self) -> bool:
        """True when every piece of the answer was used."""
        return not (self.rejected or self.truncated or self.repeats_cut)


class Receipt(_Value):
    """How a result came about: enough to derive it again without the model (`molmo2-ground replay`).

    size_px      (width, height) of the first picture as a player shows it, pixels.
    sizes_px     one size a picture when they differ (a list of images); empty when all are `size_px`.
    max_objects  the limit that was asked for, None for none; replay needs it to leave out the same objects.
    windows      one receipt a window when the video was longer than the model can see at once.
    cut_runaways whether places that a model writes in circles are left out (`molmo2_ground.runaway`).
    notes        what a reader should know: a cap that was hit, frames that were left out.
    joins        for each object of each later window, which object of the video it is taken for, and why.
    """

    schema_version: int = 1
    task: str
    query: str
    model_id: str
    revision: str | None = None
    backend: str
    recipe: str
    prompt: str
    raw_text: str
    stop_reason: str
    source: str
    frame_times_s: tuple[float, ...]
    shown_times_s: tuple[float, ...]
    frame_source_indices: tuple[int, ...]
    size_px: tuple[int, int]
    sizes_px: tuple[tuple[int, int], ...] = ()
    source_fps: float | None = None
    max_objects: int | None = None
    cut_runaways: bool = True
    lost: tuple[str, ...] = ()
    report: ParseReport = ParseReport()
    timings_ms: dict[str, float] = {}
    tokens_in: int = 0
    tokens_out: int = 0
    forwards: int = 0
    windows: tuple[Receipt, ...] = ()
    notes: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()


class Point(_Value):
    """One place: in pixels of its picture, and the same as a share of the width and height."""

    object_id: int
    x_px: float
    y_px: float
    x_norm: float
    y_norm: float
    time_s: float | None = None
    source_index: int
    label: str
    state: State = "observed"


class Sample(_Value):
    """Where one object is at one time."""

    time_s: float
    source_index: int
    x_px: float
    y_px: float
    x_norm: float
    y_norm: float
    state: State = "observed"


class Points(_Value):
    """Places in the order the model gave them; a sequence of `Point`."""

    points: tuple[Point, ...]
    receipt: Receipt

    @property
    def xy_px(self) -> npt.NDArray[np.float64]:
        """float64[n, 2]: x and y in pixels."""
        return np.array([(p.x_px, p.y_px) for p in self.points], dtype=np.float64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Point]:  # type: ignore[override]  # a sequence of points, not of fields
        return iter(self.points)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Point, ...]: ...
    def __getitem__(self, index: int | slice) -> Point | tuple[Point, ...]:
        return self.points[index]


class Track(_Value):
    """One object over time: samples in order of time, none where the model did not see it."""

    object_id: int
    label: str
    samples: tuple[Sample, ...]

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        """float64[n]: seconds, rising."""
        return np.array([s.time_s for s in self.samples], dtype=np.float64)

    @property
    def xy_px(self) -> npt.NDArray[np.float64]:
        """float64[n, 2]: x and y in pixels."""
        return np.array([(s.x_px, s.y_px) for s in self.samples], dtype=np.float64).reshape(-1, 2)

    @property
    def first(self) -> Sample:
        """The earliest sample."""
        return self.samples[0]

    @property
    def last(self) -> Sample:
        """The latest sample."""
        return self.samples[-1]

    def at(self, time_s: float, *, tolerance_s: float = 0.05) -> Sample | None:
        """The sample nearest to `time_s`, or None when none lies within `tolerance_s` seconds."""
        best = min(self.samples, key=lambda s: abs(s.time_s - time_s), default=None)
        return best if best is not None and abs(best.time_s - time_s) <= tolerance_s else None


class Tracks(_Value):
    """Objects over time; a sequence of `Track`, by object id."""

    tracks: tuple[Track, ...]
    receipt: Receipt

    def at(self, time_s: float, *, tolerance_s: float = 0.05) -> Points:
        """Every object's place at `time_s`, for those that have a sample within `tolerance_s` seconds."""
        found = []
        for track in self.tracks:
            sample = track.at(time_s, tolerance_s=tolerance_s)
            if sample is not None:
                fields: dict[str, Any] = sample.model_dump()
                found.append(Point(object_id=track.object_id, label=track.label, **fields))
        return Points(points=tuple(found), receipt=self.receipt)

    def __len__(self) -> int:
        return len(self.tracks)

    def __iter__(self) -> Iterator[Track]:  # type: ignore[override]  # a sequence of tracks, not of fields
        return iter(self.tracks)

    @overload
    def __getitem__(self, index: int) -> Track: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Track, ...]: ...
    def __getitem__(self, index: int | slice) -> Track | tuple[Track, ...]:
        return self.tracks[index]


class Count(_Value):
    """How many, with the places that were counted.

    value   len(points) whenever the model pointed, else the number it wrote.
    stated  the number in the model's text, None when it wrote none.
    """

    value: int
    stated: int | None
    points: Points

    @property
    def agrees(self) -> bool:
        """True unless the number in the text differs from the number of points."""
        return self.stated is None or self.stated == self.value

    @property
    def receipt(self) -> Receipt:
        """How the count came about."""
        return self.points.receipt

    def __int__(self) -> int:
        return self.value


class Answer(_Value):
    """Free text, with any points or tracks that it contains."""

    text: str
    points: Points | None = None
    tracks: Tracks | None = None
    receipt: Receipt

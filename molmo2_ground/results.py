"""What a question brings back: typed places in space and time, with the receipt of how they were found.

Pixels refer to the source picture as a player shows it: x to the right, y down, (0, 0) the outer corner of
the top left pixel, (width, height) the outer corner of the bottom right one. Seconds count from the first
frame of the video. All models are frozen and survive `model_validate_json(model_dump_json())` unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from molmo2_ground._wanted import Wanted
from molmo2_ground.rle import Rle

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon

State = Literal["observed", "propagated", "interpolated", "predicted"]


@lru_cache(maxsize=1024)
def _one_set(names: frozenset[str]) -> set[str]:
    return set(names)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def model_post_init(self, context: Any, /) -> None:
        """Share the names of the given fields: a set for each sample is more than half of its memory."""
        given = _one_set(frozenset(self.model_fields_set))
        object.__setattr__(self, "__pydantic_fields_set__", given)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; what was worked out from the old fields is left behind."""
        copied = super().model_copy(update=update, deep=deep)
        for name in set(copied.__dict__) - set(type(self).model_fields):
            del copied.__dict__[name]
        copied.model_post_init(None)
        return copied


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

    @property
    def observed(self) -> Tracks:
        """What the model itself said: the tracks without the samples that were carried or filled in."""
        seen = (
            track.model_copy(update={"samples": tuple(s for s in track.samples if s.state == "observed")})
            for track in self.tracks
        )
        return self.model_copy(update={"tracks": tuple(track for track in seen if track.samples)})

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


MaskFlag = Literal["area_jump", "point_outside", "covers_frame"]


class Mask(_Value):
    """Which pixels of one picture belong to one object.

    time_s  the frame's time, seconds; None for a still image.
    size_px (width, height) of the picture as a player shows it, pixels.
    counts  the runs of a COCO run-length mask, compressed (`Rle`).
    state   `observed`: the model pointed to the object in this very frame; `propagated`: carried here from
            a frame in which it did.
    flags   why the mask is not to be trusted (empty: nothing speaks against it): `area_jump`, its area left
            what it was before by more than a stated factor; `point_outside`, it does not hold the model's
            point; `covers_frame`, it covers most of the picture. Where point and mask disagree, believe
            the point.
    """

    object_id: int
    source_index: int
    time_s: float | None = None
    size_px: tuple[int, int]
    counts: str
    state: State = "observed"
    flags: tuple[MaskFlag, ...] = ()

    @cached_property
    def rle(self) -> Rle:
        """The runs."""
        width_px, height_px = self.size_px
        return Rle(size_hw=(height_px, width_px), counts=self.counts.encode("ascii"))

    @property
    def area_px(self) -> int:
        """How many pixels belong to the object."""
        return self.rle.area_px

    @property
    def box_px(self) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom), outer corners of pixels; None for an empty mask."""
        return self.rle.box_px

    def dense(self) -> npt.NDArray[np.bool_]:
        """bool[height, width], True on the object."""
        return self.rle.decode()

    def boundary(self) -> npt.NDArray[np.bool_]:
        """bool[height, width]: the object's pixels that touch, side by side, one that is not its own.

        The rim of the picture counts as not its own.
        """
        mask = self.dense()
        around = np.pad(mask, 1)
        inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
        return mask & ~inner

    def polygon(self) -> MultiPolygon:
        """The outline as shapely polygons with their holes, along the pixels' edges, pixels."""
        from molmo2_ground.outline import polygon_of

        return polygon_of(self.dense())


class Masks(_Value):
    """Pixels of objects, picture by picture; a sequence of `Mask`, by frame and then by object id.

    labels     what each object is called, by id.
    segmenter  what made the masks, and with which weights.
    receipt    how the points came about that they were made from.
    notes      what a reader should know: where an object was lost, and why.
    """

    masks: tuple[Mask, ...]
    labels: dict[int, str]
    segmenter: str
    receipt: Receipt
    notes: tuple[str, ...] = ()

    @cached_property
    def _by_place(self) -> dict[tuple[int, int], Mask]:
        return {(mask.object_id, mask.source_index): mask for mask in self.masks}

    @cached_property
    def _by_frame(self) -> dict[int, tuple[Mask, ...]]:
        frames: dict[int, list[Mask]] = {}
        for mask in self.masks:
            frames.setdefault(mask.source_index, []).append(mask)
        return {index: tuple(masks) for index, masks in frames.items()}

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects, rising; also those of which no pixel was found."""
        return tuple(sorted(self.labels))

    @property
    def source_indices(self) -> tuple[int, ...]:
        """The frames in which at least one object has a mask, rising."""
        return tuple(sorted(self._by_frame))

    @property
    def observed(self) -> Masks:
        """The masks of the frames in which the model itself pointed to their object."""
        return self.model_copy(update={"masks": tuple(m for m in self.masks if m.state == "observed")})

    def in_frame(self, source_index: int) -> tuple[Mask, ...]:
        """Every object's mask in this frame (number in the file, or of the image), by object id."""
        return self._by_frame.get(source_index, ())

    def of(self, object_id: int) -> tuple[Mask, ...]:
        """One object's masks in order of time. Raises `ValueError` for an object that is not among these."""
        self._check(object_id)
        return tuple(mask for mask in self.masks if mask.object_id == object_id)

    def get(self, object_id: int, source_index: int) -> Mask | None:
        """One object's mask in one frame, None where it has none."""
        return self._by_place.get((object_id, source_index))

    def dense(self, object_id: int, source_index: int) -> npt.NDArray[np.bool_]:
        """bool[height, width], all False where the object has no mask in this frame.

        Raises `ValueError` for an object that is not among these.
        """
        self._check(object_id)
        mask = self.get(object_id, source_index)
        if mask is not None:
            return mask.dense()
        width_px, height_px = self.size_px(source_index)
        return np.zeros((height_px, width_px), dtype=bool)

    def union(self, source_index: int) -> npt.NDArray[np.bool_]:
        """bool[height, width]: the pixels of any object in this frame."""
        width_px, height_px = self.size_px(source_index)
        covered = np.zeros((height_px, width_px), dtype=bool)
        for mask in self.in_frame(source_index):
            covered |= mask.dense()
        return covered

    def iou(self, other: Masks, object_id: int, source_index: int) -> float:
        """How well one object's masks in a frame agree: shared over covered pixels, 0 to 1.

        1 where neither has a mask, 0 where only one has.
        """
        mine, theirs = self.get(object_id, source_index), other.get(object_id, source_index)
        if mine is None or theirs is None:
            return 1.0 if mine is theirs else 0.0
        return mine.rle.iou(theirs.rle)

    def size_px(self, source_index: int) -> tuple[int, int]:
        """(width, height) of a frame or image, pixels."""
        found = self.in_frame(source_index)
        if found:
            return found[0].size_px
        sizes = self.receipt.sizes_px
        if 0 <= source_index < len(sizes):
            return sizes[source_index]
        return self.receipt.size_px

    def _check(self, object_id: int) -> None:
        if object_id not in self.labels:
            known = ", ".join(map(str, self.object_ids)) or "none"
            raise ValueError(f"object {object_id} is not among these masks; they hold: {known}")

    def __len__(self) -> int:
        return len(self.masks)

    def __iter__(self) -> Iterator[Mask]:  # type: ignore[override]  # a sequence of masks, not of fields
        return iter(self.masks)

    @overload
    def __getitem__(self, index: int) -> Mask: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Mask, ...]: ...
    def __getitem__(self, index: int | slice) -> Mask | tuple[Mask, ...]:
        return self.masks[index]


RESULT = Wanted("Points, Tracks, a Count or an Answer", (Points, Tracks, Count, Answer))
TRACKS, MASKS = Wanted("Tracks", (Tracks,)), Wanted("Masks", (Masks,))
"""What is checked where a result is handed in."""

"""`MarkedMedia`: one video or some pictures, with everything that is marked in them; what all formats share.

A result becomes one on its way to a file, and a file of annotations on its way to a result. Frames are
numbered as the file counts them, from 0 (`source_index`); pixels are those of the picture as a player shows
it, (0, 0) the outer corner of the top left one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal, get_args

from molmo2_ground._amount import amount
from molmo2_ground._wanted import WHOLE, WORDS, Wanted
from molmo2_ground.results import MASKS, Answer, Count, Mask, MaskFlag, Masks, Points, Receipt, State, Tracks
from molmo2_ground.rle import Rle

Box = tuple[float, float, float, float]
Exportable = Points | Tracks | Count | Answer | Masks
_EXPORTABLE = Wanted("Points, Tracks, a Count, an Answer or Masks", get_args(Exportable))

TO_THE_END = 1 << 31
_FURTHEST = 1e9

_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Where one object is in one frame or picture: a point, a box, a mask, or several of them.

    frame     number of the frame in its file, or of the picture, from 0.
    time_s    the frame's time, seconds; None for pictures, and where a file of annotations has frames alone.
    box_px    (left, top, right, bottom), pixels.
    occluded  the file of annotations says that something hides it, in part or altogether.
    until     the frame up to which the annotation tool goes on showing it, moving in a straight line where
              its object is marked there again; None: in its own frame alone; `TO_THE_END`.
    """

    object_id: int
    label: str
    frame: int
    time_s: float | None = None
    state: State = "observed"
    occluded: bool = False
    point_px: tuple[float, float] | None = None
    box_px: Box | None = None
    mask: Rle | None = None
    flags: tuple[MaskFlag, ...] = ()
    until: int | None = None

    def __post_init__(self) -> None:
        places = (
            *(self.point_px or ()),
            *(self.box_px or ()),
            *(() if self.time_s is None else (self.time_s,)),
        )
        if not all(abs(value) < _FURTHEST for value in places):  # also for what is no number
            raise ValueError(f"a place or time in frame {self.frame} is no number of pixels or seconds")

    def extent_px(self, radius_px: float | None = None) -> Box | None:
        """The box of its mask, else its own, else the square of this radius around its point, else None.

        A square around a point is not cut at the edges of the picture, so its middle is the point.
        """
        if self.mask is not None:
            box = self.mask.box_px
            return None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
        if self.box_px is not None or self.point_px is None or radius_px is None:
            return self.box_px
        x, y = self.point_px
        return x - radius_px, y - radius_px, x + radius_px, y + radius_px


@dataclass(frozen=True, kw_only=True)
class MarkedMedia:
    """One video or some pictures, and what is marked in them.

    name         the file's name, or what was handed in, in words.
    image_names  of pictures: one name each where they are known.
    size_px      (width, height) of all frames; sizes_px one size a picture where they differ.
    frames       the frames about which something is known, rising: those that were looked at and those with
                 marks. A frame among them without a mark of an object does not show that object.
    times_s      seconds of frames, as far as they are known.
    frame_count  frames of the file, None when unknown.
    marks        by frame and then by object; one a frame and object.
    made_by      what made the marks: a model's id, or `annotation`.
    percent      places are percents of a picture whose size is not known, and size_px is (100, 100).
    left_out     what could not be taken over, one line each.
    """

    name: str
    kind: Literal["video", "images"]
    size_px: tuple[int, int]
    marks: tuple[Mark, ...]
    frames: tuple[int, ...]
    sizes_px: tuple[tuple[int, int], ...] = ()
    image_names: tuple[str, ...] = ()
    fps: float | None = None
    times_s: Mapping[int, float] = field(default_factory=dict)
    frame_count: int | None = None
    made_by: str = "annotation"
    percent: bool = False
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: set[tuple[int, int]] = set()
        for mark in self.marks:
            place = mark.frame, mark.object_id
            if place in seen:
                raise ValueError(f"object {mark.object_id} is marked twice in frame {mark.frame}")
            seen.add(place)
            if not (0 <= mark.frame < TO_THE_END and mark.object_id >= 0):
                raise ValueError(
                    f"frames and objects are numbered from 0 on; got frame {mark.frame} and object "
                    f"{mark.object_id}"
                )
        if self.fps is not None and not 0 < self.fps < _FURTHEST:
            raise ValueError(f"{self.name}: a rate is above 0 frames a second; got {self.fps:g}")
        if self.frame_count is not None and not 0 < self.frame_count < TO_THE_END:
            raise ValueError(f"{self.name}: a video has frames; got {self.frame_count}")

    def check_settled(self) -> None:
        """Raises `ValueError` when the size is not known, so that places are no pixels yet."""
        if self.percent or (0, 0) in {self.size_of(mark.frame) for mark in self.marks}:
            raise ValueError(
                f"{self.name}: how large its pictures are is not known; settle it first (`settled`)"
            )

    @cached_property
    def labels(self) -> dict[int, str]:
        """What each object is called, by number, rising."""
        return {mark.object_id: mark.label for mark in sorted(self.marks, key=lambda mark: mark.object_id)}

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The different labels, in order of the alphabet."""
        return tuple(sorted({mark.label for mark in self.marks}))

    @property
    def length(self) -> int:
        """Frames of the file; where that is unknown, up to the last frame about which something is known."""
        return self.frame_count or (max(self.frames) + 1 if self.frames else 1)

    @property
    def stem(self) -> str:
        """A name for files and folders: the source's without suffix, of letters, digits, `-`, `.` and `_`."""
        name = _UNSAFE.sub("_", PurePosixPath(self.name.replace("\\", "/")).name.rsplit(".", 1)[0])
        return name.strip("._")[:100] or self.kind

    def size_of(self, frame: int) -> tuple[int, int]:
        """(width, height) of a frame or picture, pixels."""
        return self.sizes_px[frame] if 0 <= frame < len(self.sizes_px) else self.size_px

    def file_of(self, frame: int) -> str:
        """The name of a frame as a picture: `street/00015.jpg`, or the name of the picture itself."""
        if self.kind == "images":
            if frame < len(self.image_names):
                return self.image_names[frame]
            return self.name if self.length == 1 else f"{self.stem}/{frame:05d}.jpg"
        return f"{self.stem}/{frame:05d}.jpg"

    def time_of(self, frame: int) -> float | None:
        """Seconds of a frame: as it is known, else by the frame rate, else None."""
        if frame in self.times_s:
            return self.times_s[frame]
        return frame / self.fps if self.fps and self.kind == "video" else None

    def of(self, object_id: int) -> tuple[Mark, ...]:
        """One object's marks in order of time."""
        return self._by_object.get(object_id, ())

    def in_frame(self, frame: int) -> tuple[Mark, ...]:
        """Every object's mark in a frame."""
        return self._by_frame.get(frame, ())

    def next_frame(self, frame: int) -> int | None:
        """The next frame about which something is known."""
        return self._next.get(frame)

    @cached_property
    def _next(self) -> dict[int, int]:
        return dict(zip(self.frames, self.frames[1:], strict=False))

    @cached_property
    def _by_object(self) -> dict[int, tuple[Mark, ...]]:
        return _grouped(self.marks, [mark.object_id for mark in self.marks])

    @cached_property
    def _by_frame(self) -> dict[int, tuple[Mark, ...]]:
        return _grouped(self.marks, [mark.frame for mark in self.marks])


def marks_of(
    result: Exportable,
    *,
    masks: Masks | None = None,
    frame_count: int | None = None,
    image_names: Sequence[str] = (),
) -> MarkedMedia:
    """What a result marks, with the masks that were made from it beside its points.

    An answer's points and tracks are different objects: the points are numbered after the tracks.
    frame_count: frames of the video, where somebody has read it. image_names: what the pictures are called.
    Raises `ValueError` for masks of other pictures, two places of one object in one frame, or frames beyond
    the video's.
    """
    _EXPORTABLE.check("result", result)
    MASKS.or_nothing().check("masks", masks)
    WHOLE.or_nothing().check("frame_count", frame_count)
    if isinstance(result, Masks):
        if masks is not None:
            raise ValueError("masks were given twice; expected a result and the masks made from it")
        points: list[Mark] = []
        masks = result
    else:
        points = list(_point_marks(result))
    receipt = result.receipt
    if masks is not None and (masks.receipt.size_px, masks.receipt.sizes_px) != (
        receipt.size_px,
        receipt.sizes_px,
    ):
        raise ValueError(
            f"the masks are of pictures of {masks.receipt.size_px} pixels and the result is of "
            f"{receipt.size_px}; give the masks that were made from this result"
        )
    found = {(mark.frame, mark.object_id): mark for mark in points}
    labels = {} if masks is None else masks.labels
    for mask in masks or ():
        place = mask.source_index, mask.object_id
        found[place] = _with_mask(found.get(place), mask, labels.get(mask.object_id, ""))
    missing = sorted(set(labels) - {object_id for _, object_id in found})
    left_out = tuple(f"object {object_id}: nothing of it was found" for object_id in missing)
    marks = tuple(found[place] for place in sorted(found))
    media = _media_of(receipt, marks, frame_count=frame_count)
    return replace(media, left_out=left_out, image_names=WORDS.all_of("image_names", image_names))


def _media_of(receipt: Receipt, marks: tuple[Mark, ...], *, frame_count: int | None) -> MarkedMedia:
    looked_at = dict(zip(receipt.frame_source_indices, receipt.frame_times_s, strict=False))
    times_s = looked_at | {mark.frame: mark.time_s for mark in marks if mark.time_s is not None}
    video = bool(receipt.frame_times_s) or any(mark.time_s is not None for mark in marks)
    frames = sorted({*receipt.frame_source_indices, *(mark.frame for mark in marks)})
    if frame_count is not None and frames and frames[-1] >= frame_count:
        raise ValueError(
            f"the video of the result has {amount(frame_count, 'frame')}, and the result goes up to frame "
            f"{frames[-1]}, counted from 0; say how many frames the video that was asked about has"
        )
    if frames and any(mark.state != "observed" for mark in marks):
        # Whoever carries objects from frame to frame looks at all of them.
        carried = [mark.frame for mark in marks]
        frames = sorted({*frames, *range(min(carried), max(carried) + 1)})
    return MarkedMedia(
        name=receipt.source,
        kind="video" if video else "images",
        size_px=receipt.size_px,
        sizes_px=receipt.sizes_px,
        fps=receipt.source_fps,
        frames=tuple(frames),
        times_s=times_s,
        frame_count=frame_count,
        marks=marks,
        made_by=receipt.model_id,
    )


def _point_marks(result: Points | Tracks | Count | Answer) -> Iterator[Mark]:
    if isinstance(result, Tracks):
        marks = [
            Mark(
                object_id=track.object_id,
                label=track.label,
                frame=sample.source_index,
                time_s=sample.time_s,
                state=sample.state,
                point_px=(sample.x_px, sample.y_px),
            )
            for track in result
            for sample in track.samples
        ]
        yield from _one_a_place(marks)
    elif isinstance(result, Points):
        yield from _one_a_place(
            Mark(
                object_id=point.object_id,
                label=point.label,
                frame=point.source_index,
                time_s=point.time_s,
                state=point.state,
                point_px=(point.x_px, point.y_px),
            )
            for point in result
        )
    elif isinstance(result, Count):
        yield from _point_marks(result.points)
    else:
        tracks = list(_point_marks(result.tracks)) if result.tracks is not None else []
        yield from tracks
        shift = max((mark.object_id for mark in tracks), default=0)
        for mark in _point_marks(result.points) if result.points is not None else ():
            yield replace(mark, object_id=mark.object_id + shift)


def _one_a_place(marks: Iterable[Mark]) -> Iterator[Mark]:
    seen: set[tuple[int, int]] = set()
    for mark in marks:
        place = mark.frame, mark.object_id
        if place in seen:
            raise ValueError(f"object {mark.object_id} has two places in frame {mark.frame}; expected one")
        seen.add(place)
        yield mark


def _with_mask(mark: Mark | None, mask: Mask, label: str) -> Mark:
    if mark is not None:
        return replace(mark, mask=mask.rle, flags=mask.flags)
    return Mark(
        object_id=mask.object_id,
        label=label,
        frame=mask.source_index,
        time_s=mask.time_s,
        state=mask.state,
        mask=mask.rle,
        flags=mask.flags,
    )


def _grouped(marks: Sequence[Mark], keys: Sequence[int]) -> dict[int, tuple[Mark, ...]]:
    groups: dict[int, list[Mark]] = {}
    for key, mark in zip(keys, marks, strict=True):
        groups.setdefault(key, []).append(mark)
    return {key: tuple(group) for key, group in groups.items()}

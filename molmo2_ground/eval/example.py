"""What an evaluation is made of: `Example`s with their `Truth`, and the `Suite` that holds and scores them.

Pixels are those of the picture as a player shows it, (0, 0) the outer corner of the top left one; seconds
count from the first frame of the video. Scores are shares from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from molmo2_ground.eval.pace import OnProgress
from molmo2_ground.query import Query
from molmo2_ground.results import Count, Points, Tracks
from molmo2_ground.rle import Rle

Result = Points | Tracks | Count


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthFrame:
    """Where one object really is in one frame.

    time_s        seconds, the frame's own; None for a still image.
    source_index  number of the frame in its file, of the image in its list, from 0.
    xy_px         an annotated point on the object, None when there is none.
    mask          the object's visible pixels, None when the set has no masks.
    """

    time_s: float | None
    source_index: int
    xy_px: tuple[float, float] | None = None
    mask: Rle | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthObject:
    """One object asked for, in those frames in which it can be seen."""

    object_id: int
    frames: tuple[TruthFrame, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is right about one question.

    size_px        (width, height) of the picture, pixels.
    duration_s     length of the video in seconds, None for images.
    fps            the video's frame rate, frames a second; None for images or when unknown.
    count          how many objects there are; None when counting them is no part of the set.
    frame_times_s  every annotated time, also those at which no object can be seen; empty for images.
    """

    size_px: tuple[int, int]
    duration_s: float | None = None
    fps: float | None = None
    count: int | None = None
    objects: tuple[TruthObject, ...] = ()
    frame_times_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        ids = [item.object_id for item in self.objects]
        if len(set(ids)) != len(ids):
            twice = sorted({one for one in ids if ids.count(one) > 1})
            raise ValueError(f"each object has an id of its own; these came twice: {twice}")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"a frame rate is above 0; got {self.fps}")

    @classmethod
    def from_masks(
        cls,
        masks: Mapping[int, npt.NDArray[np.bool_ | np.integer[Any]]],
        *,
        times_s: Sequence[float] | npt.NDArray[np.floating] | None = None,
        duration_s: float | None = None,
        fps: float | None = None,
    ) -> Truth:
        """The truth that masks tell, from arrays.

        masks       by object id: bool[frames, height, width], empty where an object is hidden; for one
                    still image bool[height, width] will do.
        times_s     float[frames], seconds of each frame; None for still images.
        duration_s  length of the video, seconds; without it, the last frame lasts as long as the one before.

        Raises `ValueError` when arrays differ in size, or there is none: without objects, say
        `Truth(size_px=(width, height), frame_times_s=...)`.
        """
        films = {key: np.asarray(mask, dtype=bool) for key, mask in masks.items()}
        films = {key: film[None] if film.ndim == 2 else film for key, film in films.items()}
        shapes = {film.shape for film in films.values()}
        if len(shapes) != 1 or len(shape := next(iter(shapes))) != 3:
            raise ValueError(
                "masks are bool[frames, height, width], all of one shape; "
                f"got {sorted(list(one) for one in shapes) or 'none'}"
            )
        times = None if times_s is None else tuple(float(time_s) for time_s in times_s)
        if times is not None and len(times) != shape[0]:
            raise ValueError(f"there are {shape[0]} frames of masks and {len(times)} times")
        if times is not None and duration_s is None and len(times) > 1:
            duration_s = 2 * times[-1] - times[-2]
        objects = tuple(
            TruthObject(object_id=int(key), frames=_seen(film, times)) for key, film in films.items()
        )
        return cls(
            size_px=(shape[2], shape[1]),
            duration_s=duration_s,
            fps=fps,
            count=len(objects),
            objects=objects,
            frame_times_s=times or (),
        )


def _seen(film: npt.NDArray[np.bool_], times_s: tuple[float, ...] | None) -> tuple[TruthFrame, ...]:
    """The frames of bool[frames, height, width] in which the object shows."""
    return tuple(
        TruthFrame(
            time_s=None if times_s is None else times_s[index], source_index=index, mask=Rle.encode(pixels)
        )
        for index, pixels in enumerate(film)
        if pixels.any()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question about one source, with what is right.

    key    names the example within its suite, the same in every run.
    media  what is opened to answer it, unless `Suite.prepare` makes it.
    tags   what results are grouped by: category, objects, clip_s, size_share, occluded_share, ...
    """

    key: str
    media: str | Path
    query: Query
    truth: Truth
    tags: Mapping[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A bad row of a dataset, found before any model runs: which one, and why."""

    row: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a suite is asked, where that is part of its definition.

    max_frames      at most so many frames of a video are looked at; None leaves it to the model.
    max_new_tokens  an answer's longest form.
    max_crops       at most so many crops of a still image; None leaves it to the model.
    note            where these come from, for the report.
    """

    max_frames: int | None = None
    max_new_tokens: int = 2048
    temperature: float = 0.0
    max_crops: int | None = None
    note: str = ""


@runtime_checkable
class Suite(Protocol):
    """A set of examples with its own scores.

    headline  names of the scores to show first.
    """

    @property
    def name(self) -> str:
        """Short name, as on the command line."""

    @property
    def settings(self) -> Settings:
        """How its questions are asked."""

    @property
    def headline(self) -> tuple[str, ...]:
        """Names of the scores to show first."""

    def check(self, *, on_progress: OnProgress | None = None) -> tuple[Problem, ...]:
        """Look at every row without running a model; one problem for each that cannot be used.

        on_progress: told after each row.
        """

    def examples(self) -> Sequence[Example]:
        """The examples in a fixed order, bad rows left out."""

    def prepare(self, example: Example, folder: Path) -> Path:
        """The file to open for this example; a suite that makes its media writes them into `folder`."""

    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        """Scores of one answer by name; `result` is None when the answer could not be read."""

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Scores of the whole set from those of its examples."""


def mean_summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each score over the examples that have it: the `Suite.summary` of most sets."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(column) / len(column) for name, column in columns.items()}

"""`DatasetSuite`: every row of a folder of files is read and checked before any is asked about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.example import (
    Example,
    Problem,
    Result,
    Settings,
    Truth,
    TruthFrame,
    TruthObject,
    mean_summary,
)
from molmo2_ground.eval.metrics import (
    close_accuracy,
    count_accuracy,
    count_bins,
    counted,
    hota,
    placed_of,
    pooled_hota,
    pooled_matched,
    track_frames,
    track_scores,
)
from molmo2_ground.eval.pace import OnProgress, Pace
from molmo2_ground.eval.suites.media import Shelf
from molmo2_ground.eval.suites.records import BadRowError, Record, open_table
from molmo2_ground.rle import Rle

# What pooling adds up; their means say nothing.
_COUNTS = frozenset({"hits", "predicted", "wanted", "hota_tp", "hota_fn", "hota_fp"})
# The released evaluation settings: greedy, up to 384 frames, 24 crops of an image.
PAPER_FRAMES = 384
PAPER_CROPS = 24
# While a place a second is asked for, up to ten frames a second are shown (`sources.sampling.shown_rate`).
PAPER_SHOW_FPS = 10.0

Row = tuple[str, Callable[[], Example]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows that are read one after the other, because together they may not fit into memory.

    total  how many they are, for progress.
    """

    each: Iterator[Row]
    total: int


def table_rows(
    folder: Path, *, split: str, shelf: Shelf, example: Callable[[Record, Shelf], Example]
) -> Rows:
    """The rows of a table, each made into an example, with the media on the shelf, when its turn comes."""

    def reader(read: Callable[[], Record]) -> Callable[[], Example]:
        return lambda: example(read(), shelf)

    table = open_table(folder, split=split)
    return Rows(each=((place, reader(read)) for place, read in table.rows), total=table.total)


class DatasetSuite(ABC):
    """A suite over a folder; a subclass says how its rows are read and scored.

    All rows are read at the first call of `check` or `examples`: media headers are opened, every mask is
    decoded, sizes are compared. What cannot be used is a `Problem`, the others are the examples, in the
    order of the files. The examples are kept, and travel with the suite to other processes.
    """

    name: ClassVar[str]
    settings: ClassVar[Settings]
    headline: ClassVar[tuple[str, ...]]

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise SourceError(f"there is no folder {folder}; expected the data of the suite {self.name}")
        self._read: tuple[tuple[Example, ...], tuple[Problem, ...]] | None = None

    @abstractmethod
    def _rows(self) -> Iterator[Row] | Rows:
        """Each row's place, for messages, and a function that reads it.

        An iterator is run to its end before any row is read, so that their number is known.
        The function raises `BadRowError`, or `SourceError` for media that cannot be opened, or `ValueError`
        for a mask that cannot be decoded; any of these makes the row a `Problem`.
        """

    @abstractmethod
    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        """Scores of one answer by name; `result` is None when the answer could not be read."""

    def check(self, *, on_progress: OnProgress | None = None) -> tuple[Problem, ...]:
        """One problem for each row that cannot be used, with its place and the reason."""
        return self._all(on_progress)[1]

    def examples(self) -> Sequence[Example]:
        """The rows that can be used, in the order of the files."""
        return self._all()[0]

    def is_of(self, keys: Collection[str]) -> bool:
        """Whether the first row that can be used is one of these examples; no further row is read."""
        for _, read in _counted(self._rows()).each:
            try:
                return read().key in keys
            except (ValueError, SourceError):  # a bad row, which `check` tells
                continue
        return False

    def prepare(self, example: Example, folder: Path) -> Path:
        """The file to open for this example."""
        return Path(example.media)

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Mean of each score over the examples that have it."""
        return mean_summary([{k: v for k, v in row.items() if k not in _COUNTS} for row in rows])

    def _all(self, on_progress: OnProgress | None = None) -> tuple[tuple[Example, ...], tuple[Problem, ...]]:
        if self._read is None:
            examples: dict[str, tuple[str, Example]] = {}
            problems = []
            rows = _counted(self._rows())
            pace = Pace(rows.total, on_progress)
            for place, read in rows.each:
                try:
                    example = read()
                    if example.key in examples:
                        first = examples[example.key][0]
                        raise BadRowError(f"the id {example.key} is also that of {first}")
                    examples[example.key] = place, example
                except (ValueError, SourceError) as error:
                    problems.append(Problem(row=place, reason=str(error)))
                pace.step()
            self._read = tuple(example for _, example in examples.values()), tuple(problems)
        return self._read


def _counted(rows: Iterator[Row] | Rows) -> Rows:
    if isinstance(rows, Rows):
        return rows
    listed = list(rows)
    return Rows(each=iter(listed), total=len(listed))


class TrackingSuite(DatasetSuite):
    """Tracks against masks at one frame a second.

    Beside the scores there are those that the released evaluator would give, as `reference_*`: published
    numbers came from it.
    """

    headline = ("f1", "hota")

    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        """precision, recall, f1, HOTA and its parts, the counts that pooling adds up, and the reference's.

        An answer that could not be read is wrong also where there is nothing to find; the released evaluator
        takes it for one without objects.
        """
        placed = placed_of(result)
        scores = {"readable": float(result is not None)}
        found = track_scores(example.truth, placed)
        parts = hota(track_frames(example.truth, placed))
        shares = found.scores() | parts.scores()
        scores |= shares if result is not None else dict.fromkeys(shares, 0.0)
        scores |= found.counts() | parts.counts()
        as_released = track_scores(example.truth, placed, reference_compat=True)
        released_frames = track_frames(example.truth, placed, reference_compat=True)
        scores["reference_f1"] = as_released.f1
        scores["reference_hota"] = hota(released_frames, reference_compat=True).scores()["hota"]
        return scores

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Means over the questions, and `pooled_*` over all their frames together."""
        return super().summary(rows) | pooled_matched(rows) | pooled_hota(rows)


class CountingSuite(DatasetSuite):
    """The number: exactly right, close, and by how many there are.

    close_percent       see `close_accuracy`.
    published_by_text   the released evaluator reads the number in the text and not the points: what it would
                        give is `reference_accuracy`.
    """

    headline = ("accuracy", "close")
    close_percent: ClassVar[int] = 5
    published_by_text: ClassVar[bool] = True

    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        """accuracy, close, and how many there are (`wanted`), for the bins of the summary."""
        wanted = example.truth.count
        assert wanted is not None
        number = counted(result)
        scores = {
            "readable": float(result is not None),
            "accuracy": count_accuracy(number, wanted),
            "close": close_accuracy(number, wanted, percent=self.close_percent),
            "wanted": float(wanted),
        }
        if self.published_by_text:
            by_text = counted(result, reference_compat=True)
            scores["reference_accuracy"] = count_accuracy(by_text, wanted)
        return scores

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Means over the questions, and the accuracy by how many there are."""
        return super().summary(rows) | count_bins((int(row["wanted"]), row["accuracy"]) for row in rows)


def checked_mask(record: Any, *, size_px: tuple[int, int], what: str) -> Rle:
    """A stored mask, decoded once to see that it can be; raises `BadRowError` with what it is the mask of."""
    try:
        rle = Rle.from_coco(record)
        _check_size(rle.size_hw, size_px)
        rle.runs()
    except (ValueError, TypeError, OverflowError) as error:  # a size or a run may be any number
        raise BadRowError(f"{what}: {error}") from error
    return rle


def encoded_mask(mask: npt.NDArray[np.bool_], *, size_px: tuple[int, int], what: str) -> Rle:
    """A mask of pixels, bool[height, width], as an `Rle`; raises `BadRowError` when its size is wrong."""
    try:
        _check_size((int(mask.shape[0]), int(mask.shape[1])), size_px)
    except ValueError as error:
        raise BadRowError(f"{what}: {error}") from error
    return Rle.encode(mask)


def _check_size(size_hw: tuple[int, int], size_px: tuple[int, int]) -> None:
    height, width = size_hw
    if (width, height) != size_px:
        raise ValueError(
            f"the mask has {width} x {height} pixels; the picture has {size_px[0]} x {size_px[1]}"
        )


def tagged(example: Example, **tags: str | float) -> Example:
    """The example with these tags, and with those that its truth gives: what results are grouped by."""
    truth = example.truth
    found: dict[str, str | float] = {"task": example.query.task, **tags}
    if truth.count is not None or truth.objects:
        found["objects"] = float(len(truth.objects) if truth.count is None else truth.count)
    if truth.duration_s is not None:
        found["clip_s"] = truth.duration_s
    areas = [frame.mask.area_px for item in truth.objects for frame in item.frames if frame.mask is not None]
    if areas:
        found["size_share"] = sum(areas) / len(areas) / (truth.size_px[0] * truth.size_px[1])
    if example.query.task == "track" and truth.objects and truth.frame_times_s:
        found["occluded_share"] = _hidden_share(truth)
    return replace(example, tags=found)


def _hidden_share(truth: Truth) -> float:
    """Of the annotated frames from where an object is first seen to where it is last, those without it."""
    span = seen = 0
    for item in truth.objects:
        times = {frame.time_s for frame in item.frames if frame.time_s is not None}
        span += sum(min(times) <= time <= max(times) for time in truth.frame_times_s) if times else 0
        seen += len(times & set(truth.frame_times_s))
    return 1 - seen / span if span else 0.0


def judged_frames(frame_count: int, *, fps: float, judged_fps: float) -> tuple[int, ...]:
    """Numbers of the frames nearest to 0, 1, 2, ... times 1 / `judged_fps` seconds.

    Every 30th frame of a video at 29.97 a second would be a whole frame late after half a minute.
    """
    numbers = (round(k * fps / judged_fps) for k in range(int(frame_count * judged_fps / fps) + 2))
    return tuple(sorted({number for number in numbers if number < frame_count}))


def tracked_truth(
    objects: Mapping[int, Mapping[int, tuple[tuple[float, float] | None, Rle | None]]],
    *,
    size_px: tuple[int, int],
    fps: float,
    frame_count: int,
    judged: Sequence[int],
) -> Truth:
    """The truth of a video in which these frames are judged, from {object: {frame: (point, mask)}}."""
    return Truth(
        size_px=size_px,
        duration_s=frame_count / fps,
        fps=fps,
        objects=tuple(
            TruthObject(
                object_id=object_id,
                frames=tuple(
                    TruthFrame(time_s=index / fps, source_index=index, xy_px=xy_px, mask=mask)
                    for index, (xy_px, mask) in sorted(frames.items())
                ),
            )
            for object_id, frames in objects.items()
        ),
        frame_times_s=tuple(index / fps for index in judged),
    )

"""`RowReport`: what is wrong with a folder of training rows, row by row, and what is in it.

All rows are checked first, which takes seconds; then the media that they name, headers only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from molmo2_ground._amount import amount
from molmo2_ground.errors import SourceError
from molmo2_ground.eval.suites.media import image_size
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.sources import probe
from molmo2_ground.sources.images import is_animated, opened_image
from molmo2_ground.sources.media import FilmFile, recognise
from molmo2_ground.train.row_checks import cautions_of, problems_of, same_id, visible_places
from molmo2_ground.train.row_folder import RowFolder
from molmo2_ground.train.row_media import RowSampling, part_of, row_times
from molmo2_ground.train.rows import Row, id_in, row_of

OnProgress = Callable[[str, int, int], None]
# A folder in which everything is wrong is told by its first rows and a number.
_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """One reason why a row cannot be used, or a caution about it.

    place   where it lies (`rows.jsonl line 3`). row_id: its id, "" when it could not be read.
    """

    place: str
    row_id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}{f' ({self.row_id})' if self.row_id else ''}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReport:
    """What a folder holds, and what is wrong with it.

    problems       in the order of the rows; at most 10,000 are kept, `problem_count` counts all of them.
    cautions       what is unusual and may be meant; the same.
    rows, media    how many rows, and different files that they name.
    annotations    by task; one with several tasks counts for each.
    points         places that can be seen, of all annotations.
    video_s        seconds of video that the rows show; a video shown by two rows counts twice.
    """

    problems: tuple[RowProblem, ...]
    cautions: tuple[RowProblem, ...]
    problem_count: int
    caution_count: int
    rows: int
    media: int
    annotations: dict[str, int]
    points: int
    video_s: float

    @property
    def good(self) -> bool:
        """True when every row can be used."""
        return self.problem_count == 0

    def summary(self) -> str:
        """What is in the folder, in one line."""
        tasks = ", ".join(f"{name} {count}" for name, count in self.annotations.items())
        film = f", {_span(self.video_s)} of video" if self.video_s else ""
        return (
            f"{amount(self.rows, 'row')}, {amount(self.media, 'medium', several='media')}, "
            f"annotations: {tasks or 'none'}; {amount(self.points, 'point')}{film}"
        )


def _span(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Medium:
    """What a file's header says. reason: why it cannot be opened, "" when it can."""

    is_video: bool = False
    size_px: tuple[int, int] = (0, 0)
    duration_s: float = 0.0
    reason: str = ""
    lost: tuple[str, ...] = ()


class _Found:
    """Gathers what is wrong; its memory does not grow with the damage."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, RowProblem]] = []
        self.count = 0

    def add(self, number: int, place: str, row_id: str, reason: str) -> None:
        self.count += 1
        if len(self.kept) < _MOST_KEPT:
            self.kept.append((number, RowProblem(place=place, row_id=row_id, reason=reason)))

    def in_order(self) -> tuple[RowProblem, ...]:
        return tuple(problem for _, problem in sorted(self.kept, key=lambda pair: pair[0]))


def check_folder(
    folder: str | Path,
    *,
    media: bool = True,
    sampling: RowSampling | None = None,
    workers: int = 1,
    on_progress: OnProgress | None = None,
) -> RowReport:
    """Check every row of a folder, and then the media that the good ones name.

    media: False leaves the files alone. sampling: how many frames the model will be shown; a row that needs
    more is a problem. workers: files opened at the same time. on_progress: called with what is being done,
    how many are done, and of how many.
    Raises `SourceError` when the folder holds no rows at all.
    """
    rows = RowFolder(folder)
    checking = _Checking(rows, sampling or RowSampling(), on_progress or (lambda what, done, total: None))
    checking.look_at_rows()
    if media:
        checking.look_at_media(workers)
    return checking.report()


class _Checking:
    """One check of one folder, while it goes on."""

    def __init__(self, rows: RowFolder, sampling: RowSampling, tell: OnProgress) -> None:
        self._rows, self._sampling, self._tell = rows, sampling, tell
        self._problems, self._cautions = _Found(), _Found()
        self._places_by_id: dict[str, int] = {}
        self._readable: list[int] = []
        self._names: dict[str, None] = {}
        self._tasks: Counter[str] = Counter()
        self._points = 0
        self._video_s = 0.0

    def look_at_rows(self) -> None:
        total = len(self._rows)
        for number in range(total):
            self._look_at_row(number)
            self._tell("rows", number + 1, total)

    def _look_at_row(self, number: int) -> None:
        place, text = self._rows.place(number), self._rows.text(number)
        try:
            row = row_of(text)
        except BadRowError as error:
            self._problems.add(number, place, id_in(text), str(error))
            return
        reasons = list(problems_of(row))
        first = self._places_by_id.setdefault(row.row_id, number)
        if first != number:
            reasons.insert(0, same_id(self._rows.place(first)))
        for reason in reasons:
            self._problems.add(number, place, row.row_id, reason)
        for caution in cautions_of(row):
            self._cautions.add(number, place, row.row_id, caution)
        self._tasks.update(task for one in row.annotations for task in one.task)
        self._points += sum(len(visible_places(one)) for one in row.annotations)
        self._names.update(dict.fromkeys(row.media))
        if not reasons:
            self._readable.append(number)
            if row.clip_s is not None:
                self._video_s += row.clip_s[1] - row.clip_s[0]

    def look_at_media(self, workers: int) -> None:
        """Open the files that rows without problems name, and hold the rows against them."""
        wanted = dict.fromkeys(name for number in self._readable for name in self._rows[number].media)
        found = dict(zip(wanted, self._opened(list(wanted), workers), strict=True))
        for number in self._readable:
            self._hold_against(number, found)

    def _opened(self, names: Sequence[str], workers: int) -> Iterator[_Medium]:
        paths = [self._rows.folder / name for name in names]
        with ThreadPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
            opened = map(_medium, paths) if pool is None else pool.map(_medium, paths)
            for done, medium in enumerate(opened, start=1):
                yield medium
                self._tell("media", done, len(names))

    def _hold_against(self, number: int, found: dict[str, _Medium]) -> None:
        row, place = self._rows[number], self._rows.place(number)
        media = [found[name] for name in row.media]
        reasons = list(_media_problems(row, media))
        if not reasons and row.media and not row.size_px:
            reasons = list(problems_of(row, sizes_px=[medium.size_px for medium in media]))
        if not reasons and row.kind == "video":
            reasons = list(self._film_problems(row, media[0].duration_s))
        for reason in reasons:
            self._problems.add(number, place, row.row_id, reason)
        for name, medium in zip(row.media, media, strict=True):
            for line in medium.lost:
                self._cautions.add(number, place, row.row_id, f"{name}: {line}")

    def _film_problems(self, row: Row, duration_s: float) -> Iterator[str]:
        if row.clip_s is None:
            self._video_s += duration_s
        try:
            start_s, end_s = part_of(row, duration_s)
            row_times(row, end_s - start_s, sampling=self._sampling)
        except BadRowError as error:
            yield str(error)

    def report(self) -> RowReport:
        return RowReport(
            problems=self._problems.in_order(),
            cautions=self._cautions.in_order(),
            problem_count=self._problems.count,
            caution_count=self._cautions.count,
            rows=len(self._rows),
            media=len(self._names),
            annotations=dict(sorted(self._tasks.items())),
            points=self._points,
            video_s=self._video_s,
        )


def _medium(path: Path) -> _Medium:
    """A file's kind and size; a picture's from its header, a video's from its packets and first frame."""
    try:
        return _Medium(size_px=image_size(path)) if _is_still(path) else _film(path)
    except (SourceError, BadRowError) as error:
        return _Medium(reason=str(error))


def _is_still(path: Path) -> bool:
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    if not path.stat().st_size:
        raise SourceError(f"{path.name} is empty (0 bytes)")
    with opened_image(path) as image:
        return image is not None and not is_animated(image)


def _film(path: Path) -> _Medium:
    assert isinstance(recognise(path), FilmFile)
    info = probe(path)
    return _Medium(
        is_video=True,
        size_px=(info.width_px, info.height_px),
        duration_s=info.duration_s or 0.0,
        lost=info.lost,
    )


def _media_problems(row: Row, media: Sequence[_Medium]) -> Iterator[str]:
    for number, (name, medium) in enumerate(zip(row.media, media, strict=True)):
        if medium.reason:
            yield f"media[{number}]: {medium.reason}"
        elif medium.is_video != (row.kind == "video"):
            got = "a video" if medium.is_video else "a still picture"
            yield f"media[{number}]: {name} is {got}; the row is of kind {row.kind}"
        elif row.size_px and row.size_px[number] != medium.size_px:
            (width, height), said = medium.size_px, row.size_px[number]
            yield (
                f"media[{number}]: {name} has {width} x {height} pixels as a player shows it; "
                f"the row says {said[0]} x {said[1]}"
            )

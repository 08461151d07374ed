"""`python -m molmo2_ground.train.convert_boxes boxes.csv --media FOLDER --out FOLDER`: from boxes to rows.

One row a video, or a part of a long one, that asks for all that can be asked of boxes: tracks of each label,
where its things are and how many, and the way of each single thing from its first box on. The videos come
into the folder too, as links where the file system can.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from molmo2_ground._amount import amount
from molmo2_ground._parser import Parser, number_from_1, whole_number
from molmo2_ground.errors import GroundError, SourceError
from molmo2_ground.eval.suites.media import Shelf
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.sources.film_facts import FilmFacts
from molmo2_ground.train.box_film import BoxFilm, GridMoment
from molmo2_ground.train.box_table import BoxLine, BoxTable, LineProblem
from molmo2_ground.train.converted import MEDIA_FOLDER, Converted, write_converted
from molmo2_ground.train.problem_list import ProblemList
from molmo2_ground.train.progress_line import ProgressLine
from molmo2_ground.train.row_media import SAME_MOMENT_S
from molmo2_ground.train.row_report import OnProgress, check_folder
from molmo2_ground.train.rows import Annotation, Moment, Place, Row, TaskName
from molmo2_ground.train.validate import lines as report_lines

# The joint fine-tuning stage shows 128 frames; a few are left for annotated moments off the grid.
_CLIP_FRAMES = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxOptions:
    """How a table of boxes is read.

    rate_fps        at most so many moments a second; fewer where the boxes are sparser.
    normalised      boxes are shares of the picture, 0 to 1, instead of pixels.
    first_frame     the number of a video's first frame, in tables with frame numbers.
    whole_videos    everything is annotated from beginning to end: no box means that nothing is there.
    max_clip_s      longer videos become several rows; None: a minute, or 120 frames if that is less.
    """

    rate_fps: float = 2.0
    normalised: bool = False
    first_frame: int = 0
    whole_videos: bool = False
    max_clip_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate_fps <= 10:
            raise ValueError(f"rate_fps is above 0 and at most 10 moments a second; got {self.rate_fps}")
        if self.max_clip_s is not None and not self.max_clip_s > 0:
            raise ValueError(f"max_clip_s is above 0 seconds; got {self.max_clip_s}")

    @property
    def clip_s(self) -> float:
        """Most seconds that a row shows."""
        return min(60.0, _CLIP_FRAMES / self.rate_fps) if self.max_clip_s is None else self.max_clip_s


def convert_boxes(
    table: str | Path,
    media: str | Path,
    *,
    options: BoxOptions | None = None,
    without: Sequence[Path] = (),
    on_progress: OnProgress | None = None,
) -> Converted:
    """Make rows of a table of boxes; nothing is written. Media are named as `write_converted` places them.

    without: folders whose files are not meant, though they lie below `media`: copies that were made before.
    Raises `SourceError` when the table or the folder of videos cannot be read at all.
    """
    chosen = options or BoxOptions()
    read = BoxTable.read(table)
    folder = Path(media).expanduser()
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder}; expected the videos that {table} names")
    shelf = Shelf.of_videos(folder, without=without)
    problems = list(read.problems)
    by_video, strangers = _by_video(read.lines, folder, shelf)
    problems += strangers
    rows: dict[str, tuple[Row, ...]] = {}
    files: dict[str, Path] = {}
    for done, (path, lines) in enumerate(by_video.items(), start=1):
        try:
            facts = FilmFacts.of(path)
        except SourceError as error:
            problems.append(_of_all(lines, error))
        else:
            name = path.relative_to(folder).as_posix()
            own = [_from_zero(line, chosen.first_frame) for line in lines]
            made, wrong = film_rows(facts, own, name, options=chosen)
            problems += wrong
            if made is not None:
                rows[name], files[name] = made, path
        if on_progress is not None:
            on_progress("videos", done, len(by_video))
    return Converted(
        rows=rows,
        files=files,
        problems=tuple(sorted(problems, key=lambda problem: problem.line)),
        unnamed=tuple(path.relative_to(folder).as_posix() for path in shelf.paths if path not in by_video),
    )


def film_rows(
    facts: FilmFacts,
    lines: Sequence[BoxLine],
    name: str,
    *,
    options: BoxOptions,
    looked_at: Iterable[int] = (),
) -> tuple[tuple[Row, ...] | None, list[LineProblem]]:
    """The rows of one video, None when no line is left, and what is wrong with its lines.

    lines count frames from 0. looked_at: frames of which it is known that nothing else is in them.
    """
    film, problems = BoxFilm.of(
        facts,
        lines,
        rate_fps=options.rate_fps,
        normalised=options.normalised,
        whole=options.whole_videos,
        looked_at=looked_at,
    )
    return None if film is None else tuple(_rows(film, name, max_clip_s=options.clip_s)), problems


def _by_video(
    lines: Sequence[BoxLine], folder: Path, shelf: Shelf
) -> tuple[dict[Path, list[BoxLine]], list[LineProblem]]:
    """Lines by the file that they are about, however they call it; and those about no file."""
    by_name: dict[str, list[BoxLine]] = {}
    for line in lines:
        by_name.setdefault(line.video, []).append(line)
    by_video: dict[Path, list[BoxLine]] = {}
    problems = []
    for name, named in by_name.items():
        try:
            by_video.setdefault(find_medium(folder, shelf, name), []).extend(named)
        except BadRowError as error:
            problems.append(_of_all(named, error))
    return {path: sorted(found, key=lambda line: line.line) for path, found in by_video.items()}, problems


def _of_all(lines: Sequence[BoxLine], error: Exception) -> LineProblem:
    """What is wrong with all lines of a video, said once."""
    return LineProblem(line=lines[0].line, reason=str(error), more=len(lines) - 1)


def _from_zero(line: BoxLine, first_frame: int) -> BoxLine:
    return line if line.frame is None else replace(line, frame=line.frame - first_frame)


def find_medium(folder: Path, shelf: Shelf, name: str) -> Path:
    """The file of a name in a table: a path below the folder, or a name with or without its suffix.

    Raises `BadRowError` when there is none, or several.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if ".." not in parts.parts and not parts.is_absolute() and (folder / parts).is_file():
        return folder / parts
    if not shelf.has(parts.stem, parts.name):
        raise BadRowError(f"no file is called {name} below {folder}, with or without its suffix")
    return shelf.find(parts.stem, parts.name, within=parts.parent.name)


def _rows(film: BoxFilm, name: str, *, max_clip_s: float) -> Iterator[Row]:
    """One row a part of at most `max_clip_s` seconds; parts in which nothing is to be seen are left out."""
    # Parts begin on the grid, so that the grid goes on in each of them.
    step_s = max_clip_s if film.rate_fps is None else max(1, int(max_clip_s * film.rate_fps)) / film.rate_fps
    parts = max(1, int(np.ceil((film.end_s - film.start_s - SAME_MOMENT_S) / step_s)))
    for number in range(parts):
        start_s = film.start_s + number * step_s
        end_s = film.end_s if number == parts - 1 else start_s + step_s
        last = number == parts - 1
        moments = [
            moment
            for moment in film.moments
            if start_s - SAME_MOMENT_S <= moment.time_s and (last or moment.time_s < end_s - SAME_MOMENT_S)
        ]
        annotations = tuple(_annotations(moments, film.rate_fps))
        if not annotations:
            continue
        entire = start_s == 0 and end_s >= film.facts.duration_s
        yield Row(
            row_id=name if parts == 1 else f"{name}@{start_s:g}",
            kind="video",
            media=(f"{MEDIA_FOLDER}/{name}",),
            size_px=(film.facts.size_px,),
            clip_s=None if entire else (start_s, end_s),
            annotations=annotations,
        )


def _annotations(moments: Sequence[GridMoment], rate_fps: float | None) -> Iterator[Annotation]:
    labels = sorted({label for moment in moments for label, place in moment.places if not place.occluded})
    for label in labels:
        named = [_of_label(moment, label) for moment in moments]
        yield Annotation(task=("track",), label=label, moments=tuple(named), rate_fps=rate_fps)
        yield Annotation(task=("point", "point_then_count"), label=label, moments=_largest(named))
        ids = sorted({place.object_id for moment in named for place in moment.places if not place.occluded})
        for object_id in ids:
            way = [_of_object(moment, object_id) for moment in named]
            seen = [at for at, moment in enumerate(way) if any(not p.occluded for p in moment.places)]
            if len(seen) > 1:  # a thing that is seen once has no further way
                task = _way_task(way[seen[0]])
                yield Annotation(task=(task,), label=label, moments=tuple(way[seen[0] :]), rate_fps=rate_fps)


def _way_task(first: Moment) -> TaskName:
    """How the way of a thing is asked for: from its box or mask, else from its point."""
    drawn = any(place.box_px is not None or place.mask is not None for place in first.places)
    return "track_from_box" if drawn else "track_from_point"


def _of_label(moment: GridMoment, label: str) -> Moment:
    return Moment(time_s=moment.time_s, places=tuple(place for name, place in moment.places if name == label))


def _of_object(moment: Moment, object_id: int) -> Moment:
    return moment.model_copy(
        update={"places": tuple(place for place in moment.places if place.object_id == object_id)}
    )


def _largest(moments: Sequence[Moment]) -> tuple[Moment, ...]:
    """Each thing once, at the moment at which it is largest: a count is of things, not of sightings.

    Of things that are points alone it is the first moment.
    """
    best: dict[int, tuple[float, float, Place]] = {}
    for moment in moments:
        for place in moment.places:
            if place.occluded or moment.time_s is None:
                continue
            area = _area(place)
            if place.object_id not in best or area > best[place.object_id][0]:
                best[place.object_id] = area, moment.time_s, place
    times = sorted({time_s for _, time_s, _ in best.values()})
    return tuple(
        Moment(time_s=at, places=tuple(place for _, time_s, place in best.values() if time_s == at))
        for at in times
    )


def _area(place: Place) -> float:
    if place.mask is not None:
        return float(place.mask.area_px)
    if place.box_px is None:
        return 0.0
    left, top, right, bottom = place.box_px
    return (right - left) * (bottom - top)


def split(videos: Sequence[str], *, holdout: int, seed: int) -> tuple[list[str], list[str]]:
    """Videos for training and `holdout` others, drawn by the seed; each in the order they came in."""
    if not 0 <= holdout < max(1, len(videos)):
        raise ValueError(f"holdout leaves at least one of {len(videos)} videos to train on; got {holdout}")
    drawn = np.random.default_rng(seed).permutation(len(videos))[:holdout]
    held = {videos[int(at)] for at in drawn}
    return [name for name in videos if name not in held], [name for name in videos if name in held]


def main(
    arguments: Sequence[str] | None = None, *, prog: str = "python -m molmo2_ground.train.convert_boxes"
) -> int:
    """Run the command; returns the exit status: 0, 1 for lines that cannot be used, 2 for nothing to read."""
    options = _parser(prog).parse_args(arguments)
    progress = ProgressLine(sys.stderr)
    try:
        converted = convert_boxes(
            options.table,
            options.media,
            options=options_of(options),
            without=copies_of(options),
            on_progress=progress.tell,
        )
        progress.clear()
        return finish(converted, options, progress, name=options.table.name)
    except (GroundError, ValueError) as error:
        progress.clear()
        print(f"error: {error}", file=sys.stderr)
        return 2


def options_of(options: argparse.Namespace) -> BoxOptions:
    """What `add_options` put on the command line; raises `ValueError`."""
    return BoxOptions(
        rate_fps=options.rate,
        normalised=getattr(options, "normalised", False),
        first_frame=getattr(options, "first_frame", 0),
        whole_videos=options.whole_videos,
        max_clip_s=options.max_clip,
    )


def finish(
    converted: Converted,
    options: argparse.Namespace,
    progress: ProgressLine,
    *,
    name: str,
    noun: str = "line",
) -> int:
    """Say what cannot be used, write the rows unless something is wrong, and check them; the exit status.

    name: what each problem begins with. noun: what each problem is of.
    """
    told = ProblemList.of(
        converted.problems,
        most=options.most,
        alike=options.alike,
        front=f"{'left out: ' if options.skip_bad else ''}{name} ",
    )
    for line in told.lines:
        print(line)
    if told.untold:
        print(f"… and {told.untold:,} more (--most and --alike show more)")
    count = converted.problem_count
    if count and not options.skip_bad:
        print(f"nothing was written: {amount(count, noun)} cannot be used (--skip-bad goes on)")
        return 1
    if converted.unnamed:
        listed = ", ".join(converted.unnamed[:5]) + (", …" if len(converted.unnamed) > 5 else "")
        print(f"videos without a line in the table, left out: {listed} ({len(converted.unnamed)} in all)")
    if not converted.rows:
        print("nothing was written: nothing is left")
        return 1
    return _write(converted, options, progress)


def _write(converted: Converted, options: argparse.Namespace, progress: ProgressLine) -> int:
    kept, held = split(list(converted.rows), holdout=options.holdout, seed=options.seed)
    folders = {options.out.expanduser(): kept}
    if held:
        apart = _held_out(options)
        one, other = options.out.resolve(), apart.resolve()
        if one == other or one in other.parents or other in one.parents:
            raise ValueError(f"the rows kept apart need a folder of their own; got {apart} and {options.out}")
        folders[apart] = held
    write_converted(converted, folders)
    status = 0
    for folder in folders:
        report = check_folder(folder, on_progress=progress.tell)
        progress.clear()
        print(f"{folder}:")
        for line in report_lines(report, most=options.most, alike=options.alike):
            print(f"  {line}")
        status = max(status, 0 if report.good else 1)
    return status


def _held_out(options: argparse.Namespace) -> Path:
    folder: Path = options.holdout_out or options.out.with_name(f"{options.out.name}-holdout")
    return folder.expanduser()


def copies_of(options: argparse.Namespace) -> tuple[Path, Path]:
    """Where an earlier run of the same command put its copies of the media."""
    return options.out.expanduser() / MEDIA_FOLDER, _held_out(options) / MEDIA_FOLDER


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Make a folder of training rows of a CSV of boxes (docs/training-data.md).",
    )
    parser.add_argument("table", type=Path, help="the CSV, one box a line")
    add_options(parser)
    parser.add_argument("--normalised", action="store_true", help="boxes are shares of the picture, 0 to 1")
    parser.add_argument(
        "--first-frame", type=whole_number, default=0, help="the number of the first frame (0)"
    )
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that makes rows of annotations and media."""
    parser.add_argument("--media", type=Path, required=True, help="the folder of the media that it names")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument(
        "--holdout", type=whole_number, default=0, metavar="N", help="keep N of them for evaluation"
    )
    parser.add_argument("--holdout-out", type=Path, help="their folder (OUT-holdout)")
    parser.add_argument("--seed", type=whole_number, default=0, help="which are kept (0)")
    parser.add_argument("--rate", type=float, default=2.0, help="at most so many moments a second (2)")
    parser.add_argument(
        "--whole-videos",
        action="store_true",
        help="all is annotated from beginning to end, so no box means that nothing is there",
    )
    parser.add_argument("--max-clip", type=float, help="most seconds a row shows (60, or 120 frames)")
    parser.add_argument("--skip-bad", action="store_true", help="leave out what cannot be used")
    parser.add_argument("--most", type=whole_number, default=20, metavar="N", help="print so many of it (20)")
    parser.add_argument(
        "--alike",
        type=number_from_1,
        default=3,
        metavar="N",
        help="of what differs in numbers alone, print so many (3)",
    )


if __name__ == "__main__":
    sys.exit(main())

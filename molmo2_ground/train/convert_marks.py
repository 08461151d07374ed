"""`molmo2-ground train convert FORMAT FILE --media FOLDER --out FOLDER`: from annotations to rows.

The files are those of `molmo2_ground.export.READERS`; what is asked of them is what `convert_boxes` asks of
boxes, which does the work for videos. A picture becomes one row.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from molmo2_ground._parser import Parser
from molmo2_ground.errors import GroundError, SourceError
from molmo2_ground.eval.suites.media import Shelf
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.export import READERS, MarkedMedia, read_from, settled
from molmo2_ground.export.filled import filled
from molmo2_ground.export.marks import Mark
from molmo2_ground.sources import probe
from molmo2_ground.sources.film_facts import FilmFacts
from molmo2_ground.train.box_film import place_in_picture
from molmo2_ground.train.box_table import BoxLine, LineProblem
from molmo2_ground.train.convert_boxes import (
    BoxOptions,
    add_options,
    copies_of,
    film_rows,
    find_medium,
    finish,
    options_of,
)
from molmo2_ground.train.converted import MEDIA_FOLDER, Converted
from molmo2_ground.train.progress_line import ProgressLine
from molmo2_ground.train.row_report import OnProgress
from molmo2_ground.train.rows import Annotation, Moment, Row


def convert_marks(
    format_name: str,
    file: str | Path,
    media: str | Path,
    *,
    options: BoxOptions | None = None,
    label: str | None = None,
    hide_occluded: bool = False,
    without: Sequence[Path] = (),
    on_progress: OnProgress | None = None,
) -> Converted:
    """Make rows of a file of annotations; nothing is written. `convert_boxes.write_converted` does.

    media: the folder of the videos and pictures that the file names; a file about one video may call it as it
    likes when there is one video in the folder. label: what the boxes of MOT text are of.
    hide_occluded: what is marked as occluded cannot be seen at all, and is never part of an answer; by
    default it is seen in part, which is what CVAT means by it. without: as for `convert_boxes`.
    Frames between keyframes are filled in as the tool shows them. What is wrong with a medium or a mark comes
    with the rows. Raises `SourceError` when the file or the folder cannot be read at all.
    """
    chosen = options or BoxOptions()
    found = read_from(format_name, file, label=label)
    folder = Path(media).expanduser()
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder}; expected the videos and pictures that {file} names")
    videos = Shelf.of_videos(folder, without=without)
    pictures = Shelf.of_images(folder, without=without)
    rows: dict[str, tuple[Row, ...]] = {}
    files: dict[str, Path] = {}
    problems: list[LineProblem] = []
    for done, one in enumerate(found, start=1):
        if one.kind == "images":
            made = _picture_rows(one, folder, pictures, problems, hide_occluded=hide_occluded)
        else:
            path = _video(one, folder, videos, problems, alone=len(found) == 1)
            made = (
                iter(()) if path is None else _video_rows(one, path, folder, chosen, problems, hide_occluded)
            )
        for name, path, own in made:
            rows[name], files[name] = (*rows.get(name, ()), *own), path
        if on_progress is not None:
            on_progress("media", done, len(found))
    return Converted(rows=rows, files=files, problems=tuple(problems))


Made = Iterator[tuple[str, Path, tuple[Row, ...]]]


def _video(
    media: MarkedMedia, folder: Path, shelf: Shelf, problems: list[LineProblem], *, alone: bool
) -> Path | None:
    try:
        return find_medium(folder, shelf, media.name)
    except BadRowError as error:
        if alone and len(shelf.paths) == 1:
            return shelf.paths[0]
        problems.append(_problem(media.name, error))
        return None


def _video_rows(
    media: MarkedMedia,
    path: Path,
    folder: Path,
    options: BoxOptions,
    problems: list[LineProblem],
    hide_occluded: bool,
) -> Made:
    name = path.relative_to(folder).as_posix()
    try:
        facts = FilmFacts.of(path)
        drawn = filled(settled(media, film=facts))
        lines = [_line(mark, name, hide_occluded=hide_occluded) for mark in drawn.marks]
    except SourceError as error:
        problems.append(_problem(name, error))
        return
    made, wrong = film_rows(facts, lines, name, options=options, looked_at=drawn.frames)
    problems += wrong
    if made is not None:
        yield name, path, made


def _line(mark: Mark, name: str, *, hide_occluded: bool) -> BoxLine:
    return BoxLine(
        line=0,
        video=name,
        frame=mark.frame,
        time_s=None,
        object_name=str(mark.object_id),
        label=_words(mark.label),
        box=mark.box_px,
        mask=mark.mask,
        point_px=mark.point_px,
        occluded=mark.occluded and hide_occluded,
        place=f"{name}, frame {mark.frame}, object {mark.object_id}",
    )


def _picture_rows(
    media: MarkedMedia, folder: Path, shelf: Shelf, problems: list[LineProblem], *, hide_occluded: bool
) -> Made:
    """One row a picture that has marks; a picture without any says nothing about what is not in it."""
    for frame in media.frames:
        marks = [mark for mark in media.in_frame(frame) if not (mark.occluded and hide_occluded)]
        if not marks:
            continue
        called = media.file_of(frame)
        try:
            path = find_medium(folder, shelf, called)
            info = probe(path)
            if info.kind != "images":
                raise SourceError(f"{path.name} is no still picture")
            size_px = info.width_px, info.height_px
            if media.size_of(frame) not in (size_px, (0, 0)):
                raise SourceError(f"it is annotated at {media.size_of(frame)} pixels and has {size_px}")
            annotations = tuple(_picture_annotations(marks, size_px))
        except (BadRowError, SourceError, ValueError) as error:
            problems.append(_problem(called, error))
            continue
        name = path.relative_to(folder).as_posix()
        row = Row(
            row_id=name,
            kind="image",
            media=(f"{MEDIA_FOLDER}/{name}",),
            size_px=(size_px,),
            annotations=annotations,
        )
        yield name, path, (row,)


def _picture_annotations(marks: Sequence[Mark], size_px: tuple[int, int]) -> Iterator[Annotation]:
    for label in sorted({_words(mark.label) for mark in marks}):
        own = [mark for mark in marks if _words(mark.label) == label]
        places = tuple(
            place_in_picture(number, size_px, box_px=mark.box_px, mask=mark.mask, point_px=mark.point_px)
            for number, mark in enumerate(own, start=1)
        )
        yield Annotation(task=("point", "point_then_count"), label=label, moments=(Moment(places=places),))


def _words(label: str) -> str:
    """A label on one line, as a question can hold it."""
    words = " ".join(label.split())
    if not words:
        raise SourceError("a thing without a label cannot be asked for; give it one in the annotation tool")
    return words


def _problem(name: str, error: Exception) -> LineProblem:
    return LineProblem(line=0, reason=str(error), place=name)


def main(
    arguments: Sequence[str] | None = None, *, prog: str = "python -m molmo2_ground.train.convert_marks"
) -> int:
    """Run the command; returns the exit status: 0, 1 for what cannot be used, 2 for nothing to read."""
    options = _parser(prog).parse_args(arguments)
    progress = ProgressLine(sys.stderr)
    try:
        converted = convert_marks(
            options.format,
            options.file,
            options.media,
            options=options_of(options),
            label=options.label,
            hide_occluded=options.hide_occluded,
            without=copies_of(options),
            on_progress=progress.tell,
        )
        progress.clear()
        return finish(converted, options, progress, name=f"{options.file.name}:", noun="place")
    except (GroundError, ValueError) as error:
        progress.clear()
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Make a folder of training rows of an annotation tool's file (docs/formats.md).",
    )
    parser.add_argument("format", choices=tuple(READERS), help="whose file it is")
    parser.add_argument("file", type=Path, help="the file")
    add_options(parser)
    parser.add_argument("--label", metavar="NAME", help="what the boxes of MOT text are of")
    parser.add_argument(
        "--hide-occluded",
        action="store_true",
        help="what is marked as occluded cannot be seen at all (otherwise: in part)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

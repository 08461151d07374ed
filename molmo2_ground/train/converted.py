"""`Converted`: rows made of a file of annotations, on their way into a folder beside their media."""

from __future__ import annotations

import filecmp
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from molmo2_ground.errors import SourceError
from molmo2_ground.train.box_table import LineProblem
from molmo2_ground.train.row_folder import ROW_FILES, write_rows
from molmo2_ground.train.rows import Row

MEDIA_FOLDER = "media"
_ROWS_FILE = "rows.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What came of a table.

    rows      of each video, by its name below the folder of videos. files: where each of them lies.
    problems  lines that could not be used.
    unnamed   videos of the folder that the table says nothing about: no row is made of them.
    """

    rows: dict[str, tuple[Row, ...]]
    files: dict[str, Path]
    problems: tuple[LineProblem, ...]
    unnamed: tuple[str, ...] = ()

    @property
    def problem_count(self) -> int:
        """How many lines could not be used."""
        return sum(1 + problem.more for problem in self.problems)


def write_converted(converted: Converted, folders: Mapping[Path, Sequence[str]]) -> None:
    """Write the rows of some videos, and the videos beside them, into each folder.

    Everything is made ready under temporary names before the first file gets its own, so a full disk leaves
    all folders as they were. Rows and copies of an earlier conversion of these videos are replaced.
    Raises `SourceError` for a folder that holds anything else under these names, `OSError` that names the
    folder when it cannot be written.
    """
    for folder, videos in folders.items():
        _check_room(converted, folder, videos)
    with ExitStack() as stack:
        ready = {
            folder: stack.enter_context(_ready(converted, folder, videos))
            for folder, videos in folders.items()
        }
        for folder, unfinished in ready.items():
            with _naming(folder):
                for name in (*(f"{MEDIA_FOLDER}/{video}" for video in folders[folder]), _ROWS_FILE):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(unfinished / name, folder / name)


def _check_room(converted: Converted, folder: Path, videos: Sequence[str]) -> None:
    """Raise `SourceError` when the folder holds what is not ours to replace."""
    if folder.exists() and not folder.is_dir():
        raise SourceError(f"{folder} is a file; expected a folder for the rows")
    found = sorted(path.name for pattern in ROW_FILES for path in folder.glob(pattern))
    if found and found != [_ROWS_FILE]:
        raise SourceError(f"{folder} holds other rows ({', '.join(found[:3])}); name another folder")
    ours = {f"{MEDIA_FOLDER}/{name}" for name in converted.files}
    earlier = _media_of(folder / _ROWS_FILE) if found else set()
    others = sorted(earlier - ours)
    if others:
        raise SourceError(
            f"{folder} holds rows of other media ({', '.join(others[:3])}); name another folder, or move "
            f"{_ROWS_FILE} away"
        )
    for video in videos:
        name = f"{MEDIA_FOLDER}/{video}"
        target = folder / name
        if target.is_dir() or (
            target.exists() and name not in earlier and not filecmp.cmp(converted.files[video], target)
        ):
            raise SourceError(f"{target} is something else already; name another folder, or move it away")


def _media_of(path: Path) -> set[str]:
    """The media that a file of rows names; raises `SourceError` for lines that no conversion wrote."""
    names: set[str] = set()
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            names.update(json.loads(line)["media"])
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(
                f"{path} line {number} is no row that was made here; name another folder, or move it away"
            ) from error
    return names


@contextmanager
def _ready(converted: Converted, folder: Path, videos: Sequence[str]) -> Iterator[Path]:
    """A folder beside the last names, with all that belongs there; it goes when the block ends."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    unfinished = folder / f".{secrets.token_hex(4)}.part"
    try:
        with _naming(folder):
            unfinished.mkdir(parents=True)
            for name in videos:
                _place(converted.files[name], unfinished / MEDIA_FOLDER / name)
            write_rows(unfinished, (row for name in videos for row in converted.rows[name]))
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        for path in new:
            with suppress(OSError):  # it is empty when nothing was written, and else it stays
                path.rmdir()


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """What the system says is said of the folder: the temporary names mean nothing to anyone."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(folder)) from error


def _place(source: Path, target: Path) -> None:
    """Link a file to where it belongs, or copy it where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)

"""What the command line says beside its results, on stderr: messages and a progress bar."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from molmo2_ground.errors import SourceError

STDOUT = "-"

_BAR_CELLS = 24


def say(message: str) -> None:
    """One line for people on stderr."""
    print(message, file=sys.stderr)


def one_line(error: BaseException) -> str:
    """An error's message on one line, whatever raised it; its class when it has no words.

    What the system says comes without its number, behind the file that it is about.
    """
    if isinstance(error, OSError) and error.strerror:
        about = "" if error.filename is None else f"{error.filename}: "
        return " ".join(f"{about}{error.strerror}".split())
    return " ".join(str(error).split()) or type(error).__name__


def named_path(text: str) -> Path:
    """The type of an option for an output that is a file or a folder, and cannot go to stdout as `-`."""
    if text == STDOUT:
        raise argparse.ArgumentTypeError("it cannot go to stdout; give a name, or ./- for one called -")
    return Path(text)


def check_written(files: Iterable[str | Path | None], sources: Iterable[str | Path | None]) -> None:
    """Find out before the work that a file cannot be written, or would be written over a source.

    None is an option that was not given. Raises `ValueError`.
    """
    chosen = [Path(path) for path in files if path is not None]
    there = [path for path in sources if path is not None and os.path.exists(path)]
    for path in chosen:
        if not path.parent.is_dir():
            raise ValueError(f"cannot write {path}: the folder {path.parent} does not exist")
        if path.is_dir():
            raise ValueError(f"cannot write {path}: it is a folder, expected the name of a file")
        if path.exists() and any(path.samefile(source) for source in there):
            raise ValueError(f"{path} is one of the files to read; choose another name")
    if len({path.absolute() for path in chosen}) < len(chosen):
        raise ValueError("two outputs have the same name; choose different ones")


def check_folder(option: str, folder: Path) -> None:
    """Before the work: raises `SourceError` when what `option` names is no folder, and cannot become one."""
    taken = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if taken.exists() and not taken.is_dir():
        raise SourceError(
            f"{option} {folder}: {taken} is a file; expected a folder, new or of an earlier run"
        )


class Bar:
    """A progress bar on stderr when that is a terminal, silence when it is not."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._shown = sys.stderr.isatty() and not quiet
        self._drawn = ""

    def tell(self, what: str, share: float, note: str = "") -> None:
        """Show that `share` (0 to 1) of the work called `what` is done, and a few words behind it."""
        if not self._shown:
            return
        full = round(_BAR_CELLS * min(1.0, max(0.0, share)))
        drawn = f"{what:10} [{'#' * full}{'.' * (_BAR_CELLS - full)}] {share:4.0%} {note}".rstrip()
        if drawn != self._drawn:
            left_over = " " * max(0, len(self._drawn) - len(drawn))
            self._drawn = drawn
            sys.stderr.write(f"\r{drawn}{left_over}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar off the line, before something else is said."""
        if self._drawn:
            sys.stderr.write("\r" + " " * len(self._drawn) + "\r")
            sys.stderr.flush()
            self._drawn = ""

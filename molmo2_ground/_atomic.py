"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OF_DISKS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO}


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, and move it to `path` when the block ends well.

    The temporary name keeps the suffix of `path`, because writers choose their format by it. On any
    exception, `KeyboardInterrupt` included, the temporary file goes and what stood at `path` stays.
    Raises `FileNotFoundError` when the folder does not exist, `IsADirectoryError` when `path` is one.
    """
    target = Path(path)
    if target.is_symlink():
        target = target.resolve()  # replace what the link points to, not the link
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file to write")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; create it or write elsewhere")
    if target.exists() and not target.is_file():
        with _named(target):
            yield target  # a pipe or device is written in place: a rename would put a plain file over it
        return
    stem = target.name.removesuffix(target.suffix)[:100]  # file names have a length limit
    unfinished = target.with_name(f".{stem}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        with _named(target, unfinished):
            yield unfinished
            os.replace(unfinished, target)
    except BaseException:
        with suppress(FileNotFoundError):
            unfinished.unlink()
        raise


@contextmanager
def _named(target: Path, unfinished: Path | None = None) -> Iterator[None]:
    """Put the file's own name into what the system says of it: a full disk names none."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_DISKS and error.filename in (None, unfinished and os.fspath(unfinished)):
            # Another error of the same kind: PyAV's own take no other name.
            words = error.strerror or os.strerror(error.errno)
            raise OSError(error.errno, words, os.fspath(target)) from error
        raise


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a new folder beside `path` to write into, and rename it to `path` when the block ends well.

    On any exception, `KeyboardInterrupt` included, the new folder goes. Nothing that stands at `path` is
    ever replaced: raises `FileExistsError` when there is a file or a folder with something in it;
    `FileNotFoundError` when the folder that it should lie in does not exist.
    """
    target = Path(path)
    _check_new(target)
    unfinished = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        unfinished.mkdir()
        yield unfinished
        _check_new(target)
        # An empty folder makes way by itself; one that has been filled meanwhile does not.
        os.rename(unfinished, target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _check_new(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise FileExistsError(f"{target} exists; choose another folder, or move that one away")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; create it or write elsewhere")

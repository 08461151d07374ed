"""`PipedFile`: a file that a library writes through a pipe, so that a full disk is ours to notice."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

_CHUNK_BYTES = 1 << 16
_END_S = 30.0


class PipedFile:
    """Puts into `path` what is written to a named pipe, from a thread of its own.

    It is for a library that writes files itself and waits for ever when the disk is full: what it writes to
    is the pipe, which is emptied to its end whatever becomes of the file.

    path     the file; must not exist yet.
    writer   called once with the pipe's name, which it must have opened for writing when it returns. The name
             is gone afterwards.
    Raises `OSError` when the file or the pipe cannot be made, and what `writer` raises.
    """

    def __init__(self, path: Path, writer: Callable[[Path], None]) -> None:
        self._problem: OSError | None = None
        with tempfile.TemporaryDirectory(prefix="molmo2-ground-") as folder:
            pipe = Path(folder) / "pipe"
            os.mkfifo(pipe)
            # Not waiting for the writer: it is in this thread, and waits for a reader.
            reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            try:
                writing = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                try:
                    writer(pipe)
                except BaseException:
                    os.close(writing)
                    path.unlink()
                    raise
            except BaseException:
                os.close(reading)
                raise
        os.set_blocking(reading, True)
        self._thread = threading.Thread(
            target=self._empty, args=(reading, writing), name=f"pipe to {path.name}", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise the `OSError` that stopped the writing, if one did."""
        if self._problem is not None:
            raise self._problem

    def end(self) -> None:
        """Wait until all is in the file; the library has closed its side. Raises as `check` does."""
        self._thread.join(_END_S)
        self.check()
        if self._thread.is_alive():
            raise TimeoutError(f"the pipe was not closed within {_END_S:.0f} s")

    def _empty(self, reading: int, writing: int) -> None:
        with open(reading, "rb", buffering=0) as pipe, open(writing, "wb", buffering=0) as file:
            while part := pipe.read(_CHUNK_BYTES):
                try:
                    while part and self._problem is None:
                        part = part[file.write(part) :]
                except OSError as error:
                    self._problem = error

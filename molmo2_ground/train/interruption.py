"""What can get in a run's way from outside: another process in its folder, and signals to stop."""

from __future__ import annotations

import fcntl
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from molmo2_ground.errors import TrainingError

if TYPE_CHECKING:
    from pathlib import Path


@contextmanager
def alone_in(work: Path) -> Iterator[None]:
    """Hold the work folder; the system lets go of it when the process ends, however it ends."""
    with (work / ".lock").open("w") as file:
        try:
            # Not flock: data workers would inherit that lock and hold it after a kill.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(f"another process trains in {work}; wait for it or stop it") from error
        yield


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Note SIGTERM and Ctrl-C instead of dying of them; the second one does what it always did."""
    caught: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, _: object) -> None:
        caught.append(signal.Signals(number).name)
        for one, handler in before.items():
            signal.signal(one, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

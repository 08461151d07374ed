"""Several processes that examine one suite, each with its own model.

A pipe a process, and nothing shared: when the parent is killed the pipes close, and the others end at their
next word to it.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from molmo2_ground import errors
from molmo2_ground.errors import BackendError, GroundError
from molmo2_ground.eval.examiner import Examined, Examiner, Plan

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

# Answered in step. The same groups whoever takes them, so that the answers do not depend on it. Neighbours in
# a suite often ask about the same file, which is then read once.
_GROUP = 16
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """An exception, in words that survive the way between processes."""

    kind: str
    message: str
    trace: str


def examine(plan: Plan, count: int, *, workers: int) -> Generator[Examined, None, None]:
    """Examine the first `count` examples of the suite, in any order, with `workers` processes.

    One worker is this process. Closing the iterator early stops the others.
    Raises what the model's loading raises, and `BackendError` when a process dies.
    """
    groups = [range(start, min(start + _GROUP, count)) for start in range(0, count, _GROUP)]
    if workers <= 1:
        with Examiner(plan) as examiner:
            for group in groups:
                yield from examiner.examine(group)
        return
    blocks = iter(groups)
    with _started(plan, min(workers, len(groups))) as staff:
        busy: dict[Connection, SpawnProcess] = {}
        for link, process in staff:
            link.send(next(blocks, None))
            busy[link] = process
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                told = _heard(ready, busy[ready])
                if isinstance(told, Examined):
                    yield told
                elif (block := next(blocks, None)) is not None:
                    ready.send(block)
                else:
                    del busy[ready]


def _heard(link: Connection, process: SpawnProcess) -> Examined | None:
    """What a worker says: an example that is done, or None when it wants more to do."""
    try:
        told: Examined | _Failure | None = link.recv()
    except (EOFError, OSError) as error:
        process.join(_PATIENCE_S)
        raise BackendError(
            f"a worker ended without a word (exit code {process.exitcode}); with -9 the system took it for "
            "its memory: use fewer workers. What was answered is kept"
        ) from error
    if not isinstance(told, _Failure):
        return told
    kind = getattr(errors, told.kind, None)
    if isinstance(kind, type) and issubclass(kind, GroundError):
        raise kind(told.message)
    raise RuntimeError(f"a worker failed with {told.kind}: {told.message}\n{told.trace}")


@contextmanager
def _started(plan: Plan, workers: int) -> Iterator[list[tuple[Connection, SpawnProcess]]]:
    # A fork would copy locks that torch's threads hold.
    context = multiprocessing.get_context("spawn")
    staff: list[tuple[Connection, SpawnProcess]] = []
    try:
        with _deaf_to_interrupts():
            for number in range(workers):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, plan), name=f"examiner-{number}")
                process.start()
                theirs.close()  # so that the pipe ends with the worker
                staff.append((ours, process))
        yield staff
        for link, _ in staff:
            link.send(None)
        for _, process in staff:
            process.join(_PATIENCE_S)
    finally:
        with _deaf_to_interrupts():  # pressed twice, Ctrl-C would leave some behind
            for link, process in staff:
                link.close()
                process.terminate()
                process.join()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ctrl-C does nothing in here, nor later in processes that are started in here.

    It goes to every process of a terminal, and the parent is the one to hear it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread handle signals
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(link: Connection, plan: Plan) -> None:
    """A worker's life: take a block, tell each example, ask for more."""
    logging.getLogger("molmo2_ground").setLevel(logging.ERROR)  # the parent has said it once
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone: nobody to tell
        try:
            with Examiner(plan) as examiner:
                while (block := link.recv()) is not None:
                    for examined in examiner.examine(block):
                        link.send(examined)
                    link.send(None)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            trace = traceback.format_exc()
            link.send(_Failure(kind=type(error).__name__, message=str(error), trace=trace))

"""A process that makes batches for a run: it lives as long as the run does, and hears of nobody else.

    with unheard_signals():
        batches = iter(DataLoader(..., num_workers=2, worker_init_fn=serve_the_run))

A scheduler, a terminal or `timeout` signals every process of a run at once. The run wants its next batch
before it saves and stops, so the workers go on until it ends them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_STOPS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def unheard_signals(start_method: str | None = None) -> Iterator[None]:
    """Hold back signals to stop while workers are started; this process hears of them afterwards.

    A worker inherits this with all threads of its libraries, so none is stopped before `serve_the_run` is
    called in it, and none by a thread that does not know of it.
    start_method  the workers'; None: the platform's.
    """
    if (start_method or multiprocessing.get_start_method()) != "fork":
        resource_tracker.ensure_running()  # the others start it, and that would let the signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve_the_run(worker: int) -> None:
    """What a worker does first: end with its parent, however that ends, and stop for nobody else."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a data worker has been started by a run"
    # Torch looks whether the parent lives, but then waits for a full pipe to be read before it exits.
    threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()
    if hasattr(signal, "sigwaitinfo"):  # macOS has none: there a worker stops, and the last snapshot is kept
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_stop_for, args=(parent.pid,), name="stops", daemon=True).start()
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)  # what is half made is for nobody


def _stop_for(parent: int | None) -> None:
    # Not simply ignored: a parent that ends without closing its loader sends SIGTERM, and waits for the end.
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        continue
    os._exit(0)

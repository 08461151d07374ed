"""Real processes: a run, its data workers, and signals to all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import eventually

pytestmark = pytest.mark.slow  # each case is a process that loads torch

# Batches larger than a pipe holds: a worker whose parent is gone would wait for ever to write.
SCRIPT = """
import multiprocessing
import sys

from torch.utils.data import DataLoader

from molmo2_ground.train.data_worker import serve_the_run, unheard_signals


class Large:
    def __len__(self):
        return 1000

    def __getitem__(self, number):
        return [number, "x" * 200_000]


if __name__ == "__main__":
    loader = DataLoader(
        Large(), batch_size=None, num_workers=2, multiprocessing_context=sys.argv[1],
        worker_init_fn=serve_the_run,
    )
    with unheard_signals(sys.argv[1]):
        batches = iter(loader)
    next(batches)
    print(next(batches)[0], *(one.pid for one in multiprocessing.active_children()), flush=True)
    for line in sys.stdin:
        print(next(batches)[0], flush=True)
"""
METHODS = ["fork", "spawn", "forkserver"]
PATIENCE_S = 60.0


@contextmanager
def run_with_workers(folder: Path, method: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that has had a batch of each worker, and the ids of its workers."""
    script = folder / "run.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script), method],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        last, *workers = map(int, run.stdout.readline().split())
        assert last == 1
        assert len(workers) == 2
        try:
            yield run, workers
        finally:
            run.kill()
            for worker in filter(alive, workers):
                os.kill(worker, signal.SIGKILL)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rpartition(")")[2].split()[0] != "Z"  # nobody may be there to fetch what it leaves


@pytest.mark.parametrize("method", METHODS)
def test_signals_to_stop_leave_the_workers_at_work(method: str, tmp_path: Path) -> None:
    with run_with_workers(tmp_path, method) as (run, workers):
        assert run.stdin is not None
        assert run.stdout is not None
        for number in (2, 3, 4, 5):
            for worker in workers:
                os.kill(worker, signal.SIGTERM if number % 2 else signal.SIGINT)
            run.stdin.write("more\n")
            run.stdin.flush()
            assert run.stdout.readline() == f"{number}\n"


@pytest.mark.parametrize("method", METHODS)
def test_workers_end_with_a_run_that_is_killed(method: str, tmp_path: Path) -> None:
    with run_with_workers(tmp_path, method) as (run, workers):
        run.kill()
        assert eventually(lambda: not any(map(alive, workers)), within_s=PATIENCE_S)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_does_not_close_its_loader_still_ends(method: str, tmp_path: Path) -> None:
    with run_with_workers(tmp_path, method) as (run, workers):
        _, said = run.communicate(timeout=PATIENCE_S)
        assert (run.returncode, said) == (0, "")
        assert not any(map(alive, workers))

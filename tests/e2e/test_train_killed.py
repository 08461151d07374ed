"""A training run that is killed again and again ends with the same weights as one that is left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.small_run import outcome

pytestmark = pytest.mark.slow  # twenty processes, one after the other

KILLS = 20
STOPS = 5
EVENTS_BETWEEN = 12  # at most; a snapshot and the steps up to the next have ten

# Loading torch takes seconds, so one process loads it and splits off a run for each line that it is sent. A
# run tells each thing that it is about to do, and goes on without waiting: a kill finds it anywhere.
SCRIPT = """
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch._dynamo  # the first update of a process loads it
from safetensors.torch import save_file

from molmo2_ground.train.snapshot import SnapshotStore
from tests.small_run import PLAN, SmallModel, loss_of, small_trainer

torch.set_num_threads(1)


def tell(event):
    os.write(1, event.encode() + b"\\n")


def train(work):
    model = SmallModel()
    inner = loss_of(model)

    def loss(batch, place):
        tell(f"step {place.step} part {place.part}")
        return inner(batch, place)

    def write(tensors, path):
        tell(f"write {path.name}")
        save_file(tensors, path)
        tell(f"wrote {path.name}")

    store = SnapshotStore(work / "snapshots", write=write)
    plan = replace(PLAN, steps=64, save_every=2)
    return small_trainer(work, model=model, loss_of=loss, store=store, plan=plan).run()


for line in sys.stdin:
    run = os.fork()
    if run == 0:
        os._exit(0 if train(Path(line.strip())).finished else 3)
    tell(f"run {run}")
    tell(f"ended {os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])}")
"""


class Runs:
    """Starts runs in processes of their own and signals them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, work: Path, *, signal_at: int | None = None, number: int = signal.SIGKILL) -> int:
        """Run until the end, or until a signal after so many events; the exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{work}\n")
        self._process.stdin.flush()
        pid, events = 0, 0
        for line in self._process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "ended":
                return int(rest)
            if word == "run":
                pid = int(rest)
            else:
                events += 1
            if signal_at is not None and pid and events >= signal_at:
                os.kill(pid, number)
                signal_at = None
        raise AssertionError("the process that starts runs has ended")


@contextmanager
def process_of_runs(*, hash_seed: int) -> Iterator[Runs]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONHASHSEED": str(hash_seed),
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Runs(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with process_of_runs(hash_seed=1) as started:
        yield started


@pytest.fixture(scope="module")
def straight(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("straight")
    assert runs.run(work) == 0
    return work


def test_twenty_kills_at_random_moments_change_no_bit(runs: Runs, straight: Path, tmp_path: Path) -> None:
    chance = random.Random(11)
    codes = [runs.run(tmp_path, signal_at=chance.randint(1, EVENTS_BETWEEN)) for _ in range(KILLS)]
    assert codes == [-signal.SIGKILL] * KILLS
    assert runs.run(tmp_path) == 0
    assert outcome(tmp_path) == outcome(straight)


def test_stops_by_sigterm_change_no_bit(runs: Runs, straight: Path, tmp_path: Path) -> None:
    chance = random.Random(12)
    codes = [
        runs.run(tmp_path, signal_at=chance.randint(1, EVENTS_BETWEEN), number=signal.SIGTERM)
        for _ in range(STOPS)
    ]
    assert codes == [3] * STOPS
    assert runs.run(tmp_path) == 0
    assert outcome(tmp_path) == outcome(straight)


def test_invariant_19_a_run_is_the_same_in_every_process(straight: Path, tmp_path: Path) -> None:
    with process_of_runs(hash_seed=2) as others:
        assert others.run(tmp_path) == 0
    assert outcome(tmp_path) == outcome(straight)

"""An evaluation that is killed goes on where it was and comes to the same result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from molmo2_ground.eval.predictions import read_predictions
from molmo2_ground.eval.record import PREDICTIONS, SCORES
from molmo2_ground.eval.runner import evaluate
from tests.fake_suite import FakeSuite, finder

pytestmark = pytest.mark.slow  # each run is a process of its own

COUNT = 20
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

# The model itself ends the run, in the middle of an answer: no clock decides where.
SCRIPT = """
import sys
from pathlib import Path
from molmo2_ground.eval.runner import evaluate
from tests.fake_suite import FakeSuite, finder

if __name__ == "__main__":
    out, log, kills_at, workers, how = sys.argv[1:]
    candidate = finder(
        log=Path(log),
        kills_at=int(kills_at) or None,
        kills_parent=int(workers) > 1,
        interrupts=how == "ctrl-c",
    )
    try:
        evaluate(FakeSuite(count={count}), candidate, Path(out), workers=int(workers))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(str(argument) for argument in arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,  # a terminal's Ctrl-C reaches all processes of it, and this one is not ours
    )


@pytest.mark.parametrize(
    ("workers", "count", "kills", "again"),
    [
        # The second of three groups is killed after 4 of its 16 examples, and once more after 10.
        pytest.param(1, COUNT, (20, 30), 4 + 10, id="one-worker"),
        # Each may be in a group of its own: at most all that had been asked by then. However the first 20
        # are shared out, 64 or more of 80 are still to be asked, and 50 are more than what is asked again.
        pytest.param(2, 2 * COUNT, (20, 70), 70, id="two-workers"),
    ],
)
def test_killed_twice_the_result_is_the_same(
    workers: int, count: int, kills: tuple[int, int], again: int, tmp_path: Path
) -> None:
    script, log, out = tmp_path / "run.py", tmp_path / "log", tmp_path / "out"
    script.write_text(SCRIPT.format(count=count))
    codes, kept = [], []
    for kills_at in (*kills, 0):
        done = run(script, out, log, kills_at, workers, "kill")
        codes.append(done.returncode)
        kept.append(len(read_predictions(out / PREDICTIONS)))
        assert (out / SCORES).exists() == (kills_at == 0), done.stderr
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert 0 < kept[0] < kept[1] < kept[2] == 2 * count
    # What a kill found unfinished is asked again, a group a process, and nothing else; a worker may have got
    # a word further before it noticed.
    asked = len(log.read_text().splitlines())
    assert asked == 2 * count + again if workers == 1 else asked <= 2 * count + again + 2 * workers
    straight = evaluate(FakeSuite(count=count), finder(), tmp_path / "straight")
    assert (out / SCORES).read_bytes() == (straight.folder / SCORES).read_bytes()
    assert sorted(os.listdir(out)) == ["predictions.jsonl", "run.json", "scores.jsonl"]


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_every_process_without_a_traceback(workers: int, tmp_path: Path) -> None:
    script, log, out = tmp_path / "run.py", tmp_path / "log", tmp_path / "out"
    script.write_text(SCRIPT.format(count=COUNT))
    # Output of the workers goes to the same pipe: it ends when the last of them has ended.
    done = run(script, out, log, 9, workers, "ctrl-c")
    assert (done.returncode, done.stderr) == (130, "")
    assert os.listdir(out) == ["predictions.jsonl"]
    assert 0 < len(read_predictions(out / PREDICTIONS)) < 2 * COUNT

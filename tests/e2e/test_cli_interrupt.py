"""Ctrl-C, a polite kill and a reader that leaves: the right exit code, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from molmo2_ground.export import read_result
from molmo2_ground.model.random_checkpoint import write_random_checkpoint
from molmo2_ground.replay import derive, differences
from tests.made_up_rows import row_folder, track_row
from tests.media import Shelf, constant_rate
from tests.waiting import eventually

pytestmark = pytest.mark.slow  # each test starts the command as a process of its own

# The command with recorded answers in place of a model, which a signal finds in the middle of its work.
COMMAND = """
import sys
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.cli import main
from molmo2_ground.grounder import Grounder

answer = '<tracks coords="0.0 1 500 250;0.5 1 600 250">the red car</tracks>'
sys.exit(main(sys.argv[1:], loader=lambda *_, **__: Grounder(ScriptedBackend([answer]))))
"""

# The same for a long video: a model that sees six frames, and waits for a signal in its third window, which
# it names first. It is the test that sends the signal, so nothing is guessed about time.
LONG_COMMAND = """
import signal, sys
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.cli import main
from molmo2_ground.grounder import Grounder
from molmo2_ground.model.limits import ModelLimits

class Waiting(ScriptedBackend):
    def next_answer(self, prompt, clip):
        if len(self.prompts) == 2:
            print("third window", file=sys.stderr, flush=True)
            signal.pause()
        return super().next_answer(prompt, clip)

answer = '<tracks coords="0.0 1 500 250;0.5 1 500 250;2.0 1 500 250;2.5 1 500 250">the red car</tracks>'
limits = ModelLimits(max_frames=6, max_fps=2.0, max_crops=8, context_tokens=36864)
sys.exit(main(sys.argv[1:], loader=lambda *_, **__: Grounder(Waiting([answer] * 1000, limits=limits))))
"""

# A script of somebody who wants what was found by then.
LONG_SCRIPT = """
import sys
import molmo2_ground as mg
try:
    Grounder(Waiting([answer] * 1000, limits=limits)).track(sys.argv[2], "the red car")
except mg.Interrupted as stop:
    print(stop.partial[0].last.time_s)
    sys.exit(7)
"""

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGINT, 130, id="ctrl-c"), pytest.param(signal.SIGTERM, 143, id="kill")],
)
def test_a_signal_while_drawing_leaves_no_half_written_file(
    number: signal.Signals, code: int, media: Shelf, tmp_path: Path
) -> None:
    video = media(constant_rate, frame_count=1800)
    arguments = ["track", str(video), "the red car", "--json", "tracks.json", "-o", "annotated.mp4"]
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stderr is not None
        # The result file is written before the drawing starts.
        assert process.stderr.readline() == "wrote tracks.json\n"
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait() == code
    assert "Traceback" not in rest
    assert os.listdir(tmp_path) == ["tracks.json"]


def test_a_signal_to_all_processes_of_a_training_run_saves_it(media: Shelf, tmp_path: Path) -> None:
    rows = row_folder(media, tmp_path / "rows", track_row())
    model = write_random_checkpoint(tmp_path / "model", kind="qwen")
    words = ["--model", str(model), "--out", str(tmp_path / "out"), "--workers", "2"]
    words += ["--steps", "10000", "--rows-a-step", "1", "--tokens", "400"]
    with subprocess.Popen(
        [sys.executable, "-m", "molmo2_ground", "train", "finetune", str(rows), *words],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,  # a group of its own, to be signalled as `timeout` and schedulers do
    ) as process:
        log = tmp_path / "out-work" / "log.jsonl"
        assert eventually(
            lambda: log.exists() and log.stat().st_size,
            within_s=120,
            unless=lambda: process.poll() is not None,
        )
        os.killpg(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped by SIGTERM after step" in said
    assert len(list((tmp_path / "out-work" / "snapshots").glob("step-*"))) == 1


def long_run(command: str, arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """A process in the middle of its third window."""
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "third window\n"
    return process


def test_ctrl_c_in_a_long_video_writes_what_was_found_by_then(media: Shelf, tmp_path: Path) -> None:
    video = media(constant_rate, frame_count=300)
    arguments = ["track", str(video), "the red car", "--json", "tracks.json", "--html", "page.html"]
    with long_run(LONG_COMMAND, arguments, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in rest
    said = "interrupted; the video was looked at up to 4.5 s of 30.0 s"
    assert rest.splitlines()[1] == f"molmo2-ground: {said}; objects kept: 1 (Ctrl-C again drops them)"
    assert rest.splitlines()[-2:] == ["wrote tracks.json", "wrote page.html"]
    assert out == "#1 the red car: 0.0 s (48, 16) to 4.5 s (48, 16), 6 samples\n"
    kept = read_result(tmp_path / "tracks.json")
    assert kept.receipt.notes[-1] == said
    assert len(kept.receipt.windows) == 2
    assert differences(kept, derive(kept.receipt)) == ()
    assert sorted(os.listdir(tmp_path)) == ["page.html", "tracks.json"]


def test_a_second_ctrl_c_stops_at_once(media: Shelf, tmp_path: Path) -> None:
    video = media(constant_rate, frame_count=600)
    arguments = ["track", str(video), "the red car", "--json", "tracks.json", "-o", "annotated.mp4"]
    with long_run(LONG_COMMAND, arguments, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        # What is drawn comes after the result file.
        while process.stderr.readline() != "wrote tracks.json\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.split() == ["molmo2-ground:", "interrupted"]
    assert os.listdir(tmp_path) == ["tracks.json"]


def test_a_python_caller_gets_what_was_found_with_the_interrupt(media: Shelf, tmp_path: Path) -> None:
    video = media(constant_rate, frame_count=300)
    script = LONG_COMMAND.rsplit("\n", 2)[0] + LONG_SCRIPT
    with long_run(script, ["track", str(video)], tmp_path) as process:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
    assert process.returncode == 7
    assert out == "4.5\n"


def test_a_python_caller_who_does_not_ask_is_interrupted(media: Shelf, tmp_path: Path) -> None:
    video = media(constant_rate, frame_count=300)
    script = (LONG_COMMAND.rsplit("\n", 2)[0] + LONG_SCRIPT).replace("mg.Interrupted", "mg.GroundError")
    with long_run(script, ["track", str(video)], tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate()
    assert process.returncode == 1
    assert "Interrupted: interrupted; the video was looked at up to 4.5 s of 30.0 s" in rest


def test_a_reader_that_has_seen_enough_is_no_traceback(media: Shelf, tmp_path: Path) -> None:
    arguments = ["track", str(media(constant_rate)), "the red car"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == ""

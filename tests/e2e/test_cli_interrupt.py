"""Ctrl-C, a polite kill and a reader that leaves: the right exit code, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media import Shelf, constant_rate

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

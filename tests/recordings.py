"""Recordings of made-up updates, and a process of their own to be interrupted and killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from molmo2_ground.clip import RgbArray
from molmo2_ground.live.recording import Contents
from molmo2_ground.live.update import Update
from tests.live_updates import QUESTIONS, ticking

PASSWORD = "p@/ss#w?rd"
MANIFEST = {"model": "tiny", "address": f"rtsp://me:{PASSWORD}@camera/door?token=s3cret"}

# Clocks that go a quarter of a second an update: what is put away every two seconds is so every eighth.
_CHILD = """
import sys
from pathlib import Path
from molmo2_ground.integrations.recording import recorder_for
from molmo2_ground.live.recording import Contents
from tests.live_updates import QUESTIONS, ticking, toy_updates
contents = Contents(questions=lambda: QUESTIONS, clocks=ticking(step_ns=250_000_000), pictures=sys.argv[2])
with recorder_for(Path(sys.argv[1]), contents=contents, wait=True) as recorder:
    for update in toy_updates(100_000):
        recorder.write(update)
        print(update.seq, flush=True)
"""


def contents() -> Contents:
    return Contents(questions=lambda: QUESTIONS, clocks=ticking(), manifest=MANIFEST)


def close_to(shown: RgbArray, update: Update) -> bool:
    """Whether a decoded picture is the update's, but for what coding takes off it."""
    meant = update.capture.paint()
    height_px, width_px = meant.shape[:2]
    return float(np.abs(shown[:height_px, :width_px].astype(int) - meant).mean()) < 5


class RecordingProcess:
    """A process that records without end, until it is sent something."""

    def __init__(self, path: Path, *, pictures: str = "every") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), pictures],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )

    def after(self, updates: int, send: int) -> int:
        """Send a signal once so many updates were handed over; return how many were when it had ended."""
        assert self._process.stdout is not None
        written = 0
        for line in self._process.stdout:
            written = int(line) + 1
            if written == updates:
                self._process.send_signal(send)
        self._process.wait(60)
        self._process.stdout.close()
        assert self._process.stderr is not None
        self.complaint = self._process.stderr.read()
        self._process.stderr.close()
        return written

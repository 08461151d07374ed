"""Memory does not grow with the length of a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.media import write_video

# In a process of its own, because the peak of a process never falls.
_MEASURE = """
import resource, sys
from molmo2_ground.sources import iter_frames, open_clip, open_windows

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def small(rgb):
    return rgb[::40, ::40].copy()

def read(path):
    assert open_clip(path, resize=small).lost == ()
    for window in open_windows(path, rate=10, window_frames=8, overlap_frames=2, resize=small):
        assert len(window) <= 8
    for frame in iter_frames(path):
        pass

short, long = sys.argv[1:]
read(short)
before = peak_mb()
read(long)
print(peak_mb() - before)
"""


@pytest.mark.slow
def test_ten_times_the_frames_take_no_more_memory(tmp_path: Path) -> None:
    short, long = tmp_path / "short.mp4", tmp_path / "long.mp4"
    for path, frame_count in ((short, 60), (long, 600)):
        write_video(path, frame_count=frame_count, size_px=(320, 240), b_frames=2)
    command = [sys.executable, "-c", _MEASURE, str(short), str(long)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # The 540 frames more are 124 MB as RGB and 62 MB as they leave the decoder.
    assert float(done.stdout) < 12

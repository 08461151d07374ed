"""The command's peak memory does not grow with the length of a video."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from molmo2_ground.model.random_checkpoint import write_random_checkpoint
from tests.media import write_video

pytestmark = pytest.mark.slow

SIZE_PX, FPS = (1280, 720), 10
# A process of its own, because the peak of a process never falls. The random model's answers are nonsense,
# so the command ends with 1 after it has looked at every window.
MEASURE = """
import resource, sys
from molmo2_ground.cli import main
assert main(sys.argv[1:]) == 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def repeat(source: Path, target: Path, *, times: int) -> None:
    """The same pictures `times` times over, without encoding them again."""
    with av.open(str(source)) as one, av.open(str(target), "w") as many:
        stream = one.streams.video[0]
        copy = many.add_stream_from_template(stream)
        assert stream.duration is not None
        for number in range(times):
            one.seek(0)
            for packet in one.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts, packet.dts = (t + number * stream.duration for t in (packet.pts, packet.dts))
                packet.stream = copy
                many.mux(packet)


def peak_mb(video: Path, checkpoint: Path) -> float:
    arguments = ["track", str(video), "the red car", "--model", str(checkpoint), "--max-new-tokens", "16"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments, "--quiet", "--device", "cpu"],
        # One thread: with more the peak also depends on which of them allocates what.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no place could be read" in done.stderr
    return float(done.stdout)


def test_eight_times_the_video_takes_no_more_memory(tmp_path: Path) -> None:
    short, long = tmp_path / "short.mp4", tmp_path / "long.mp4"
    write_video(short, frame_count=20 * FPS, fps=FPS, size_px=SIZE_PX, keyframe_every=50)
    repeat(short, long, times=8)
    checkpoint = write_random_checkpoint(tmp_path / "model")
    # 140 s more are 280 frames for the model: 774 MB as RGB. What may grow is the text of the answers.
    assert peak_mb(long, checkpoint) - peak_mb(short, checkpoint) < 60

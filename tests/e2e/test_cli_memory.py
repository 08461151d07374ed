"""Peak memory does not grow with the length of a video, neither the command's nor that of a Python caller."""

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
COMMAND = """
from molmo2_ground.cli import main
arguments = ["track", video, "the red car", "--model", model, "--max-new-tokens", "16"]
assert main([*arguments, "--quiet", "--device", "cpu"]) == 1
"""
CALL = """
import molmo2_ground as mg
try:
    mg.load(model, device="cpu").track(video, "the red car", decoding=mg.Decoding(max_new_tokens=16))
except mg.AnswerError as error:
    print(error, file=sys.stderr)
"""
MEASURE = "import resource, sys; video, model = sys.argv[1:]\n{}\n" + (
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
)


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


def peak_mb(script: str, video: Path, checkpoint: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(script), str(video), str(checkpoint)],
        # One thread: with more the peak also depends on which of them allocates what.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "before a place could be read" in done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("script", [pytest.param(COMMAND, id="command"), pytest.param(CALL, id="python")])
def test_eight_times_the_video_takes_no_more_memory(script: str, tmp_path: Path) -> None:
    short, long = tmp_path / "short.mp4", tmp_path / "long.mp4"
    write_video(short, frame_count=20 * FPS, fps=FPS, size_px=SIZE_PX, keyframe_every=50)
    repeat(short, long, times=8)
    checkpoint = write_random_checkpoint(tmp_path / "model")
    # 140 s more are 280 frames for the model: 774 MB as RGB. What may grow is the text of the answers.
    assert peak_mb(script, long, checkpoint) - peak_mb(script, short, checkpoint) < 60

"""Peak memory of tracking in 20 seconds and in 20 minutes of 1080p video, by the command and from Python.

Usage: python benchmarks/track_memory.py [MODEL]   (default: a random checkpoint in the released layout)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

SIZE_PX, FPS = (1920, 1080), 30
SHORT_S, REPEATS = 20, 60


def write_short(path: Path) -> None:
    """A red square that moves over a flat ground, `SHORT_S` seconds."""
    width, height = SIZE_PX
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "35"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(SHORT_S * FPS):
            rgb = np.full((height, width, 3), 110, dtype=np.uint8)
            left = number * 7 % (width - 200)
            rgb[600:700, left : left + 200] = (200, 30, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))


def repeat(source: Path, target: Path) -> None:
    """The same pictures `REPEATS` times over, without encoding them again."""
    with av.open(str(source)) as one, av.open(str(target), "w") as many:
        stream = one.streams.video[0]
        copy = many.add_stream_from_template(stream)
        assert stream.duration is not None
        for number in range(REPEATS):
            one.seek(0)
            for packet in one.demux(stream):
                if packet.dts is not None and packet.pts is not None:
                    packet.pts += number * stream.duration
                    packet.dts += number * stream.duration
                    packet.stream = copy
                    many.mux(packet)


COMMAND = "from molmo2_ground.cli import main; main(['track', video, 'the red square', *options])"
# From Python nothing tells malloc what to keep.
CALL = """
import molmo2_ground as mg
try:
    mg.track(video, 'the red square', model=model, decoding=mg.Decoding(max_new_tokens=64))
except mg.AnswerError:
    pass  # nonsense of a random model
"""
PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"


def peak_mb(script: str, video: Path, model: str) -> float:
    """Of a process that does nothing else."""
    options = ["--quiet", "--json", os.devnull, "--model", model, "--max-new-tokens", "64"]
    head = f"video, model, options = {str(video)!r}, {model!r}, {options!r}"
    code = "\n".join([head, script, PEAK])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print both peaks, both ways."""
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        write_short(short)
        repeat(short, long)
        if len(sys.argv) > 1:
            model = sys.argv[1]
        else:
            from molmo2_ground.model.random_checkpoint import write_random_checkpoint

            model = str(write_random_checkpoint(Path(folder) / "model"))
        print("            command    Python")
        for name, video in (("20 seconds", short), ("20 minutes", long)):
            command, call = (peak_mb(script, video, model) for script in (COMMAND, CALL))
            print(f"{name}  {command:6.0f} MB {call:6.0f} MB", flush=True)


if __name__ == "__main__":
    main()

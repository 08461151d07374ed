"""Peak memory of `molmo2-ground track` on 20 seconds and on 20 minutes of 1080p video.

Usage: python benchmarks/track_memory.py [MODEL]   (default: a random checkpoint in the released layout)
"""

from __future__ import annotations

import resource
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


def peak_mb(video: Path, model: str) -> float:
    """Of one run of the command; a child's peak only counts when it is the highest so far."""
    command = [sys.executable, "-m", "molmo2_ground", "track", str(video), "the red square", "--quiet"]
    # An answer of a random model cannot be read, so exit 1 is as good as 0.
    subprocess.run([*command, "--model", model, "--max-new-tokens", "64"], capture_output=True, check=False)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    """Print both peaks."""
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        write_short(short)
        repeat(short, long)
        if len(sys.argv) > 1:
            model = sys.argv[1]
        else:
            from molmo2_ground.model.random_checkpoint import write_random_checkpoint

            model = str(write_random_checkpoint(Path(folder) / "model"))
        print(f"20 seconds  {peak_mb(short, model):6.0f} MB")
        print(f"20 minutes  {peak_mb(long, model):6.0f} MB", flush=True)


if __name__ == "__main__":
    main()

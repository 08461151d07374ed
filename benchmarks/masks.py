"""What masks cost: time for a frame and an object beside decoding the same file, and memory over long videos.

`python benchmarks/masks.py [--segmenter region] [--seconds 4] [--no-memory]`.

A toy clip is written at 640 x 360 and, enlarged, at 1920 x 1080, 30 frames a second; 1 and 5 of its things
are pointed to where they really are, twice a second. Every column is measured side by side in this one run,
on one thread, and times are ratios to reading the same file frame by frame; milliseconds are for this
machine. Peak memory is that of a fresh process over videos of 300 and 1,500 frames, above what it held when
the libraries were imported (Linux). Exits with 1 when the longer video takes more than 20 MiB more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2

from molmo2_ground.clip import Frame
from molmo2_ground.masks.choice import segmenter_named
from molmo2_ground.masks.prompts import PointPrompt, Prompts
from molmo2_ground.masks.propagation import Propagation
from molmo2_ground.results import Receipt
from molmo2_ground.sources import iter_frames
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.street import make_scene

FPS = 30
LOOK_EVERY = 15
SIZES = ((640, 360), (1920, 1080))
OBJECTS = (1, 5)
FRAMES = (300, 1500)
MOST_GROWTH_MIB = 20.0


def main() -> int:
    """Measure, print one table, and say whether memory stays flat."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segmenter", default="region")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the clips that are timed")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--walk", nargs=2, metavar=("VIDEO", "FRAMES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.walk is not None:
        return walk_long(arguments.segmenter, Path(arguments.walk[0]), int(arguments.walk[1]))
    with tempfile.TemporaryDirectory() as folder:
        scene = busy_scene(arguments.seconds)
        print(
            f"{'picture':>12} {'objects':>8} {'decode':>12} {'masks':>12} {'of decode':>10} {'an object':>12}"
        )
        for size_px in SIZES:
            path = Path(folder) / f"{size_px[0]}.mp4"
            write(scene, path, size_px)
            for objects in OBJECTS:
                time_one(arguments.segmenter, scene, path, size_px, objects)
        if arguments.no_memory:
            return 0
        return memory(arguments.segmenter, Path(folder) / f"{SIZES[0][0]}.mp4")


def busy_scene(duration_s: float) -> Scene:
    """The first scene with as many things in sight all the time as are asked for."""
    for seed in range(200):
        scene = make_scene(seed, duration_s=duration_s)
        if len(always_seen(scene)) >= max(OBJECTS):
            return scene
    raise SystemExit("no scene of the first 200 shows five things all the time; take a shorter clip")


def always_seen(scene: Scene) -> list[int]:
    """Ids of the things that are visible at every look."""
    looks = [i / FPS for i in range(0, round(scene.duration_s * FPS), LOOK_EVERY)]
    shown = [{s.object_id for s in scene.truth(t, scene.render(t)[1]) if s.visible} for t in looks]
    return sorted(set.intersection(*shown))


def write(scene: Scene, path: Path, size_px: tuple[int, int]) -> None:
    """The scene as H.264 at this size."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "veryfast"})
        video.width, video.height = size_px
        video.pix_fmt = "yuv420p"
        for index in range(round(scene.duration_s * FPS)):
            rgb = scene.render(index / FPS)[0]
            if size_px != (rgb.shape[1], rgb.shape[0]):
                rgb = cv2.resize(rgb, size_px, interpolation=cv2.INTER_CUBIC)  # type: ignore[assignment]
            container.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(video.encode(None))


def prompts_of(scene: Scene, size_px: tuple[int, int], objects: int) -> Prompts:
    """Where the first so many things are at every look."""
    scale = size_px[0] / SIZES[0][0]
    wanted = always_seen(scene)[:objects]
    looked = tuple(range(0, round(scene.duration_s * FPS), LOOK_EVERY))
    points = tuple(
        PointPrompt(object_id=s.object_id, source_index=i, x_px=s.x_px * scale, y_px=s.y_px * scale)
        for i in looked
        for s in scene.truth(i / FPS, scene.render(i / FPS)[1])
        if s.object_id in wanted
    )
    return Prompts(points=points, labels=dict.fromkeys(wanted, ""), looked=looked, receipt=receipt(size_px))


def receipt(size_px: tuple[int, int]) -> Receipt:
    """Of points that nobody answered."""
    return Receipt(
        task="track", query="", model_id="truth", backend="truth", recipe="", prompt="", raw_text="",
        stop_reason="", source="", frame_times_s=(), shown_times_s=(), frame_source_indices=(),
        size_px=size_px,
    )  # fmt: skip


def time_one(name: str, scene: Scene, path: Path, size_px: tuple[int, int], objects: int) -> None:
    """Print one line."""
    prompts = prompts_of(scene, size_px, objects)
    began = time.perf_counter()
    count = sum(1 for _ in iter_frames(path))
    decode_s = time.perf_counter() - began
    segmenter = segmenter_named(name)
    began = time.perf_counter()
    for _ in Propagation(segmenter, prompts).run(iter_frames(path)):
        pass
    masks_s = time.perf_counter() - began - decode_s
    print(
        f"{f'{size_px[0]}x{size_px[1]}':>12} {objects:>8} {1000 * decode_s / count:>9.1f} ms"
        f" {1000 * masks_s / count:>9.1f} ms {masks_s / decode_s:>9.1f}x"
        f" {1000 * masks_s / count / objects:>9.1f} ms"
    )


def memory(name: str, path: Path) -> int:
    """Print the peak for each length; 1 when it grows."""
    peaks = []
    for count in FRAMES:
        command = [sys.executable, __file__, "--segmenter", name, "--walk", str(path), str(count)]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(float(found.stdout))
        print(f"peak memory over {count:>5} frames: {peaks[-1]:8.1f} MiB")
    return int(peaks[-1] - peaks[0] > MOST_GROWTH_MIB)


def walk_long(name: str, path: Path, count: int) -> int:
    """In a process of its own: print the peak over a video of so many frames, two things followed."""
    width, height = SIZES[0]
    looked = tuple(range(0, count, LOOK_EVERY))
    points = tuple(
        PointPrompt(object_id=i, source_index=index, x_px=width * i / 3, y_px=height / 2)
        for index in looked
        for i in (1, 2)
    )
    prompts = Prompts(points=points, labels={1: "", 2: ""}, looked=looked, receipt=receipt(SIZES[0]))
    segmenter = segmenter_named(name)
    before_mib = peak_mib()
    for _ in Propagation(segmenter, prompts).run(repeated(path, count)):
        pass
    print(peak_mib() - before_mib)
    return 0


def peak_mib() -> float:
    """The most memory that this process ever held; `getrusage` would begin with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def repeated(path: Path, count: int) -> Iterator[Frame]:
    """The video over and over, as one of so many frames."""
    index = 0
    while True:
        for frame in iter_frames(path):
            if index == count:
                return
            time_s = index / FPS
            yield Frame(
                rgb=frame.rgb,
                width_px=frame.width_px,
                height_px=frame.height_px,
                source_index=index,
                time_s=time_s,
                shown_time_s=time_s,
            )
            index += 1


if __name__ == "__main__":
    sys.exit(main())

"""A 1080p film with five objects and their masks, drawn and written: time a frame, frames a second, memory.

`python benchmarks/render.py [--seconds 10] [--long 60] [--rounds 3]`. Linux. The film (1920×1080, 30 frames a
second, H.264) is a toy street drawn larger, with grain; its masks are exact, stored as run lengths.

- Drawing alone: `Painter.paint_over` on frames in memory, without masks and with them, CPU time a frame.
- Masks alone: ours, from run lengths to the painted picture, against supervision's `MaskAnnotator`, which is
  handed the masks decoded and their boxes, and with `PolygonAnnotator` for the outlines; the same frames in
  turns, the best round of each. Decoding the masks whole, which supervision needs, has a line of its own.
- RGB to the planes that H.264 stores: ours against FFmpeg's conversion.
- The whole file: `render` from file to file, wall and CPU time, against a plain loop of PyAV that decodes to
  RGB and encodes again with FFmpeg's conversion and the preset veryfast as it is, and draws nothing.
- Peak memory of a fresh process that renders `--seconds` and `--long` of film, above what it holds when the
  result and the masks are read.

Wall time depends on what else the machine does, so CPU time stands beside it: with every core busy, a frame
takes CPU time divided by cores at best. Exits with 1 when a mask is not painted as `MaskAnnotator` paints it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.render import Painter, colour_of, render
from molmo2_ground.render.planes import Planes
from molmo2_ground.render.silhouette import Silhouette, trace
from molmo2_ground.results import Mask, Masks, Receipt, Sample, Track, Tracks
from molmo2_ground.rle import Rle
from molmo2_ground.sources import iter_frames
from molmo2_ground.train.toy.street import make_scene

WIDTH_PX, HEIGHT_PX, FPS = 1920, 1080, 30
OBJECTS = 5
FRAMES_IN_MEMORY = 30
LOOKS_A_SECOND = 2
OPACITY = 0.38  # as render.silhouette.FILL_SHARE


def made(folder: Path, *, seconds: float) -> tuple[Path, Tracks, Masks]:
    """Write the film and give its tracks and masks."""
    scene = make_scene(11, duration_s=seconds)
    rng = np.random.default_rng(5)
    grain = rng.normal(6, 3, (HEIGHT_PX + 256, WIDTH_PX + 256)).clip(0, 255).astype(np.uint8)
    samples: dict[int, list[Sample]] = {}
    masks: list[Mask] = []
    path = folder / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        stream.bit_rate, stream.codec_context.max_b_frames = 6_000_000, 0
        for number in range(round(seconds * FPS)):
            small, ids = scene.render(number / FPS)
            large = cv2.resize(small, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
            planes = np.asarray(cv2.cvtColor(large, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
            top, left = (int(place) for place in rng.integers(0, 256, 2))
            light = planes[:HEIGHT_PX]
            cv2.add(light, grain[top : top + HEIGHT_PX, left : left + WIDTH_PX], dst=light)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
            look = number % (FPS // LOOKS_A_SECOND) == 0
            for state in scene.truth(number / FPS, ids):
                if not state.visible:
                    continue
                if look:
                    samples.setdefault(state.object_id, []).append(
                        sample(number, state.x_px / 640, state.y_px / 360)
                    )
                dense = cv2.resize((ids == state.object_id).astype(np.uint8), (WIDTH_PX, HEIGHT_PX))
                masks.append(mask(number, state.object_id, np.asarray(dense) > 0, observed=look))
        container.mux(stream.encode(None))
    kept = sorted(samples, key=lambda object_id: -len(samples[object_id]))[:OBJECTS]
    labels = {actor.object_id: f"{actor.colour} {actor.kind}" for actor in scene.actors}
    tracks = tuple(
        Track(object_id=object_id, label=labels[object_id], samples=tuple(samples[object_id]))
        for object_id in sorted(kept)
    )
    about = receipt(seconds)
    return (
        path,
        Tracks(tracks=tracks, receipt=about),
        Masks(
            masks=tuple(one for one in masks if one.object_id in kept),
            labels={object_id: labels[object_id] for object_id in kept},
            segmenter="exact",
            receipt=about,
        ),
    )


def sample(number: int, x_norm: float, y_norm: float) -> Sample:
    """A sighting in frame `number`."""
    return Sample(
        time_s=number / FPS,
        source_index=number,
        x_px=x_norm * WIDTH_PX,
        y_px=y_norm * HEIGHT_PX,
        x_norm=x_norm,
        y_norm=y_norm,
    )


def mask(number: int, object_id: int, dense: np.ndarray, *, observed: bool) -> Mask:
    """A mask in frame `number`."""
    counts = Rle.encode(dense).counts
    assert isinstance(counts, bytes)
    return Mask(
        object_id=object_id,
        source_index=number,
        time_s=number / FPS,
        size_px=(WIDTH_PX, HEIGHT_PX),
        counts=counts.decode("ascii"),
        state="observed" if observed else "propagated",
    )


def receipt(seconds: float) -> Receipt:
    """Of a model that looked twice a second."""
    looks = tuple(i / LOOKS_A_SECOND for i in range(round(seconds * LOOKS_A_SECOND)))
    return Receipt(
        task="track",
        query="everything that moves",
        model_id="exact",
        backend="scripted",
        recipe="benchmark/1",
        prompt="",
        raw_text="",
        stop_reason="end",
        source="film.mp4",
        frame_times_s=looks,
        shown_times_s=looks,
        frame_source_indices=tuple(round(time_s * FPS) for time_s in looks),
        size_px=(WIDTH_PX, HEIGHT_PX),
        source_fps=float(FPS),
    )


def longer(path: Path, tracks: Tracks, masks: Masks, *, times: int) -> tuple[Path, Tracks, Masks]:
    """The film, and what is known of it, so many times one after another."""
    out = path.with_name("long.mp4")
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        assert video.time_base is not None
        length = round(Fraction(video.frames, FPS) / video.time_base)
        for turn in range(times):
            source.seek(0)
            for packet in source.demux(video):
                if packet.pts is not None and packet.dts is not None:
                    packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                    packet.stream = copy
                    target.mux(packet)
    frames = [turn * video.frames for turn in range(times)]
    about = receipt(times * video.frames / FPS)

    def moved(one: Any, by: int) -> Any:
        place = {"source_index": one.source_index + by, "time_s": one.time_s + by / FPS}
        return one.model_copy(update=place)

    long_tracks = tuple(
        one.model_copy(update={"samples": tuple(moved(s, by) for by in frames for s in one.samples)})
        for one in tracks
    )
    long_masks = tuple(moved(one, by) for by in frames for one in masks)
    return (
        out,
        Tracks(tracks=long_tracks, receipt=about),
        masks.model_copy(update={"masks": long_masks, "receipt": about}),
    )


def cpu_ms(work: Callable[[Frame], object], frames: Sequence[Frame]) -> float:
    """CPU milliseconds a frame; the frames' pixels are left as they were."""
    spent_s = 0.0
    for frame in frames:
        own = replace(frame, rgb=frame.rgb.copy())
        began = time.process_time()
        work(own)
        spent_s += time.process_time() - began
    return 1000 * spent_s / len(frames)


def silhouettes(masks: Masks, number: int) -> list[Silhouette]:
    """The masks of a frame, cut out."""
    made_of = (Silhouette.of(m, width_px=WIDTH_PX, height_px=HEIGHT_PX) for m in masks.in_frame(number))
    return [one for one in made_of if one is not None]


def our_masks(rgb: RgbArray, masks: Masks, number: int, *, outlined: bool) -> None:
    """Veils, and outlines two pixels wide."""
    found = silhouettes(masks, number)
    for one in found:
        one.fill(rgb, colour_of(one.object_id), share=OPACITY)
    for one in found if outlined else ():
        trace(rgb, one.outlines(), colour_of(one.object_id), width_px=2, edge_px=0)


class Supervision:
    """The same with supervision's annotators."""

    def __init__(self, ids: Sequence[int]) -> None:
        import supervision as sv

        self._sv, self._ids = sv, list(ids)
        # Its pictures are BGR.
        palette = sv.ColorPalette([sv.Color(*reversed(colour_of(object_id))) for object_id in ids])
        lookup = sv.ColorLookup.CLASS
        self._mask = sv.MaskAnnotator(color=palette, opacity=OPACITY, color_lookup=lookup)
        self._polygon = sv.PolygonAnnotator(color=palette, thickness=2, color_lookup=lookup)

    def detections(self, masks: Masks, number: int) -> Any:
        """The masks of a frame, decoded."""
        found = masks.in_frame(number)
        return self._sv.Detections(
            xyxy=np.array([one.box_px for one in found], dtype=np.float64),
            mask=np.stack([one.dense() for one in found]),
            class_id=np.array([self._ids.index(one.object_id) for one in found]),
        )

    def paint(self, rgb: RgbArray, detections: Any, *, outlined: bool) -> None:
        """Draw them."""
        self._mask.annotate(rgb, detections)
        if outlined:
            self._polygon.annotate(rgb, detections)


def drawing(film: Path, tracks: Tracks, masks: Masks, *, rounds: int) -> bool:
    """Print the table of drawing alone; True when both paint the same veils."""
    frames = []
    for frame in iter_frames(film):
        frames.append(frame)
        if len(frames) == FRAMES_IN_MEMORY:
            break
    bare, masked = Painter(tracks), Painter(tracks, masks=masks)
    theirs = Supervision(masks.object_ids)
    decoded = {frame.source_index: theirs.detections(masks, frame.source_index) for frame in frames}
    planes, ffmpeg = Planes(width_px=WIDTH_PX, height_px=HEIGHT_PX), VideoReformatter()
    works: dict[str, Callable[[Frame], object]] = {
        "dots": lambda f: bare.paint_over(f.rgb, time_s=f.time_s, source_index=f.source_index),
        "dots and masks": lambda f: masked.paint_over(f.rgb, time_s=f.time_s, source_index=f.source_index),
        "veils, ours": lambda f: our_masks(f.rgb, masks, f.source_index, outlined=False),
        "veils, supervision": lambda f: theirs.paint(f.rgb, decoded[f.source_index], outlined=False),
        "outlined, ours": lambda f: our_masks(f.rgb, masks, f.source_index, outlined=True),
        "outlined, supervision": lambda f: theirs.paint(f.rgb, decoded[f.source_index], outlined=True),
        "decoded, ours": lambda f: silhouettes(masks, f.source_index),
        "decoded, whole": lambda f: [one.dense() for one in masks.in_frame(f.source_index)],
        "planes, ours": lambda f: planes.frame(f.rgb),
        "planes, FFmpeg": lambda f: converted(ffmpeg, f.rgb),
    }
    turns = [{name: cpu_ms(work, frames) for name, work in works.items()} for _ in range(rounds)]
    best = {name: min(turn[name] for turn in turns) for name in works}
    print(f"{'CPU ms a frame':30} {'ours':>8} {'other':>8} {'ratio':>7}")
    for name in ("dots", "dots and masks"):
        print(f"{name:30} {best[name]:8.2f} {'':8} {1000 / best[name]:7.0f} frames a second")
    for name, other in (
        ("decoded", "whole"),
        ("veils", "supervision"),
        ("outlined", "supervision"),
        ("planes", "FFmpeg"),
    ):
        mine, its = best[f"{name}, ours"], best[f"{name}, {other}"]
        print(f"{f'{name}, against {other}':30} {mine:8.2f} {its:8.2f} {its / mine:7.2f}")
    first, second = (frames[-1].rgb.copy() for _ in range(2))
    our_masks(first, masks, frames[-1].source_index, outlined=False)
    theirs.paint(second, decoded[frames[-1].source_index], outlined=False)
    apart = np.abs(first.astype(int) - second).max(axis=2)
    print(f"veils that differ by more than rounding: {np.count_nonzero(apart > 2)} of {apart.size} pixels")
    return not (apart > 2).any()


def converted(ffmpeg: VideoReformatter, rgb: RgbArray) -> av.VideoFrame:
    """RGB to planes by FFmpeg."""
    return ffmpeg.reformat(
        av.VideoFrame.from_ndarray(rgb, format="rgb24"),
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
    )


def plain_copy(film: Path, out: Path) -> None:
    """Decode to RGB and encode again, with FFmpeg's own conversions."""
    back = VideoReformatter()
    with av.open(str(film)) as source, av.open(str(out), "w", options={"movflags": "+faststart"}) as target:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        copy = target.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"})
        copy.width, copy.height, copy.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        copy.codec_context.max_b_frames, copy.codec_context.gop_size = 0, 2 * FPS
        for frame in source.decode(stream):
            made_again = converted(back, np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8))
            made_again.pts, made_again.time_base = frame.pts, frame.time_base
            target.mux(copy.encode(made_again))
        target.mux(copy.encode(None))


def whole(film: Path, tracks: Tracks, masks: Masks, *, rounds: int) -> None:
    """Print the table of whole files."""
    out = film.with_name("out.mp4")
    works: dict[str, Callable[[], object]] = {
        "drawn, with masks": lambda: render(film, tracks, out, masks=masks),
        "drawn, dots only": lambda: render(film, tracks, out),
        "plain copy by PyAV": lambda: plain_copy(film, out),
    }
    count = sum(1 for _ in iter_frames(film))
    print(f"\n{'whole file':24} {'wall ms':>8} {'CPU ms':>8} {'fps':>6} {'MiB':>6}")
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            spent = (time.perf_counter() - wall, time.process_time() - cpu)
            found[name].append((*spent, out.stat().st_size / 2**20))
    for name, runs in found.items():
        wall_s, cpu_s, mib = (min(values) for values in zip(*runs, strict=True))
        a_frame = (1000 * wall_s / count, 1000 * cpu_s / count)
        print(f"{name:24} {a_frame[0]:8.1f} {a_frame[1]:8.1f} {count / wall_s:6.1f} {mib:6.1f}")


def status_mib(name: str) -> float:
    """A figure of this process's memory, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def own_peak(folder: Path, film: str) -> None:
    """Print this process's peak from file to file, MiB."""
    tracks = Tracks.model_validate_json((folder / f"{film}.tracks.json").read_text("utf-8"))
    masks = Masks.model_validate_json((folder / f"{film}.masks.json").read_text("utf-8"))
    masks.in_frame(0)  # the lookup by frame belongs to the masks
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far is forgotten
    before = status_mib("VmRSS")
    render(folder / film, tracks, folder / "peak.mp4", masks=masks)
    print(status_mib("VmHWM") - before)


def peak_mib(film: Path, tracks: Tracks, masks: Masks) -> float:
    """Peak of a fresh process, MiB."""
    for kind, value in (("tracks", tracks), ("masks", masks)):
        film.with_name(f"{film.name}.{kind}.json").write_text(value.model_dump_json(), "utf-8")
    command = [sys.executable, __file__, "--peak-of", str(film)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--long", type=float, default=60.0, help="for peak memory; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of is not None:
        own_peak(options.peak_of.parent, options.peak_of.name)
        return 0
    with tempfile.TemporaryDirectory() as name:
        film, tracks, masks = made(Path(name), seconds=options.seconds)
        in_frame = len(masks) / (options.seconds * FPS)
        print(
            f"{options.seconds:g} s of {WIDTH_PX}×{HEIGHT_PX} at {FPS}, {len(tracks)} objects, "
            f"{in_frame:.1f} masks a frame; {os.cpu_count()} cores; {time.strftime('%Y-%m-%d')}"
        )
        same = drawing(film, tracks, masks, rounds=options.rounds)
        whole(film, tracks, masks, rounds=options.rounds)
        short_mib = peak_mib(film, tracks, masks)
        print(f"\npeak memory, {options.seconds:g} s: {short_mib:.0f} MiB")
        if options.long:
            times = max(2, round(options.long / options.seconds))
            long_mib = peak_mib(*longer(film, tracks, masks, times=times))
            print(f"peak memory, {times * options.seconds:g} s: {long_mib:.0f} MiB")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

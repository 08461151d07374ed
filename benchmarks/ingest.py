"""A minute of 1080p film to tensors for the model, against bare decoding and the library's video processor.

`python benchmarks/ingest.py [--seconds 60] [--rounds 2] [--film FILE] [--torchvision FOLDER]`. Linux; all on
one core and one thread. The film (1920×1080, 30 frames a second, H.264) is a toy street drawn larger, with
grain, written to a temporary folder unless one is given. Two frames a second and the last one become tensors
at the released size, 378 pixels. Times are CPU time of user and system.

- Decoding: ours (true times, the search for losses, RGB of the wanted frames) against a plain loop of PyAV
  that makes the same frames RGB; half a second of film each in turn; the best round of each.
- After decoding: ours (resized as each frame comes, patches, token ids) against the library's, which is given
  the same decoded frames in one array; the best round of each.
- Peak memory: of a fresh process for each, from file to tensors, above what it holds when all is imported.

The library's processor needs torchvision, whose wheels do not import beside a CPU torch as they are. With
`--torchvision` (a folder from `pip install --no-deps --target FOLDER torchvision==0.28.0`) the processor
itself is measured. Without it the same torch steps are done one after another, and the output says so: the
whole video in float32 at its own size, bilinear without antialiasing, rounded, normalised, cut into float32
patches.

Exits with 1 when our frames differ from PyAV's or our tensors from the library's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch

from molmo2_ground.clip import RgbArray
from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.inputs import VisualInputs, visual_inputs
from molmo2_ground.model.random_checkpoint import byte_tokenizer, random_flags
from molmo2_ground.model.resize_plan import resize_frame
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.model.vision import normalised
from molmo2_ground.sources import SourceInfo, open_clip, probe
from molmo2_ground.sources.sampling import uniform_last_frame
from molmo2_ground.train.toy.street import make_scene

WIDTH_PX, HEIGHT_PX, FPS = 1920, 1080, 30
# A usual rate for such a film, bits a second; decoding takes longer the more there are.
BIT_RATE = 6_000_000
SAME_TIME_S = 1e-6
# Normalised pixels may differ by the last bit of a float32: the library folds two factors into one.
SAME_PIXEL = 1.2e-7
GOALS = {"decoding": 1.2, "after decoding": 4.0, "peak memory": 8.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryTensors:
    """What the library's video processor gives: float32[T, N, P], int64[tokens, K], int64[1, 3]."""

    pixels: torch.Tensor
    pooling: torch.Tensor
    grids: torch.Tensor


Process = Callable[[RgbArray], LibraryTensors]


def write_film(path: Path, *, seconds: float) -> None:
    """Write a street of 1920×1080 with things that move and the grain of a camera."""
    scene = make_scene(11, duration_s=seconds)
    rng = np.random.default_rng(5)
    grain = rng.normal(6, 3, (HEIGHT_PX + 256, WIDTH_PX + 256)).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "threads": "1"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        stream.bit_rate = BIT_RATE
        for number in range(round(seconds * FPS)):
            small = scene.render(number / FPS)[0]
            large = cv2.resize(small, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
            planes = np.asarray(cv2.cvtColor(large, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
            top, left = (int(place) for place in rng.integers(0, 256, 2))
            light = planes[:HEIGHT_PX]
            cv2.add(light, grain[top : top + HEIGHT_PX, left : left + WIDTH_PX], dst=light)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode(None))


def bare_frames(path: Path, wanted_s: Sequence[float]) -> Iterator[tuple[RgbArray, int]]:
    """The frames on screen at rising times, decoded with nothing but PyAV, and for how many times each."""
    left, shown = list(wanted_s), None
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            seen = 0
            while shown is not None and left and left[0] + SAME_TIME_S < frame.time:
                left.pop(0)
                seen += 1
            if shown is not None and seen:
                yield np.asarray(shown.to_ndarray(format="rgb24"), dtype=np.uint8), seen
            shown = frame
        if left and shown is not None:
            yield np.asarray(shown.to_ndarray(format="rgb24"), dtype=np.uint8), len(left)


def decoding(path: Path, wanted_s: Sequence[float]) -> tuple[float, float, int]:
    """CPU seconds of our decoding and of bare decoding, in turns, and how many frames differ."""
    bare, bare_s, between_s, differing = bare_frames(path, wanted_s), 0.0, 0.0, 0

    def take(rgb: RgbArray) -> RgbArray:
        nonlocal bare_s, between_s, differing
        began = time.process_time()
        other, _ = next(bare)
        bare_s += time.process_time() - began
        differing += not np.array_equal(rgb, other)
        between_s += time.process_time() - began
        return rgb[:1, :1].copy()

    began = time.process_time()
    open_clip(path, times=wanted_times, resize=take)
    all_s = time.process_time() - began
    assert next(bare, None) is None
    return all_s - between_s, bare_s, differing


def wanted_times(duration_s: float) -> npt.NDArray[np.float64]:
    """Two a second and the last one."""
    return uniform_last_frame(duration_s, max_frames=384)


def film_times(about: SourceInfo) -> list[float]:
    """The wanted times of a film, seconds."""
    assert about.duration_s is not None
    return [float(time_s) for time_s in wanted_times(about.duration_s)]


def settings() -> tuple[InputFlags, TextCodec]:
    """Input settings at the released size, and a small tokenizer."""
    tokenizer = byte_tokenizer()
    codec = TextCodec(tokenizer, bos_word="<|im_end|>", eos_word="<|im_end|>")
    return random_flags("qwen-4b", tokenizer=tokenizer), codec


def ours(path: Path, *, flags: InputFlags, codec: TextCodec) -> tuple[VisualInputs, float]:
    """Our tensors of a film, and CPU seconds of what comes after decoding."""
    side, resizing_s = flags.image_size_px, 0.0

    def resize(rgb: RgbArray) -> RgbArray:
        nonlocal resizing_s
        began = time.process_time()
        small = resize_frame(rgb, height_px=side, width_px=side)
        resizing_s += time.process_time() - began
        return small

    clip = open_clip(path, times=wanted_times, resize=resize)
    began = time.process_time()
    visual = visual_inputs(clip, codec=codec, flags=flags)
    assert visual is not None
    return visual, resizing_s + time.process_time() - began


def library(path: Path, about: SourceInfo, *, process: Process) -> tuple[LibraryTensors, float]:
    """The library's tensors, and CPU seconds of what comes after decoding."""
    wanted_s = film_times(about)
    frames, filled = np.empty((len(wanted_s), about.height_px, about.width_px, 3), dtype=np.uint8), 0
    for rgb, times in bare_frames(path, wanted_s):
        frames[filled : filled + times] = rgb
        filled += times
    began = time.process_time()
    tensors = process(frames)
    return tensors, time.process_time() - began


def librarys_processor(folder: Path, flags: InputFlags) -> Process:
    """`Molmo2VideoProcessor` itself, with a torchvision whose compiled part cannot be loaded."""
    sys.path.insert(0, str(folder))
    # Its Python part asks for the names of two operators when it is imported, and never calls them here.
    operators = torch.library.Library("torchvision", "DEF")
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from transformers.models.molmo2.video_processing_molmo2 import Molmo2VideoProcessor

    side = flags.image_size_px
    processor: Any = Molmo2VideoProcessor(
        size={"height": side, "width": side},
        image_mean=list(flags.pixel_mean),
        image_std=list(flags.pixel_std),
        patch_size=flags.patch_size_px,
        pooling_size=list(flags.video_pooling),
        do_rescale=True,
        do_normalize=True,
        do_convert_rgb=False,
    )

    def process(frames_thwc: RgbArray) -> LibraryTensors:
        assert operators is not None  # their names are forgotten with the object that defined them
        made = processor(videos=[frames_thwc], do_sample_frames=False, return_tensors="pt")
        return LibraryTensors(
            pixels=made["pixel_values_videos"],
            pooling=made["video_token_pooling"],
            grids=made["video_grids"],
        )

    return process


def librarys_steps(flags: InputFlags) -> Process:
    """The torch steps of `Molmo2VideoProcessor` 5.23, for where it cannot be imported."""
    side, patch = flags.image_size_px, flags.patch_size_px
    across = side // patch

    def process(frames_thwc: RgbArray) -> LibraryTensors:
        video = torch.from_numpy(frames_thwc).permute(0, 3, 1, 2).contiguous()
        resized = torch.nn.functional.interpolate(
            video.float(), size=(side, side), mode="bilinear", align_corners=False, antialias=False
        )
        resized = resized.round().clamp(0, 255).to(torch.uint8)
        mean = torch.tensor(flags.pixel_mean).mul(255.0).view(-1, 1, 1)
        std = torch.tensor(flags.pixel_std).mul(255.0).view(-1, 1, 1)
        pixels = resized.to(torch.float32).sub_(mean).div_(std).permute(0, 2, 3, 1)
        cut = pixels.reshape(-1, across, patch, across, patch, 3).transpose(2, 3)
        rows, cols = flags.frame_grid
        grid = torch.arange(across * across).reshape(rows, across // rows, cols, across // cols)
        windows = grid.permute(0, 2, 1, 3).reshape(1, rows * cols, -1)
        first = torch.arange(len(video)).view(-1, 1, 1) * across * across
        return LibraryTensors(
            pixels=cut.reshape(len(video), across * across, -1),
            pooling=(windows + first).reshape(-1, windows.shape[-1]),
            grids=torch.tensor([[len(video), rows, cols]]),
        )

    return process


def process_of(options: argparse.Namespace, flags: InputFlags) -> Process:
    """The processor itself where torchvision is at hand, else its steps."""
    if options.torchvision is None:
        return librarys_steps(flags)
    return librarys_processor(options.torchvision, flags)


def differences(visual: VisualInputs, tensors: LibraryTensors, flags: InputFlags) -> list[str]:
    """Where our tensors are not the library's, in words."""
    found = []
    apart = 0.0
    for patches, pixels in zip(visual.patches_CNP.split(8), tensors.pixels.split(8), strict=True):
        mine = normalised(patches, flags=flags, dtype=torch.float32)
        apart = max(apart, float((mine - pixels).abs().max()))
    if apart > SAME_PIXEL:
        found.append(f"pixels, by up to {apart:.1e}")
    if not torch.equal(visual.pooling_TK, tensors.pooling.to(torch.int64)):
        found.append("pooling")
    if [list(grid) for grid in visual.grids] != tensors.grids.tolist():
        found.append("grids")
    patch_words = int((visual.token_ids_V == flags.special.image_patch).sum())
    if patch_words != len(tensors.pooling):
        found.append(f"picture words, {patch_words} for {len(tensors.pooling)} tokens")
    return found


def status_mib(name: str) -> float:
    """A figure of this process's memory, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def own_peak(options: argparse.Namespace) -> None:
    """Print this process's peak from file to tensors, MiB."""
    flags, codec = settings()
    process = process_of(options, flags)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far is forgotten
    before = status_mib("VmRSS")
    if options.peak == "ours":
        ours(options.film, flags=flags, codec=codec)
    else:
        library(options.film, probe(options.film), process=process)
    print(status_mib("VmHWM") - before)


def peak_mib(options: argparse.Namespace, film: Path, whose: str) -> float:
    """Peak of a fresh process, MiB."""
    command = [sys.executable, __file__, "--peak", whose, "--film", str(film)]
    if options.torchvision is not None:
        command += ["--torchvision", str(options.torchvision)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def line(name: str, mine: float, other: float, *, unit: str, ratio: float) -> str:
    """A row of the table, with its goal."""
    goal = GOALS[name]
    met = ratio <= goal if name == "decoding" else ratio >= goal
    wanted = f"at most {goal:g}" if name == "decoding" else f"at least {goal:g}"
    verdict = "met" if met else "MISSED"
    return f"{name:15} {mine:8.2f} {unit:3} {other:9.2f} {unit:3} {ratio:7.2f}  {wanted:12} {verdict}"


def measure(options: argparse.Namespace, film: Path) -> int:
    """Measure in turns, print the table; 1 when tensors differ."""
    flags, codec = settings()
    process = process_of(options, flags)
    about, rounds, frames_apart = probe(film), [], 0
    for _ in range(options.rounds):
        our_decoding_s, bare_s, frames_apart = decoding(film, film_times(about))
        visual, our_rest_s = ours(film, flags=flags, codec=codec)
        tensors, rest_s = library(film, about, process=process)
        rounds.append((our_decoding_s, bare_s, our_rest_s, rest_s))
    differing = differences(visual, tensors, flags)
    our_decoding_s, bare_s, our_rest_s, rest_s = (min(times) for times in zip(*rounds, strict=True))
    del tensors  # the peaks below are those of other processes, and the machine may be small
    our_peak, peak = (peak_mib(options, film, whose) for whose in ("ours", "library"))
    how = "its steps, written out in torch" if options.torchvision is None else "Molmo2VideoProcessor itself"
    size = f"{about.width_px}×{about.height_px}, {film.stat().st_size / 2**20:.0f} MiB"
    print(
        f"{about.duration_s:g} s of {size}; {len(visual.units)} frames to {flags.image_size_px} px; "
        f"one thread; {time.strftime('%Y-%m-%d')}"
    )
    print(f"decoding against bare PyAV; the rest against the library's video processor: {how}")
    print(f"{'':15} {'ours':>8} {'':3} {'other':>9} {'':3} {'ratio':>7}  goal")
    print(line("decoding", our_decoding_s, bare_s, unit="s", ratio=our_decoding_s / bare_s))
    print(line("after decoding", our_rest_s, rest_s, unit="s", ratio=rest_s / our_rest_s))
    print(line("peak memory", our_peak, peak, unit="MiB", ratio=peak / our_peak))
    print(f"frames that differ: {frames_apart}; tensors that differ: {'; '.join(differing) or 'none'}")
    return 1 if differing or frames_apart else 0


def main() -> int:
    """Make the film where none is given, and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the film (60)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured (2)")
    parser.add_argument(
        "--film", type=Path, help="a film made by an earlier run; made anew where it is missing"
    )
    parser.add_argument("--torchvision", type=Path, help="folder to import torchvision from")
    parser.add_argument("--peak", choices=("ours", "library"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    # One core: FFmpeg starts a thread for each that it may use.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if options.peak:
        own_peak(options)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "street.mp4" if options.film is None else options.film
        if not film.exists():
            write_film(film, seconds=options.seconds)
        return measure(options, film)


if __name__ == "__main__":
    raise SystemExit(main())

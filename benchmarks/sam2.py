"""What SAM 2 costs a frame and an object, and what a walk holds of it against the library's own session.

Usage: python benchmarks/sam2.py [--real]

Weights are random: masks mean nothing, the work is the same. `small` is the checkpoint of the tests; with
--real also the released shape of sam2.1-hiera-tiny at 1024 pixels (minutes on a CPU).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molmo2_ground.clip import Frame
from molmo2_ground.masks.object_memory import ObjectMemory
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.sam2 import SAM2, Sam2
from molmo2_ground.masks.sam_checkpoint import SamCheckpoint
from molmo2_ground.masks.sam_pictures import SamPictures
from molmo2_ground.masks.sam_random import random_sam2_config, random_sam_network

WIDTH_PX, HEIGHT_PX = 1280, 720
# One period of the memory: after so many frames a walk holds all that it ever holds.
SETTLED = 17


class KeepsAll(ObjectMemory):
    """A memory that lets go of nothing, as the library's session."""

    def _prune(self, index: int) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One walk. Times are the median of a frame, milliseconds; memory is of the tensors held, megabytes."""

    model: str
    objects: int
    frames: int
    resize_ms: float
    encode_ms: float
    object_ms: float
    held_mb: float
    library_mb: float


def frames(count: int) -> Iterator[Frame]:
    """Noise over a gradient, 720p."""
    random = np.random.default_rng(0)
    for number in range(count):
        rgb = random.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
        yield Frame(rgb=rgb, width_px=WIDTH_PX, height_px=HEIGHT_PX, source_index=number)


def measured(model: str, network: Any, *, objects: int, count: int) -> Row:
    """Walk `count` frames twice: as we do it, and keeping all, for the library's memory."""
    checkpoint = SamCheckpoint(
        family=SAM2,
        folder=Path("none"),
        name=model,
        revision=None,
        config=network.config,
        pictures=SamPictures(side_px=int(network.config.image_size), mean=SAM2.mean, std=SAM2.std),
    )
    ours, times = walked(Sam2(checkpoint, network), objects=objects, count=count)
    theirs, _ = walked(Sam2(checkpoint, network, memory=KeepsAll), objects=objects, count=count)
    resize, encode, rest = (1000 * float(np.median(part[1:])) for part in times)
    return Row(
        model=model,
        objects=objects,
        frames=count,
        resize_ms=resize,
        encode_ms=encode,
        object_ms=rest / objects,
        held_mb=ours / 1e6,
        library_mb=theirs / 1e6,
    )


class Timed:
    """The segmenter's encoder, with how long each picture took, seconds."""

    def __init__(self, encoder: Any) -> None:
        self._encoder, self.seconds = encoder, list[float]()

    def encode(self, pixels_1CSS: torch.Tensor) -> Any:
        """As the encoder does."""
        start = time.perf_counter()
        made = self._encoder.encode(pixels_1CSS)
        self.seconds.append(time.perf_counter() - start)
        return made


def walked(segmenter: Sam2, *, objects: int, count: int) -> tuple[int, tuple[list[float], ...]]:
    """Bytes held at the end, and seconds of each frame: to resize, to encode, for all objects."""
    timed = Timed(segmenter.encoder)
    segmenter.encoder = timed
    walk = segmenter.start(width_px=WIDTH_PX, height_px=HEIGHT_PX)
    resize, rest = [], []
    for frame in frames(count):
        start = time.perf_counter()
        prepared = walk.prepare(frame)
        resize.append(time.perf_counter() - start)
        points = [
            PointPrompt(object_id=i, source_index=0, x_px=100.0 + 200 * i, y_px=300.0) for i in range(objects)
        ]
        start = time.perf_counter()
        walk.step(prepared, points if frame.source_index == 0 else ())
        rest.append(time.perf_counter() - start - timed.seconds[-1])
    held = sum(
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in walk.tensors()}.values()
    )
    return held, (resize, timed.seconds, rest)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", action="store_true", help="also the released shape, minutes on a CPU")
    real = parser.parse_args().real
    print(f"{WIDTH_PX} x {HEIGHT_PX}, CPU, {torch.get_num_threads()} threads, float32, random weights")
    head = ("model", "objects", "frames", "resize ms", "encode ms", "ms an object", "held MB", "library MB")
    print(" | ".join(head))
    print(" | ".join("---" for _ in head))
    small = random_sam_network(random_sam2_config())
    for objects, count in ((1, SETTLED), (1, 60), (2, 60), (4, 60)):
        print_row(measured("small", small, objects=objects, count=count))
    if real:
        from transformers import Sam2VideoConfig

        large = random_sam_network(Sam2VideoConfig())
        for count in (2, 4):
            print_row(measured("2.1 tiny", large, objects=1, count=count))


def print_row(row: Row) -> None:
    """One line of the table."""
    print(
        f"{row.model} | {row.objects} | {row.frames} | {row.resize_ms:.1f} | {row.encode_ms:.1f} | "
        f"{row.object_ms:.1f} | {row.held_mb:.2f} | {row.library_mb:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()

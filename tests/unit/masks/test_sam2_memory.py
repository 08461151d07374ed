from __future__ import annotations

import numpy as np
import pytest
import torch

from molmo2_ground.masks.picture_encoder import PictureFeatures
from molmo2_ground.masks.sam2 import Sam2, load_sam2
from molmo2_ground.masks.sam_random import write_random_sam2
from tests.small_sam import HEIGHT_PX, SHORT_MEMORY, WIDTH_PX, KeepsAll, frames, point


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Sam2:
    return load_sam2(write_random_sam2(tmp_path_factory.mktemp("sam2"), **SHORT_MEMORY), device="cpu")


class Remembered:
    """An encoder that gives one picture's features for all, so that a long walk is short."""

    def __init__(self, features: PictureFeatures) -> None:
        self._features = features

    def encode(self, pixels_1CSS: torch.Tensor) -> PictureFeatures:
        return self._features


def held_bytes(segmenter: Sam2, count: int, *, corrected_every: int, objects: int = 2) -> list[int]:
    """Memory of the tensors that a walk holds after each frame; one of the objects is corrected."""
    walk = segmenter.start(width_px=WIDTH_PX, height_px=HEIGHT_PX)
    shown = frames(4)
    held = []
    for number in range(count):
        frame = shown[number % 4]
        given = [point(i + 1, number, 30 + 50 * i, 40) for i in range(objects)] if number == 0 else []
        if number and number % corrected_every == 0:
            given = [point(1, number, 40, 20)]
        walk.step(walk.prepare(frame), given)
        held.append(sum({t.data_ptr(): t.untyped_storage().nbytes() for t in walk.tensors()}.values()))
    return held


def slope(values: list[int]) -> float:
    """Of the straight line through them, per frame."""
    return float(np.polyfit(np.arange(len(values)), np.array(values, dtype=np.float64), 1)[0])


@pytest.mark.slow
def test_memory_is_the_same_after_every_frame(sam: Sam2) -> None:
    # Every fourth frame corrects, so that after four corrections and five frames nothing new is kept.
    held = held_bytes(sam, 26, corrected_every=4)
    assert len(set(held[18:22])) <= 4
    assert held[18:22] == held[22:26]
    assert max(held[18:]) < 200_000


@pytest.mark.slow
def test_the_library_alone_would_keep_everything(sam: Sam2) -> None:
    everything = Sam2(sam.checkpoint, sam.network, memory=KeepsAll)
    assert slope(held_bytes(everything, 12, corrected_every=4)) > 50_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_over_5000_frames_memory_does_not_grow(sam: Sam2) -> None:
    walk = sam.start(width_px=WIDTH_PX, height_px=HEIGHT_PX)
    pixels = sam.pictures.pixels(walk.prepare(frames(1)[0]), device=sam.device, dtype=sam.dtype)
    fixed = Sam2(sam.checkpoint, sam.network, encoder=Remembered(sam.encoder.encode(pixels)))
    held = held_bytes(fixed, 5000, corrected_every=15, objects=1)
    # From the 75th frame on, four corrections have been given; every period then is like the one before.
    settled = held[75:]
    assert settled[15:] == settled[:-15]
    assert abs(slope(settled)) < 1.0

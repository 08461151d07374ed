from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from molmo2_ground.clip import Frame
from molmo2_ground.masks.sam_pictures import SamPictures

PICTURES = SamPictures(side_px=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def frame(height: int, width: int) -> Frame:
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(rgb=rgb, width_px=width, height_px=height, source_index=0)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (31, 33), (200, 7), (16, 16), (1, 1)])
def test_a_frame_is_shrunk_as_pillow_does_it(height: int, width: int) -> None:
    """Bilinear over all pixels that fall on one, to a grey level."""
    shown = frame(height, width)
    resized = np.asarray(Image.fromarray(shown.rgb).resize((32, 32), Image.Resampling.BILINEAR))
    found = PICTURES.shrunk(shown)
    assert (found.dtype, found.shape) == (torch.uint8, (3, 32, 32))
    assert np.abs(found.permute(1, 2, 0).numpy().astype(int) - resized.astype(int)).max() <= 1


def test_a_frame_of_the_right_size_is_left_as_it_is() -> None:
    shown = frame(32, 32)
    found = PICTURES.shrunk(shown)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), shown.rgb)
    shown.rgb[:] = 0
    assert found.any()  # a reader may use its buffer again


def test_a_frame_that_may_not_be_written_is_read() -> None:
    shown = frame(32, 32)
    shown.rgb.flags.writeable = False
    assert PICTURES.shrunk(shown).shape == (3, 32, 32)


def test_colours_are_brought_to_mean_and_spread() -> None:
    grey = torch.full((3, 32, 32), 51, dtype=torch.uint8)
    pixels = PICTURES.pixels(grey, device=torch.device("cpu"), dtype=torch.float32)
    assert pixels.shape == (1, 3, 32, 32)
    expected = [(0.2 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert pixels[0, :, 5, 7].tolist() == pytest.approx(expected, abs=1e-6)

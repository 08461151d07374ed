from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.render import colour_of, render
from tests import media as shelf
from tests.found import points, tracks
from tests.media import Shelf


def test_one_image_is_written_at_its_own_size(tmp_path: Path) -> None:
    source = tmp_path / "shelf.png"
    Image.fromarray(np.full((63, 97, 3), 128, dtype=np.uint8)).save(source)
    result = points([(60.0, 40.0)], size_px=(97, 63))
    with Image.open(render(source, result, tmp_path / "out.png")) as image:
        assert image.size == (97, 63)
        assert image.getpixel((60, 40)) == colour_of(1)


def test_several_images_become_one_sheet(tmp_path: Path) -> None:
    pictures = [np.full((50, 80, 3), 128, dtype=np.uint8) for _ in range(2)]
    with Image.open(render(pictures, points([(9.0, 9.0)], size_px=(80, 50)), tmp_path / "out.png")) as image:
        assert image.width > 300


def test_a_video_under_a_picture_s_name_becomes_a_sheet(media: Shelf, tmp_path: Path) -> None:
    result = tracks(looked_s=[0.0, 0.5, 1.0], size_px=shelf.SIZE_PX, fps=10.0)
    with Image.open(render(media(shelf.constant_rate), result, tmp_path / "out.jpg")) as image:
        assert image.width == 8 + 3 * (200 + 8)


def test_images_are_not_written_as_a_video(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name the file out\.png"):
        render(np.zeros((9, 9, 3), dtype=np.uint8), points([]), tmp_path / "out.mp4")


def test_a_picture_is_not_written_over_itself(tmp_path: Path) -> None:
    source = tmp_path / "shelf.png"
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(source)
    with pytest.raises(ValueError, match="source itself"):
        render(source, points([]), tmp_path / "." / "shelf.png")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.mp4", "out.png"])
def test_a_result_is_not_drawn_on_another_video(name: str, media: Shelf, tmp_path: Path) -> None:
    result = tracks(looked_s=[0.0, 0.5, 1.0], size_px=shelf.SIZE_PX, fps=10.0)
    half = tmp_path / "half.mp4"
    shelf.write_video(half, size_px=(48, 32))
    render(half, result, tmp_path / name).unlink()
    half.unlink()
    with pytest.raises(ValueError, match=r"variable_rate\.mp4 shows frame"):
        render(media(shelf.variable_rate), result, tmp_path / name)
    assert not list(tmp_path.iterdir())

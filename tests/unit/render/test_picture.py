from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.render.picture import write_picture


@pytest.mark.parametrize(
    ("name", "kind", "error"),
    [
        ("a.png", "PNG", 0),
        ("a.PNG", "PNG", 0),
        ("a.jpg", "JPEG", 12),
        ("a.jpeg", "JPEG", 12),
        ("a.webp", "WEBP", 40),
    ],
)
def test_the_suffix_chooses_the_format(name: str, kind: str, error: int, tmp_path: Path) -> None:
    rgb = np.zeros((17, 33, 3), dtype=np.uint8)
    rgb[:, 16:] = (255, 195, 59)
    with Image.open(write_picture(rgb, tmp_path / name)) as image:
        assert image.format == kind
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - rgb).max() <= error


def test_another_suffix_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.png.*got 'a\.tiff'"):
        write_picture(np.zeros((4, 4, 3), dtype=np.uint8), tmp_path / "a.tiff")
    assert list(tmp_path.iterdir()) == []

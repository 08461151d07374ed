"""Still pictures in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from molmo2_ground._atomic import atomic_path
from molmo2_ground.clip import RgbArray

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def write_picture(rgb: RgbArray, out_path: Path) -> Path:
    """Write uint8[h, w, 3] as .png, .jpg, .jpeg or .webp, by the suffix; whole or not at all."""
    suffix = out_path.suffix.lower()
    if suffix not in PICTURE_SUFFIXES:
        raise ValueError(f"a picture is written as {', '.join(PICTURE_SUFFIXES)}; got {out_path.name!r}")
    with atomic_path(out_path) as unfinished:
        # PNG takes no heed of these; subsampling 0 keeps the colours of small letters from fraying in JPEG.
        Image.fromarray(np.ascontiguousarray(rgb)).save(unfinished, quality=92, subsampling=0)
    return out_path

"""`is_cut`: whether two pictures that follow each other show two scenes."""

from __future__ import annotations

import cv2
import numpy as np

from molmo2_ground.masks.point_flow import Gray

CUT_LEVELS = 24.0
"""Mean difference of two thumbnails, of 255. What moves, even a bus close by, changes a part of the
picture."""
CUT_HISTOGRAM = 0.35
"""Share of the pixels that would have to change their shade for the one to have the shades of the other; a
camera that turns shows the same shades elsewhere."""
_SHADES = 32


def is_cut(before: Gray, after: Gray) -> bool:
    """Both differ: what is where, and which shades there are. uint8[h, w], small."""
    if before.shape != after.shape:
        return True
    if float(cv2.absdiff(before, after).mean()) < CUT_LEVELS:
        return False
    counts = [
        np.bincount(p.reshape(-1) * _SHADES // 256, minlength=_SHADES)
        for p in (before.astype(np.int32), after.astype(np.int32))
    ]
    moved = np.abs(counts[0] - counts[1]).sum() / 2 / before.size
    return bool(moved > CUT_HISTOGRAM)

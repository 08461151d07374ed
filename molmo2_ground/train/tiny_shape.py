"""How the tiny model cuts a picture; apart from the model itself, whose library takes seconds to load."""

from __future__ import annotations

IMAGE_PX = 168
PATCH_PX = 14
GRID = IMAGE_PX // PATCH_PX  # 12 x 12 patches
POOL = 2  # 2 x 2 patches make one token: 36 a frame

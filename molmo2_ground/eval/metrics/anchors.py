"""The point that stands for an object when places are matched to objects by distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from molmo2_ground.eval.example import TruthFrame


def anchor_px(frame: TruthFrame) -> tuple[float, float] | None:
    """The annotated point, else the middle of the mask, else None: then the object cannot be seen here."""
    if frame.xy_px is not None:
        return frame.xy_px
    if frame.mask is None:
        return None
    rows, columns = np.nonzero(frame.mask.decode())
    # A pixel's middle is half a pixel from its corner.
    return (float(columns.mean()) + 0.5, float(rows.mean()) + 0.5) if rows.size else None

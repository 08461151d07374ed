"""Masks of one frame without overlaps: each pixel belongs to one object at most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from molmo2_ground.export.marks import Mark

IntArray = npt.NDArray[np.int32]


def owners(marks: Sequence[Mark], size_px: tuple[int, int]) -> tuple[IntArray, dict[int, int]]:
    """int32[height, width], the place in `marks` plus 1 of whose pixel it is, 0 for nobody's.

    Where masks overlap the smaller one lies on top, because the larger one would hide it altogether; of equal
    ones that of the lower object number. With it come the pixels that an object lost to others, by object.
    Raises `ValueError` for a mask of another size.
    """
    width, height = size_px
    owner: IntArray = np.zeros((height, width), dtype=np.int32)
    lost: dict[int, int] = {}
    masks = [(place, mark) for place, mark in enumerate(marks, start=1) if mark.mask is not None]

    def depth(item: tuple[int, Mark]) -> tuple[int, int]:
        mask = item[1].mask
        assert mask is not None
        return -mask.area_px, -item[1].object_id

    for place, mark in sorted(masks, key=depth):
        assert mark.mask is not None
        if mark.mask.size_hw != (height, width):
            raise ValueError(
                f"the mask of object {mark.object_id} in frame {mark.frame} has the size (height, width) "
                f"{mark.mask.size_hw}; the picture has {(height, width)}"
            )
        inside = mark.mask.decode()
        hidden, counts = np.unique(owner[inside], return_counts=True)
        for other, count in zip(hidden.tolist(), counts.tolist(), strict=True):
            if other:
                below = marks[other - 1].object_id
                lost[below] = lost.get(below, 0) + int(count)
        owner[inside] = place
    return owner, lost


def lines_of_lost(lost: dict[int, int]) -> tuple[str, ...]:
    """What overlaps cost, one line an object."""
    return tuple(
        f"object {object_id}: {count} pixels that smaller masks cover too went to those"
        for object_id, count in sorted(lost.items())
    )

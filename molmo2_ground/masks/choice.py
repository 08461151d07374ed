"""Which segmenter a name means."""

from __future__ import annotations

from molmo2_ground.masks.segmenter import Segmenter

REGION = "region"


def segmenter_named(name: str, *, device: str = "auto") -> Segmenter:
    """`region`, or SAM 2 by short name, hub id or folder; loads the weights.

    Raises `CheckpointError` when there are none of this name, `MissingExtraError` when a library is missing.
    """
    if name == REGION:
        from molmo2_ground.masks.region import Region

        return Region()
    from molmo2_ground.masks.sam2 import load_sam2

    return load_sam2(name, device=device)

"""`load_sam3_tracker`: the part of SAM 3 that follows points, as a segmenter."""

from __future__ import annotations

from pathlib import Path

import torch

from molmo2_ground.masks.mask_policy import Policy
from molmo2_ground.masks.sam2 import Sam2, load_sam
from molmo2_ground.masks.sam_checkpoint import SamFamily
from molmo2_ground.masks.sam_walk import ANCHORS

SAM3 = SamFamily(
    title="SAM 3",
    short=("sam3",),
    # The released checkpoint holds a detector as well, which is left where it is.
    model_types=("sam3_video", "sam3_tracker_video"),
    network="Sam3TrackerVideoModel",
    config="Sam3TrackerVideoConfig",
    session="Sam3TrackerVideoInferenceSession",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


def load_sam3_tracker(
    name: str | Path = "sam3",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    policy: Policy = "best",
    anchors: int = ANCHORS,
) -> Sam2:
    """SAM 3's tracker with its weights: `sam3` (a hub id that asks for an account), another id, or a folder.

    Arguments and errors as of `load_sam2`; SAM 3 is under a licence of its own.
    """
    return load_sam(name, family=SAM3, device=device, dtype=dtype, policy=policy, anchors=anchors)

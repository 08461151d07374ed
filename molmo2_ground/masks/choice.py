"""Which segmenter a name means."""

from __future__ import annotations

import json
from pathlib import Path

from molmo2_ground.masks.segmenter import Segmenter

REGION = "region"


def segmenter_named(name: str, *, device: str = "auto") -> Segmenter:
    """`region`, or SAM 2 or SAM 3 by short name, hub id or folder; loads the weights.

    Raises `CheckpointError` when there are none of this name, `MissingExtraError` when a library is missing.
    """
    if name == REGION:
        from molmo2_ground.masks.region import Region

        return Region()
    if _is_sam3(name):
        from molmo2_ground.masks.sam3_tracker import load_sam3_tracker

        return load_sam3_tracker(name, device=device)
    from molmo2_ground.masks.sam2 import load_sam2

    return load_sam2(name, device=device)


def _is_sam3(name: str) -> bool:
    """By what a folder says of itself, and by the name of what is no folder."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name.rpartition("/")[2].startswith("sam3")
    try:
        written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # what is wrong with it is told when it is opened
    return isinstance(written, dict) and str(written.get("model_type")).startswith("sam3")

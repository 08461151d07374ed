"""Masks: which pixels of a picture belong to an object, and what finds them.

Names load what they need when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molmo2_ground._lazy import on_first_use

if TYPE_CHECKING:
    from molmo2_ground.masks.carrying import carry
    from molmo2_ground.masks.prompts import PointPrompt, Prompts
    from molmo2_ground.masks.segmenter import Segmenter, Walk
    from molmo2_ground.masks.segmenting import MaskStream, segment

__all__ = ["MaskStream", "PointPrompt", "Prompts", "Segmenter", "Walk", "carry", "segment"]

_HOME_OF = {
    "MaskStream": "molmo2_ground.masks.segmenting",
    "PointPrompt": "molmo2_ground.masks.prompts",
    "Prompts": "molmo2_ground.masks.prompts",
    "Segmenter": "molmo2_ground.masks.segmenter",
    "Walk": "molmo2_ground.masks.segmenter",
    "carry": "molmo2_ground.masks.carrying",
    "segment": "molmo2_ground.masks.segmenting",
}


if not TYPE_CHECKING:  # a type checker reads the imports above, and is to find misspelt names
    __getattr__ = on_first_use(__name__, _HOME_OF)


def __dir__() -> list[str]:
    return sorted(__all__)

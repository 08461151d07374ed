"""Masks: which pixels of a picture belong to an object."""

from __future__ import annotations

from molmo2_ground.masks.rle import Rle

__all__ = ["Rle"]

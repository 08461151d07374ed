"""Molmo2 as we run it: checkpoint, inputs, vision, attention, decoding."""

from __future__ import annotations

from molmo2_ground.model.molmo2 import Generated, ModelLimits, Molmo2, Prefix, load_checkpoint

__all__ = ["Generated", "ModelLimits", "Molmo2", "Prefix", "load_checkpoint"]

"""Molmo2 as we run it: checkpoint, inputs, vision, attention, decoding."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molmo2_ground.model.limits import ModelLimits
    from molmo2_ground.model.molmo2 import Molmo2, load_checkpoint
    from molmo2_ground.model.prefix import Generated, Prefix

__all__ = ["Generated", "ModelLimits", "Molmo2", "Prefix", "load_checkpoint"]


_HOMES = {
    "Generated": "prefix",
    "ModelLimits": "limits",
    "Molmo2": "molmo2",
    "Prefix": "prefix",
    "load_checkpoint": "molmo2",
}


def __getattr__(name: str) -> Any:
    # torch and transformers load with the first name that needs them; the limits need neither.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"molmo2_ground.model.{home}"), name)

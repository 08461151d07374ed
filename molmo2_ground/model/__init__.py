"""Molmo2 as we run it: checkpoint, inputs, vision, attention, decoding."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molmo2_ground.model.limits import ModelLimits
    from molmo2_ground.model.molmo2 import Generated, Molmo2, Prefix, load_checkpoint

__all__ = ["Generated", "ModelLimits", "Molmo2", "Prefix", "load_checkpoint"]


def __getattr__(name: str) -> Any:
    # torch and transformers load with the first name that needs them; the limits need neither.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "limits" if name == "ModelLimits" else "molmo2"
    return getattr(importlib.import_module(f"molmo2_ground.model.{home}"), name)

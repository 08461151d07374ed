"""What runs a model: a protocol, the model in this process, and recorded answers."""

from __future__ import annotations

from molmo2_ground.backends.base import Backend, BackendSession
from molmo2_ground.backends.scripted import ScriptedBackend

__all__ = ["Backend", "BackendSession", "ScriptedBackend"]

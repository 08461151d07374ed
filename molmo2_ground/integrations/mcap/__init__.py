"""Recordings in MCAP, for Foxglove and every other reader of it; needs the extra `record`."""

from __future__ import annotations

from molmo2_ground.integrations.mcap.recorder import McapRecorder
from molmo2_ground.integrations.mcap.recovery import recover_mcap

__all__ = ["McapRecorder", "recover_mcap"]

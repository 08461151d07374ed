"""What a question will look at, need and take, told before it is run."""

from __future__ import annotations

from molmo2_ground.planning.plan import Plan, PlannedFrames, PlannedMemory, PlannedTime, PlannedTokens

__all__ = ["Plan", "PlannedFrames", "PlannedMemory", "PlannedTime", "PlannedTokens"]

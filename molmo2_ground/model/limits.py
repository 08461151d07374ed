"""`ModelLimits`: what a model reads at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What a checkpoint reads at most.

    max_frames, max_fps of a video; max_crops of one still image unless asked otherwise; context_tokens of a
    prompt and its answer together.
    """

    max_frames: int
    max_fps: float
    max_crops: int
    context_tokens: int

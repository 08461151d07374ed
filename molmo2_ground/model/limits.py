"""`ModelLimits`: what a model reads at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What a checkpoint reads at most.

    max_frames, max_fps of a video; max_crops of one still image unless asked otherwise; context_tokens of a
    prompt and its answer together; track_frames that tracking looks at in one go, None for max_frames.
    """

    max_frames: int
    max_fps: float
    max_crops: int
    context_tokens: int
    track_frames: int | None = None

    @property
    def frames_tracked_at_once(self) -> int:
        """Frames of one window when tracking."""
        return self.max_frames if self.track_frames is None else self.track_frames

"""`LivePicture`: one picture of a live source with its time in the stream; made gray once."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.masks.point_flow import Gray, GrayFrame
from molmo2_ground.sources.feeds.capture import Capture

THUMB_LONG_SIDE_PX = 160
"""Cuts and newcomers show in a picture of this size, and comparing two takes a tenth of a millisecond."""


@dataclass(slots=True, kw_only=True, eq=False)
class LivePicture:
    """A capture in the stream's own time; pixels are made when first asked for, and each kind once.

    time_s   seconds after the stream's first picture (`StreamTime`).
    sampled  True when it lies on the grid of those that the model may be shown.
    """

    capture: Capture
    time_s: float
    sampled: bool = False
    _rgb: RgbArray | None = field(default=None, repr=False)
    _gray: GrayFrame | None = field(default=None, repr=False)
    _thumb: Gray | None = field(default=None, repr=False)

    @property
    def index(self) -> int:
        """Number of the picture since the source was first opened."""
        return self.capture.index

    @property
    def rgb(self) -> RgbArray:
        """uint8[height, width, 3], as a player shows it."""
        if self._rgb is None:
            self._rgb = self.capture.paint()
        return self._rgb

    @property
    def frame(self) -> Frame:
        """The picture as the rest of the package takes it."""
        return Frame(
            rgb=self.rgb,
            width_px=self.capture.width_px,
            height_px=self.capture.height_px,
            source_index=self.capture.index,
            time_s=self.time_s,
            shown_time_s=self.time_s,
        )

    @property
    def gray(self) -> GrayFrame:
        """In shades of gray, small enough for flow (`point_flow.WORK_LONG_SIDE_PX`)."""
        if self._gray is None:
            self._gray = GrayFrame.of(self.frame)
        return self._gray

    @property
    def thumb(self) -> Gray:
        """uint8[h, w], at most `THUMB_LONG_SIDE_PX` long."""
        if self._thumb is None:
            gray = self.gray.gray
            height, width = gray.shape
            scale = min(1.0, THUMB_LONG_SIDE_PX / max(height, width))
            size = max(1, round(width * scale)), max(1, round(height * scale))
            self._thumb = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return self._thumb

    def forget_pixels(self) -> None:
        """Let go of what was made of it, but for what others hold; it can be made again."""
        self._rgb = None

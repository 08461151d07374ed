"""`Window`: a part of a picture at such a size that working on it takes no longer for a large object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import RgbArray
from molmo2_ground.masks.segmenter import BoolArray

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Columns `left` to `right` and rows `top` to `bottom` (outside) of a picture, seen at `scale`.

    It may reach over the rim of the picture. scale: pixels of the window for one of the picture, 0 to 1.
    """

    left: int
    top: int
    right: int
    bottom: int
    scale: float

    @classmethod
    def around(cls, box: tuple[float, float, float, float], *, margin_px: float, longest_px: int) -> Window:
        """The window that holds a box (left, top, right, bottom) and `margin_px` on each side of it.

        Its longer side has at most `longest_px` pixels.
        """
        left, top = math.floor(box[0] - margin_px), math.floor(box[1] - margin_px)
        right = max(left + 1, math.ceil(box[2] + margin_px))
        bottom = max(top + 1, math.ceil(box[3] + margin_px))
        return cls(
            left=left,
            top=top,
            right=right,
            bottom=bottom,
            scale=min(1.0, longest_px / max(right - left, bottom - top)),
        )

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of what `take` gives, pixels."""
        return (
            max(1, round((self.right - self.left) * self.scale)),
            max(1, round((self.bottom - self.top) * self.scale)),
        )

    def moved(self, dx_px: int, dy_px: int) -> Window:
        """The same window elsewhere, pixels of the picture."""
        return Window(
            left=self.left + dx_px,
            top=self.top + dy_px,
            right=self.right + dx_px,
            bottom=self.bottom + dy_px,
            scale=self.scale,
        )

    def at(self, x_px: float, y_px: float) -> tuple[float, float]:
        """A place of the picture in pixels of the window."""
        width, height = self.size_px
        return (
            (x_px - self.left) * width / (self.right - self.left),
            (y_px - self.top) * height / (self.bottom - self.top),
        )

    def take(self, picture: RgbArray) -> RgbArray:
        """uint8[h, w, 3] or uint8[h, w]; beyond the rim the outermost pixels go on."""
        taken: RgbArray = self._sized(self._cut(picture, cv2.BORDER_REPLICATE))
        return taken

    def take_mask(self, mask: BoolArray) -> FloatArray:
        """float32[h, w] from 0 to 1, the share of each pixel that the mask covers; 0 beyond the rim."""
        part = self._cut(mask.astype(np.uint8), cv2.BORDER_CONSTANT).astype(np.float32)
        taken: FloatArray = self._sized(part)
        return taken

    def inside(self, picture_hw: tuple[int, int]) -> BoolArray:
        """bool[h, w], True on pixels of the picture."""
        return self.take_mask(np.ones(picture_hw, dtype=bool)) > 0.5

    def lay(self, mask: FloatArray | BoolArray, picture_hw: tuple[int, int]) -> BoolArray:
        """bool[height, width] of the whole picture, from a mask of the window."""
        full = np.zeros(picture_hw, dtype=bool)
        width, height = self.right - self.left, self.bottom - self.top
        large = cv2.resize(
            np.asarray(mask, dtype=np.float32), (width, height), interpolation=cv2.INTER_LINEAR
        )
        left, top = max(0, self.left), max(0, self.top)
        right, bottom = min(picture_hw[1], self.right), min(picture_hw[0], self.bottom)
        if right > left and bottom > top:
            part = large[top - self.top : bottom - self.top, left - self.left : right - self.left]
            full[top:bottom, left:right] = part > 0.5
        return full

    def _cut(self, picture: npt.NDArray[Any], border: int) -> npt.NDArray[Any]:
        height, width = picture.shape[:2]
        # A window wholly outside takes the pixels at the rim.
        left, right = min(max(self.left, 0), width - 1), max(min(self.right, width), 1)
        top, bottom = min(max(self.top, 0), height - 1), max(min(self.bottom, height), 1)
        if self.left >= width or self.top >= height or self.right <= 0 or self.bottom <= 0:
            shape = (self.bottom - self.top, self.right - self.left, *picture.shape[2:])
            fill = picture[top, left] if border == cv2.BORDER_REPLICATE else 0
            return np.broadcast_to(np.asarray(fill, dtype=picture.dtype), shape).copy()
        part = picture[top:bottom, left:right]
        pads = (top - self.top, self.bottom - bottom, left - self.left, self.right - right)
        if not any(pads):
            return part
        return cv2.copyMakeBorder(part, *pads, borderType=border)

    def _sized(self, part: npt.NDArray[Any]) -> Any:
        width, height = self.size_px
        if part.shape[1] == width and part.shape[0] == height:
            return np.ascontiguousarray(part)
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)


def box_of(mask: BoolArray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a mask that is not empty, outer corners of pixels."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return left, top, left + width, top + height

"""`Planes`: from RGB to the pixels that H.264 stores: brightness, and colour at half the size (BT.709).

FFmpeg's own conversion of RGB at this size takes twice as long, and half of that goes into the copy
that it is handed (benchmarks/render.py). It also blurs colours downwards; here each is the mean of its four
pixels.
"""

from __future__ import annotations

import av
import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import RgbArray

Bytes = npt.NDArray[np.uint8]

# ITU-R BT.709-6, items 3.2 to 3.4: the weights of red and blue in brightness, and 8-bit values from 16 to 235
# (colour: 16 to 240) for what is 0 to 1.
_RED, _BLUE = 0.2126, 0.0722
_GREEN = 1 - _RED - _BLUE
_BRIGHT, _COLOUR = 219 / 255, 224 / 255
_TO_BT709 = np.array(
    [
        [_BRIGHT * _RED, _BRIGHT * _GREEN, _BRIGHT * _BLUE, 16],
        [-_COLOUR * _RED / (2 - 2 * _BLUE), -_COLOUR * _GREEN / (2 - 2 * _BLUE), _COLOUR / 2, 128],
        [_COLOUR / 2, -_COLOUR * _GREEN / (2 - 2 * _RED), -_COLOUR * _BLUE / (2 - 2 * _RED), 128],
    ]
)


class Planes:
    """Turns pictures of one even width and height into frames of yuv420p; keeps two pictures of scratch."""

    def __init__(self, *, width_px: int, height_px: int) -> None:
        if width_px % 2 or height_px % 2 or min(width_px, height_px) < 2:
            raise ValueError(f"yuv420p stores pixels in twos; got {width_px} x {height_px}")
        self._width_px, self._height_px = width_px, height_px
        self._whole = np.empty((height_px, width_px, 3), dtype=np.uint8)
        self._half = np.empty((height_px // 2, width_px // 2, 3), dtype=np.uint8)
        self._half_turned = np.empty_like(self._half)

    def frame(self, rgb: RgbArray) -> av.VideoFrame:
        """The picture, uint8[height_px, width_px, 3], as a new frame; each value is within 1 of exact."""
        made = av.VideoFrame(self._width_px, self._height_px, "yuv420p")
        # With three rows at once OpenCV takes its quick way; one row alone takes twice as long.
        cv2.transform(rgb, _TO_BT709, dst=self._whole)
        cv2.extractChannel(self._whole, 0, dst=_pixels(made, 0))
        size_px = (self._width_px // 2, self._height_px // 2)
        cv2.resize(rgb, size_px, dst=self._half, interpolation=cv2.INTER_AREA)
        cv2.transform(self._half, _TO_BT709, dst=self._half_turned)
        for plane in (1, 2):
            cv2.extractChannel(self._half_turned, plane, dst=_pixels(made, plane))
        return made


def _pixels(frame: av.VideoFrame, number: int) -> Bytes:
    """One plane of a frame, uint8[h, w], to be written to; its rows are longer than they show."""
    plane = frame.planes[number]
    rows: Bytes = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]

"""`H264Encoder`: pictures become H.264 one by one, each at once and readable by whoever reads along."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from molmo2_ground.clip import RgbArray
from molmo2_ground.render.planes import Planes

_BT709 = 1  # of ITU-T H.273, for primaries, transfer and matrix alike
_LIMITED_RANGE = 1
# Key frames are asked for one by one; the encoder's own habit would put them by number and not by time.
_NEVER = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedPicture:
    """One picture, all of it: Annex B, with the parameter sets in front when it is a key frame."""

    data: bytes
    is_key: bool


class H264Encoder:
    """H.264 of pictures of one size as it goes through a live stream: no B-frames, nothing held back.

    A picture with an odd width or height gets one more column or row, a copy of its last: this colour format
    stores pixels in twos. qp: the quantiser of every picture, lower is better and larger. One thread, so that
    the machine stays free for the model.
    """

    def __init__(self, *, width_px: int, height_px: int, qp: int = 25) -> None:
        self._right_px, self._bottom_px = width_px % 2, height_px % 2
        width, height = width_px + self._right_px, height_px + self._bottom_px
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = width, height
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, 1000)
        context.color_range = _LIMITED_RANGE
        context.colorspace = _BT709
        context.color_primaries = _BT709
        context.color_trc = _BT709
        context.max_b_frames = 0
        context.gop_size = _NEVER
        context.thread_count = 1
        context.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            # A fixed step for every picture: with a quality that is steered, a second key frame soon
            # after the first comes out coarse.
            "qp": str(qp),
            "forced-idr": "1",
            # The simplest search for movement, as in our video files: much less work for little more bytes.
            "x264-params": "me=dia:subme=1:weightp=0:scenecut=0",
        }
        self._context, self._planes = context, Planes(width_px=width, height_px=height)
        self._shape = (height_px, width_px, 3)
        self._number = 0
        self.keys = 0

    keys: int
    """Key frames so far."""

    def encode(self, picture: RgbArray, *, key: bool = False) -> CodedPicture:
        """The picture, uint8[height, width, 3]; the first is a key frame, and each that is asked to be one.

        Raises `ValueError` for a picture of another size.
        """
        if picture.shape != self._shape:
            raise ValueError(f"expected a picture of shape {self._shape}; got {picture.shape}")
        if self._right_px or self._bottom_px:
            picture = np.asarray(
                cv2.copyMakeBorder(picture, 0, self._bottom_px, 0, self._right_px, cv2.BORDER_REPLICATE),
                dtype=np.uint8,
            )
        frame = self._planes.frame(np.ascontiguousarray(picture))
        frame.pts, frame.time_base = self._number, Fraction(1, 1000)
        frame.pict_type = PictureType.I if key or not self._number else PictureType.NONE
        self._number += 1
        packets = self._context.encode(frame)
        assert len(packets) == 1, f"one picture in, one out; got {len(packets)}"
        self.keys += packets[0].is_keyframe
        return CodedPicture(data=bytes(packets[0]), is_key=bool(packets[0].is_keyframe))

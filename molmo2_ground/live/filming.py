"""`Filming`: pictures of a live stream -> H.264 that can be cut anywhere near a key frame."""

from __future__ import annotations

from molmo2_ground.live.update import Update
from molmo2_ground.render.h264 import CodedPicture, H264Encoder

_KEY_EVERY_NS = 2_000_000_000


class Filming:
    """One row of coded pictures; with a key frame every two seconds by the clock of arrival.

    Another connection or another size of picture begins with one too.
    """

    def __init__(self) -> None:
        self._encoder: H264Encoder | None = None
        self._of: tuple[int, tuple[int, int]] | None = None
        self._key_ns = 0
        self._last_is_key = False

    def take(self, update: Update, *, fresh: bool = False) -> CodedPicture:
        """The update's picture, coded. fresh: the first of a file, which must be readable without others."""
        now_ns, of = update.capture.recv_ns, (update.epoch, update.size_px)
        picture = update.capture.paint()
        if self._encoder is None or self._of is None or self._of[1] != update.size_px:
            clash = self._last_is_key and self._encoder is not None and self._encoder.keys % 2 == 1
            width_px, height_px = update.size_px
            self._encoder = H264Encoder(width_px=width_px, height_px=height_px)
            if clash:
                # Key frames are numbered 0, 1, 0, … (idr_pic_id of ITU-T H.264, 7.4.3), and by each encoder
                # from 0: two 0s in a row would be taken for two parts of one picture.
                self._encoder.encode(picture)
        # A clock that was set back counts as two seconds too.
        key = fresh or self._of != of or not 0 <= now_ns - self._key_ns < _KEY_EVERY_NS
        self._of = of
        coded = self._encoder.encode(picture, key=key)
        self._last_is_key = coded.is_key
        if coded.is_key:
            self._key_ns = now_ns
        return coded

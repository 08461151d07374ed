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

    def take(self, update: Update, *, fresh: bool = False) -> CodedPicture:
        """The update's picture, coded. fresh: the first of a file, which must be readable without others."""
        now_ns, of = update.capture.recv_ns, (update.epoch, update.size_px)
        if self._encoder is None or self._of is None or self._of[1] != update.size_px:
            width_px, height_px = update.size_px
            self._encoder = H264Encoder(width_px=width_px, height_px=height_px)
        # A clock that was set back counts as two seconds too.
        key = fresh or self._of != of or not 0 <= now_ns - self._key_ns < _KEY_EVERY_NS
        self._of = of
        coded = self._encoder.encode(update.capture.paint(), key=key)
        if coded.is_key:
            self._key_ns = now_ns
        return coded

"""`KeptPictures`: the pictures of the last seconds of a stream, small, as JPEG, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from molmo2_ground.clip import RgbArray


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPicture:
    """One picture of a stream.

    run     rises when the stream's times begin anew. time_s: seconds of the stream, rising within a run.
    jpeg    the picture, shrunk. stamp_ns, source_index: as of its capture.
    """

    run: int = 0
    time_s: float
    stamp_ns: int
    source_index: int
    jpeg: bytes


class KeptPictures:
    """A ring: what is older than `span_s` seconds, or does not fit into `max_bytes`, goes, the oldest first.

    Pictures of an earlier run stay until the new one has lasted as long.
    """

    def __init__(self, *, span_s: float, max_bytes: int) -> None:
        self._span_s, self._max_bytes = span_s, max_bytes
        self._lock = threading.Lock()
        self._kept: deque[KeptPicture] = deque()
        self._bytes = 0
        self._run_began_s: float | None = None
        self.shortened = 0  # pictures that went before their time, for want of room

    @property
    def size_bytes(self) -> int:
        """Of all JPEGs."""
        with self._lock:
            return self._bytes

    def add(self, picture: KeptPicture) -> None:
        """Keep one more."""
        with self._lock:
            if self._run_began_s is None or (self._kept and self._kept[-1].run != picture.run):
                self._run_began_s = picture.time_s
            self._kept.append(picture)
            self._bytes += len(picture.jpeg)
            while self._is_old(self._kept[0], picture):
                self._drop()
            while self._bytes > self._max_bytes and self._kept:
                self._drop()
                self.shortened += 1

    def _is_old(self, picture: KeptPicture, newest: KeptPicture) -> bool:
        assert self._run_began_s is not None
        since_s = picture.time_s if picture.run == newest.run else self._run_began_s
        return newest.time_s - since_s > self._span_s

    def _drop(self) -> None:
        self._bytes -= len(self._kept.popleft().jpeg)

    def between(self, start_s: float, end_s: float, *, run: int = 0) -> tuple[KeptPicture, ...]:
        """Those of these seconds of the stream, in order."""
        with self._lock:
            return tuple(p for p in self._kept if p.run == run and start_s <= p.time_s <= end_s)


def to_jpeg(picture: RgbArray, *, quality: int, side_px: int | None = None) -> bytes:
    """uint8[height, width, 3] RGB as JPEG, shrunk until its longer side is `side_px` where one is given."""
    import cv2

    height_px, width_px = picture.shape[:2]
    share = 1.0 if side_px is None else side_px / max(height_px, width_px)
    if share < 1:
        size_px = (max(1, round(width_px * share)), max(1, round(height_px * share)))
        picture = np.asarray(cv2.resize(picture, size_px, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"a picture of {width_px} x {height_px} pixels cannot be written as JPEG")
    return bytes(data)


def from_jpeg(data: bytes) -> RgbArray:
    """uint8[height, width, 3] RGB. Raises `ValueError` for what is no JPEG."""
    import cv2

    picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"expected a JPEG; got {len(data)} bytes that are none")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)

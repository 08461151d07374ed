"""Pictures with times -> an H.264 file that plays everywhere and appears whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from molmo2_ground._atomic import atomic_path
from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.errors import SourceError
from molmo2_ground.render.planes import Planes
from molmo2_ground.render.sound import Sound

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov")

# A clock in which a frame lasts a whole number of ticks at 24, 25, 30, 50, 60, 120 frames a second and at the
# rates divided by 1.001; any other time is at most 1.4 microseconds off.
_CLOCK = Fraction(1, 360_000)
_BT709 = 1  # of ITU-T H.273, for primaries, transfer and matrix alike
_LIMITED_RANGE = 1


def write_video(
    frames: Iterable[tuple[Frame, RgbArray]],
    out_path: Path,
    *,
    fps: float | None,
    sound: Sound | None = None,
    on_frame: Callable[[float], None] | None = None,
) -> Path:
    """Write frames, each with the picture to show for it, at the frames' own times.

    H.264, yuv420p, index in front. A picture with an odd width or height gets one more column or row, a
    copy of its last: this colour format stores pixels in twos. fps (frames a second) only guides the
    encoder. `on_frame` hears each frame's time in seconds. Raises `SourceError` when there is no frame. On
    any exception nothing is left at `out_path` but what was there before.
    """
    with atomic_path(out_path) as unfinished:
        pairs = iter(frames)
        first = next(pairs, None)
        if first is None:
            raise SourceError("no picture to write: the video has no frame that can be decoded")
        height_px, width_px = first[1].shape[:2]
        with _opened(unfinished) as output:
            film = _Film(output, width_px=width_px, height_px=height_px, fps=fps)
            if sound is not None:
                sound.join(output)
            for frame, picture in _chained(first, pairs):
                time_s = frame.time_s or 0.0
                if sound is not None:
                    sound.write_until(output, time_s)
                film.add(picture, time_s)
                if on_frame is not None:
                    on_frame(time_s)
            film.end()
            if sound is not None:
                sound.write_until(output, math.inf)
    return out_path


class _Film:
    """The picture stream of an output file."""

    def __init__(self, output: OutputContainer, *, width_px: int, height_px: int, fps: float | None) -> None:
        rate = Fraction(fps if fps and fps > 0 else 30).limit_denominator(1001)
        stream: VideoStream = output.add_stream("libx264", rate=max(rate, Fraction(1, 1001)))
        stream.width, stream.height = width_px + width_px % 2, height_px + height_px % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _CLOCK
        stream.codec_context.color_range = _LIMITED_RANGE
        stream.codec_context.colorspace = _BT709
        stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        # Without B-frames a file starts at time 0 without an edit list, and dots on its frames are found by
        # every player's seek. A key frame each two seconds keeps seeking quick.
        stream.codec_context.gop_size = max(1, round(2 * rate))
        stream.codec_context.max_b_frames = 0
        # Encoding is most of the work. With the simplest search for movement it takes two thirds of the time
        # that the preset's own takes, in files an eighth larger that look the same (0.15 dB).
        stream.options = {"preset": "veryfast", "crf": "20", "x264-params": "me=dia:subme=1:weightp=0"}
        self._output, self._stream = output, stream
        self._width_px, self._height_px = width_px, height_px
        self._planes = Planes(width_px=stream.width, height_px=stream.height)
        self._last_ticks = -1
        self._length_ticks = max(1, round(1 / (rate * _CLOCK)))

    def add(self, picture: RgbArray, time_s: float) -> None:
        """Write one picture, to be shown from `time_s` (seconds) on."""
        if picture.shape[:2] != (self._height_px, self._width_px):
            # Some streams change their size midway; a file has one.
            size_px = (self._width_px, self._height_px)
            picture = np.asarray(cv2.resize(picture, size_px, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        right_px, bottom_px = self._width_px % 2, self._height_px % 2
        if right_px or bottom_px:
            picture = np.asarray(
                cv2.copyMakeBorder(picture, 0, bottom_px, 0, right_px, cv2.BORDER_REPLICATE), dtype=np.uint8
            )
        ticks = max(round(time_s / _CLOCK), self._last_ticks + 1)
        if self._last_ticks >= 0:
            self._length_ticks = ticks - self._last_ticks
        self._last_ticks = ticks
        frame = self._planes.frame(np.ascontiguousarray(picture))
        frame.pts, frame.time_base = ticks, _CLOCK
        self._write(frame)

    def end(self) -> None:
        """Write what the encoder still holds."""
        self._write(None)

    def _write(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            # Only the last frame's length is taken from here, and nothing tells it: as long as the one
            # before.
            packet.duration = self._length_ticks
            self._output.mux(packet)


@contextmanager
def _opened(path: Path) -> Iterator[OutputContainer]:
    """An mp4 to write to, finished when the block ends well and only closed when it does not."""
    output = av.open(str(path), mode="w", format="mp4", options={"movflags": "+faststart"})
    try:
        yield output
    except BaseException:
        # Closing half a file may fail in its own way; the first reason is the one to tell.
        with suppress(av.FFmpegError, ValueError, OSError):
            output.close()
        raise
    output.close()


def _chained(
    first: tuple[Frame, RgbArray], rest: Iterator[tuple[Frame, RgbArray]]
) -> Iterator[tuple[Frame, RgbArray]]:
    yield first
    yield from rest

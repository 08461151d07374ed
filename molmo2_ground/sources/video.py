"""`VideoFile`: a video's frames in order of presentation, with their true times, and what was lost."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from molmo2_ground.errors import SourceError
from molmo2_ground.sources.container import opened, packet_time, tells_decoding_times_only
from molmo2_ground.sources.extent import Extent, cut_short, measure
from molmo2_ground.sources.losses import Losses
from molmo2_ground.sources.picture import Painter
from molmo2_ground.sources.shots import Shot

# What players assume for a stream that holds no times and no rate.
_FALLBACK_FPS = Fraction(25)
# Close to damage a pause of this many frames is taken for lost frames; elsewhere it is a pause.
_HOLE_FRAMES = 3
# How many frames a decoder may still give between a damaged packet and the hole that it leaves.
_CLOSE_FRAMES = 32


class _Ledger:
    """Which packets went into the decoder and never came out as a frame.

    Holds the times of packets whose frames are still awaited: as many as the decoder holds back, not as many
    as the file has.
    """

    def __init__(self) -> None:
        self._awaited: list[int] = []
        self._one_frame_a_packet = True
        self._started = False
        self._damaged = False
        self._frames_since_damage = 0

    @property
    def damage_is_close(self) -> bool:
        """True when something broken was met a short while ago."""
        return self._damaged and self._frames_since_damage <= _CLOSE_FRAMES

    def damage(self) -> None:
        """Something broken was met: a packet, a frame, or the file itself."""
        self._damaged, self._frames_since_damage = True, 0

    def sent(self, pts: int) -> None:
        heapq.heappush(self._awaited, pts)

    def came(self, pts: int) -> list[int]:
        """Times of frames that should have come before this one and are lost."""
        missing = []
        self._frames_since_damage += 1
        while self._awaited and self._awaited[0] < pts:
            missing.append(heapq.heappop(self._awaited))
        if self._awaited and self._awaited[0] == pts:
            heapq.heappop(self._awaited)
        return self._lost(missing)

    def came_next(self, sent: int, *, key_frame: bool) -> tuple[int, list[int]]:
        """The presentation time of a frame whose packet was `sent` at its turn in decoding, and what is lost.

        Frames leave the decoder in order of presentation, so the earliest turn still awaited is the frame's
        time. Nothing sent before a key frame can come after it: what has not come by then is lost.
        """
        missing = []
        self._frames_since_damage += 1
        while self._awaited and self._awaited[0] < sent and (key_frame or not self._started):
            missing.append(heapq.heappop(self._awaited))
        pts = heapq.heappop(self._awaited) if self._awaited else sent
        return pts, self._lost(missing)

    def at_end(self) -> list[int]:
        missing, self._awaited = sorted(self._awaited), []
        return self._lost(missing)

    def _lost(self, missing: list[int]) -> list[int]:
        if not self._started:
            # A stream cut out of a longer one may begin with frames that need what was cut off.
            self._started = True
            return missing if self._damaged else []
        if missing and not self._damaged:
            # Some codecs put two packets into a frame, or send packets that are never shown.
            self._one_frame_a_packet = False
        return missing if self._one_frame_a_packet else []


class VideoFile:
    """An open video with its first frame decoded; see `MovingSource` for the fields."""

    def __init__(
        self, path: Path, container: InputContainer, stream: VideoStream, extent: Extent | None
    ) -> None:
        self.name = path.name
        self.losses = Losses()
        self.lost_at_start, self.lost_at_end = 0, 0
        self._container, self._stream, self._ledger = container, stream, _Ledger()
        self._decoding_times_only = tells_decoding_times_only(container)
        self._time_base = stream.time_base or Fraction(1, 90000)
        self._rate = stream.average_rate or stream.guessed_rate or _FALLBACK_FPS
        # of a frame, in units of the time base
        self._length = max(1, round(1 / (self._rate * self._time_base)))
        self.codec = stream.codec_context.name
        self.has_audio = bool(container.streams.audio)
        self._packets, self._shown_packets, self._is_measured = 0, 0, extent is not None
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            raise SourceError(self._no_frame())
        origin = self._first.pts
        self._origin = 0 if origin is None else origin
        self._painter = Painter(self._first, pixel_aspect=stream.sample_aspect_ratio, source=self.name)
        self.width_px, self.height_px = self._painter.width_px, self._painter.height_px
        self.frame_count = None if extent is None else extent.frame_count
        self.duration_s, self.fps = self._duration_and_rate(extent)
        for line in extent.lost if extent is not None else ():
            self.losses.note(line)

    def _no_frame(self) -> str:
        if self._packets == 0:
            return f"{self.name} has a picture track with no frame in it"
        return (
            f"none of the {self._packets} frames in {self.name} could be decoded ({self.codec}): "
            f"the file is damaged, encrypted, or its pictures are larger than can be read"
        )

    def _duration_and_rate(self, extent: Extent | None) -> tuple[float, float | None]:
        """Seconds from the first frame to the end of the last, and the average frames a second."""
        if extent is None or extent.last_pts is None:
            count = 1 if extent is None else extent.frame_count
            return float(count / self._rate), float(self._rate)
        between, count = max(0, extent.last_pts - self._origin), extent.frame_count
        length = extent.last_length or (round(between / (count - 1)) if count > 1 else 0) or self._length
        average = (count - 1) / (between * self._time_base) if count > 1 and between else self._rate
        # Containers round times to milliseconds; the rate in the header is the exact one when they agree.
        fps = self._rate if abs(average / self._rate - 1) < 0.005 else average
        return float((between + length) * self._time_base), float(fps)

    def _decode(self) -> Generator[VideoFrame, None, None]:
        """Frames as they leave the decoder: in order of presentation."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self._ledger.damage()
                self.losses.note(f"reading stopped before the end of the file ({error.strerror})")
                return
            if packet is None:
                return
            if packet.size:
                self._packets += 1
                self._shown_packets += not packet.is_discard
                if packet.is_corrupt:
                    self._ledger.damage()
                # A frame comes out with the time of its packet, by which the ledger knows it again.
                packet.pts = packet_time(packet, decoding_times_only=self._decoding_times_only)
                if packet.pts is not None and not packet.is_discard:
                    self._ledger.sent(packet.pts)
            try:
                yield from packet.decode()
            except av.FFmpegError:
                self._ledger.damage()  # the ledger finds out which frames did not come

    def shots(self) -> Iterator[Shot]:
        """Every frame in order of presentation, once."""
        if self._first is None:
            raise RuntimeError("the frames of an open video can be read once; open it again")
        frames, self._first = chain([self._first], self._decoded), None
        index, last_pts, end, spoiled = 0, self._origin - self._length, self._origin, False
        for frame in frames:
            pts, lost = self._time_of(frame, default=last_pts + self._length)
            if pts < last_pts:
                self.losses.frames("backwards", first_s=self._seconds(pts), last_s=self._seconds(pts))
                index += 1
                continue
            hole = False
            if index:
                hole = self._note_hole(lost, end=end, pts=pts)
                index += len(lost)
            elif lost:
                self.losses.note(f"frames before the first readable one could not be decoded: {len(lost)}")
                self.lost_at_start, hole = len(lost), True
            last_pts, end = pts, pts + (frame.duration or self._length)
            time_s, end_s = self._seconds(pts), self._seconds(end)
            # What builds on a lost or damaged frame is wrong too, until a frame that stands by itself.
            spoiled = frame.is_corrupt or ((spoiled or hole) and not frame.key_frame)
            if frame.is_corrupt:
                self._ledger.damage()
            if spoiled:
                self.losses.frames("damaged", first_s=time_s, last_s=time_s)
            paint = partial(self._painter.paint, frame)
            yield Shot(
                index=index, time_s=time_s, end_s=end_s, hole_before=hole, damaged=spoiled, paint=paint
            )
            index += 1
        lost = self._ledger.at_end()
        self._note_hole(lost, end=end, pts=None)
        self.lost_at_end = len(lost)
        if not self._is_measured:  # else it was told when the end was found
            end_s = float(end * self._time_base)
            for line in cut_short(self._container, self._stream, packets=self._shown_packets, end_s=end_s):
                self.losses.note(line)

    def _time_of(self, frame: VideoFrame, *, default: int) -> tuple[int, list[int]]:
        """The frame's presentation time and those of frames that should have come before it and are lost."""
        if frame.pts is not None and self._decoding_times_only:
            return self._ledger.came_next(frame.pts, key_frame=frame.key_frame)
        pts = frame.pts if frame.pts is not None else default
        return pts, self._ledger.came(pts)

    def _note_hole(self, lost: list[int], *, end: int, pts: int | None) -> bool:
        """Record what is missing between `end` of a frame and `pts` of the next; True when something is."""
        if lost:
            first_s, last_s = self._seconds(lost[0]), self._seconds(lost[-1])
            self.losses.frames("undecoded", first_s=first_s, last_s=last_s, count=len(lost))
            return True
        if pts is not None and self._ledger.damage_is_close and pts - end > _HOLE_FRAMES * self._length:
            self.losses.frames("unreadable", first_s=self._seconds(end), last_s=self._seconds(pts))
            return True
        return False

    def close(self) -> None:
        """Let go of the frame in hand and of the decoder's, which would wait for a round of Python's gc."""
        self._first = None
        self._decoded.close()

    def _seconds(self, pts: int) -> float:
        return float((pts - self._origin) * self._time_base)


@contextmanager
def open_video(path: Path, *, measured: bool = True) -> Iterator[VideoFile]:
    """Open a video file; raises `SourceError` when no frame can be had.

    measured: find the end first. Without it reading starts at once, and duration and number of frames are
    not to be used.
    """
    extent = measure(path) if measured else None
    with opened(path) as (container, stream):
        video = VideoFile(path, container, stream, extent)
        try:
            yield video
        finally:
            video.close()

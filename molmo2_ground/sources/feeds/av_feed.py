"""`AvFeed`: cameras and streams that FFmpeg reads: RTSP, RTMP, HTTP, UDP, SRT, video devices."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from threading import Lock, Thread
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from molmo2_ground.clip import RgbArray
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds.address import Address
from molmo2_ground.sources.feeds.av_options import live_options
from molmo2_ground.sources.feeds.av_words import failure_of
from molmo2_ground.sources.feeds.camera_clock import CameraClock, told_ns
from molmo2_ground.sources.feeds.failures import RefusedError, StalledError, WholeFileError
from molmo2_ground.sources.feeds.feed import OPTIONS, Timeouts
from molmo2_ground.sources.feeds.handover import Handover
from molmo2_ground.sources.feeds.hole_watch import HoleWatch
from molmo2_ground.sources.feeds.pace import Pace
from molmo2_ground.sources.feeds.picture_arrival import PictureArrival
from molmo2_ground.sources.picture import MAX_PIXELS, Painter, check_size

_LOG = logging.getLogger(__name__)

# Frames between a packet and its picture; decoders hold back 16 at most.
_MOST_AWAITED = 64
# A packet that is there at once was there before; this goes on for as long as was read ahead at most.
_AT_ONCE_NS = 4_000_000
_READ_AHEAD_NS = 1_000_000_000
# A camera behind a web server may tell a length once, by mistake; so many times it is a file.
_FILES_TOLD = 3


class AvFeed:
    """A live stream or device, read by FFmpeg.

    options  added to FFmpeg's, by its names, for what a camera needs beside ours.
    format   its name for the device or stream, where the address does not tell.
    explain  makes an error of what the source means by it; None leaves it to us.
    told     unix nanoseconds at which a packet's picture was taken, where it says so.
    """

    paced = True
    reopens = True

    def __init__(
        self,
        address: Address,
        *,
        options: Mapping[str, str] | None = None,
        format: str | None = None,
        explain: Callable[[Exception], SourceError | None] | None = None,
        told: Callable[[Any], int | None] = told_ns,
        clocks: Clocks | None = None,
    ) -> None:
        self.name, self.address = address.name, address
        OPTIONS.check("options", options)
        self.options, self.format = dict(options or {}), format
        self.explain = explain or (lambda error: None)
        self.told, self.clocks = told, clocks or Clocks()
        self._lock, self._interrupted = Lock(), False
        self._opening: AvConnection | None = None
        self._files, self._sum_before = 0, 0
        self._playlist_shown = False

    def connect(self, timeouts: Timeouts) -> AvConnection:
        """Open it; raises `SourceError`, at the latest after `timeouts.open_s`."""
        connection = AvConnection(self, timeouts)
        with self._lock:
            if self._interrupted:
                raise SourceError(f"{self.name}: closed while it was opened")
            self._opening = connection
        try:
            connection.open()
        finally:
            with self._lock:
                self._opening = None
        return connection

    def interrupt(self) -> None:
        """Make `connect` give up at once."""
        with self._lock:
            self._interrupted = True
            if self._opening is not None:
                self._opening.close()

    def check(self, container: InputContainer) -> None:
        """Raise `WholeFileError` for a playlist that is closed and was read to its end before."""
        # FFmpeg would begin it again: what was filmed long ago would come as new.
        if self._playlist_shown and _is_closed_playlist(container):
            raise self._closed_playlist()

    def ended(self, container: InputContainer, *, checksum: int) -> SourceError | None:
        """What it means that the container was read to its end; None when nothing but that.

        checksum: of everything that was sent.
        """
        if self.address.scheme not in ("http", "https"):
            return None
        if _is_playlist(container):  # whose length is none of what it names
            self._playlist_shown = True
            if _is_closed_playlist(container):
                return self._closed_playlist()
        elif container.size > 0:  # a live stream tells none
            return self._file()
        return self.sent_again(checksum)

    def sent_again(self, checksum: int) -> WholeFileError | None:
        """What it means when the same was sent as the time before: no camera films the same twice."""
        again, self._sum_before = 0 != checksum == self._sum_before, checksum
        return self._file() if again and self.address.scheme in ("http", "https") else None

    def _file(self) -> WholeFileError:
        self._files += 1
        if self._files < _FILES_TOLD:
            return WholeFileError(f"{self.name}: the other side sent a file to its end")
        return WholeFileError(
            f"{self.name}: this looks like a file and not like a live stream: it came to its end each time. "
            "Download it and give its path"
        )

    def _closed_playlist(self) -> WholeFileError:
        return WholeFileError(
            f"{self.name}: the playlist is closed (#EXT-X-ENDLIST) and was shown to its end: this is a "
            "recording, or a live stream that is over. Nothing more comes until the playlist is another"
        )

    def opened(self, timeouts: Timeouts) -> InputContainer:
        """FFmpeg's end of it; may hang for longer than the timeouts allow."""
        options = live_options(self.address.scheme, timeouts) if self.address.kind == "stream" else {}
        return av.open(
            self.address.location.reveal(),
            format=self.format,
            options=options | self.options,
            timeout=(timeouts.open_s, timeouts.read_s),
        )


class AvConnection:
    """One connection. FFmpeg runs in a thread of its own, so that our timeouts hold whatever it waits for.

    When it hangs as it is closed, that thread is left behind; FFmpeg's own timeouts end it soon after.
    losses  what came and is not passed on: `damaged`, `repeated`, `late` (came while the source was opened,
            so that nobody knows when).
    """

    def __init__(self, feed: AvFeed, timeouts: Timeouts) -> None:
        self._feed, self._timeouts, self._name = feed, timeouts, feed.name
        self._clocks = feed.clocks
        self.losses: Counter[str] = Counter()
        self._handover: Handover[PictureArrival] = Handover()
        self._camera_clock = CameraClock(feed.name)
        # What their packets said of pictures that are still in the decoder, by presentation time.
        self._awaited: dict[int, tuple[int, int | None]] = {}
        self._painter: _SharedPainter | None = None
        self._pace: Pace | None = None
        self._last_pts: int | None = None
        self._holes: HoleWatch | None = None
        # What is built on nothing, or on what is damaged, is no picture, until one comes that stands by
        # itself and was sent after the damage.
        self._packets, self._hurt_packet = 0, 0
        self._spoiled = True
        # Packets that came while the source was opened: when, nobody knows any more.
        self._read_ahead = True
        self._checksum = 0

    # --- the side that takes

    def open(self) -> None:
        """Start FFmpeg and wait until it has opened the source; raises `SourceError`."""
        Thread(target=self._run, name=f"ffmpeg {self._name}", daemon=True).start()
        try:
            self._handover.wait_opened(self._timeouts.open_s, late=self._late_open)
        except SourceError:
            self.close()
            raise

    def arrivals(self) -> Iterator[PictureArrival]:
        """Pictures as they come, until the other side ends; raises `StalledError` when none comes in time.

        The first may take as long as opening on top: a stream is often joined between two pictures that
        stand by themselves.
        """
        patience_s = self._timeouts.open_s + self._timeouts.read_s
        while (arrival := self._handover.take(patience_s, late=self._late_picture)) is not None:
            yield arrival
            patience_s = self._timeouts.read_s

    def close(self) -> None:
        """Want nothing any more; FFmpeg's thread lets go of the source as soon as it can."""
        self._handover.close()

    def _late_open(self) -> SourceError:
        return SourceError(f"{self._name}: did not answer within {self._timeouts.open_s:g} s")

    def _late_picture(self) -> StalledError:
        return StalledError(f"{self._name}: no picture for {self._timeouts.read_s:g} s")

    # --- FFmpeg's thread

    def _run(self) -> None:
        failure: SourceError | None = None
        doing = "opened"
        # What FFmpeg logs in this thread is caught: it prints addresses with their passwords.
        with av.logging.Capture() as lines:
            try:
                with self._feed.opened(self._timeouts) as container:
                    self._feed.check(container)
                    stream = self._picture_stream(container)
                    doing = "read"
                    if self._handover.opened():
                        self._read(container, stream, lines)
                        failure = self._feed.ended(container, checksum=self._checksum)
            except SourceError as error:
                failure = error
            except Exception as error:
                failure = self._feed.explain(error) or failure_of(
                    error, name=self._name, doing=doing, host=self._feed.address.host
                )
                # The end of what has no length is an error to FFmpeg where the server hangs up.
                failure = self._feed.sent_again(self._checksum) or failure
            self._log(lines)
        self._handover.end(failure)

    def _picture_stream(self, container: InputContainer) -> VideoStream:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            what = "sound but no picture" if container.streams.audio else "no picture"
            raise SourceError(f"{self._name}: the stream has {what}")
        stream = max(streams, key=lambda s: s.width * s.height)
        context = getattr(stream, "codec_context", None)
        if context is None:
            raise RefusedError(f"{self._name}: this FFmpeg build cannot decode its pictures")
        check_size(context.width, context.height, source=self._name)
        context.options = {"max_pixels": str(MAX_PIXELS)}
        # Threads that work on one frame together: one frame each would hold back a frame a thread.
        stream.thread_type = "SLICE"
        if _is_playlist(container):
            # A playlist is read a file at a time; its pictures come when they are due.
            self._pace, self._read_ahead = Pace(speed=1.0, clocks=self._clocks), False
        if container.format.name == "mpegts":
            # Broadcast, that is: what is lost on the way leaves a hole, and what comes after builds on it.
            self._holes = HoleWatch()
        return stream

    def _read(
        self, container: InputContainer, stream: VideoStream, lines: list[tuple[int, str, str]]
    ) -> None:
        packets, opened_ns = container.demux(stream), self._clocks.monotonic_ns()
        while True:
            asked_ns = self._clocks.monotonic_ns()
            packet = next(packets, None)
            self._log(lines)
            if packet is None or self._handover.is_closed:
                return
            self._checksum = zlib.crc32(packet, self._checksum)
            if self._read_ahead:
                now_ns = self._clocks.monotonic_ns()
                self._read_ahead = now_ns - asked_ns < _AT_ONCE_NS and now_ns - opened_ns < _READ_AHEAD_NS
            # A picture has arrived when the decoder can show it: where later ones are sent ahead of it, that
            # is later than its own packet, and the order of arrival is that of the pictures.
            recv_ns, monotonic_ns = self._clocks.unix_ns(), self._clocks.monotonic_ns()
            for frame in self._decoded(packet):
                arrival = self._arrival(frame, stream, recv_ns=recv_ns, monotonic_ns=monotonic_ns)
                recv_ns, monotonic_ns = self._clocks.unix_ns(), self._clocks.monotonic_ns()
                if arrival is not None and not self._given(arrival, frame):
                    return

    def _decoded(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        self._packets += 1
        if packet.pts is not None:
            self._awaited[packet.pts] = self._packets, self._feed.told(packet)
            if len(self._awaited) > _MOST_AWAITED:
                del self._awaited[next(iter(self._awaited))]
        if packet.is_corrupt:
            self._hurt(self._packets)
        try:
            return packet.decode()
        except av.FFmpegError:
            self.losses["damaged"] += 1
            self._hurt(self._packets)
            return []

    def _missing_before(self, frame: VideoFrame) -> int:
        if self._holes is None or frame.pts is None:
            return 0
        return self._holes.missing_before(frame.pts)

    def _hurt(self, packet: int) -> None:
        self._spoiled, self._hurt_packet = True, max(self._hurt_packet, packet)

    def _arrival(
        self, frame: VideoFrame, stream: VideoStream, *, recv_ns: int, monotonic_ns: int
    ) -> PictureArrival | None:
        """The frame as a picture that came; None when it is none, and counted."""
        newest = self._packets, None
        packet, told = newest if frame.pts is None else self._awaited.pop(frame.pts, newest)
        if frame.pts is not None and frame.pts == self._last_pts:
            self.losses["repeated"] += 1
            return None
        self._last_pts = frame.pts
        if missing := self._missing_before(frame):
            self.losses["damaged"] += missing
            self._spoiled = True
        if frame.is_corrupt:
            self._hurt(packet)
        elif frame.key_frame and packet > self._hurt_packet:
            self._spoiled = False
        if self._spoiled:
            self.losses["damaged"] += 1
            return None
        if self._read_ahead:
            self.losses["late"] += 1
            return None
        if self._painter is None:
            self._painter = _SharedPainter(frame, stream, self._name)
        self._painter.check(frame)
        return PictureArrival(
            stamp_ns=self._camera_clock.stamp_ns(told, recv_ns=recv_ns),
            recv_ns=recv_ns,
            monotonic_ns=monotonic_ns,
            width_px=self._painter.width_px,
            height_px=self._painter.height_px,
            paint=self._painter.painting(frame),
        )

    def _given(self, arrival: PictureArrival, frame: VideoFrame) -> bool:
        if self._pace is not None and frame.time is not None:
            wait_s = self._pace.wait_s(frame.time)
            if wait_s > 0 and self._handover.pause(wait_s):
                return False
            arrival.recv_ns, arrival.monotonic_ns = self._clocks.unix_ns(), self._clocks.monotonic_ns()
        return self._handover.give(arrival)

    def _log(self, lines: list[tuple[int, str, str]]) -> None:
        if lines and _LOG.isEnabledFor(logging.DEBUG):
            for _, part, words in lines:
                _LOG.debug("%s: ffmpeg %s: %s", self._name, part, self._feed.address.scrubbed(words.strip()))
        lines.clear()


def _is_playlist(container: InputContainer) -> bool:
    return container.format.name.startswith("hls")


def _is_closed_playlist(container: InputContainer) -> bool:
    # FFmpeg adds up a playlist's files when no more can come.
    return _is_playlist(container) and bool(container.duration)


class _SharedPainter:
    """A `Painter` that several threads may use, for frames of one shape."""

    def __init__(self, first: VideoFrame, stream: VideoStream, name: str) -> None:
        # A stream of which nothing was read ahead knows it from its first picture.
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        self._painter = Painter(first, pixel_aspect=aspect, source=name)
        self._lock, self._name, self._size = Lock(), name, (first.width, first.height)
        self.width_px, self.height_px = self._painter.width_px, self._painter.height_px

    def check(self, frame: VideoFrame) -> None:
        """Raise `SourceError` for a frame of another size: a camera that was set anew is another camera."""
        if (frame.width, frame.height) != self._size:
            raise SourceError(
                f"{self._name}: its pictures were {self._size[0]}×{self._size[1]} and are now "
                f"{frame.width}×{frame.height}"
            )

    def painting(self, frame: VideoFrame) -> Callable[[], RgbArray]:
        """What makes the frame's pixels when it is called."""

        def paint() -> RgbArray:
            with self._lock:
                return self._painter.paint(frame)

        return paint

"""The sound of a video file, carried into another file beside new pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

if TYPE_CHECKING:
    _Packet = av.Packet[AudioStream]

_LOG = logging.getLogger(__name__)

# What an mp4 may hold and browsers play: copied bit by bit. Anything else becomes AAC.
_COPIED = frozenset({"aac", "mp3", "opus"})
_AAC_RATES_HZ = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})
# A decoder needs the packet before the first that is heard; the container hides what lies before time 0.
_LEAD_IN_S = 0.06


class Sound:
    """The first sound track of a file, as packets for an output file.

    Times are moved so that 0 is the first picture, as in the new video. Damaged sound ends early and says
    so in the log; the pictures are worth keeping without it.
    """

    def __init__(self, source: InputContainer, *, picture_start_s: Fraction) -> None:
        self._source = source
        self._stream: AudioStream = source.streams.audio[0]
        self._start_s = picture_start_s
        self._ready: _Packet | None = None
        self._last_dts: int | None = None
        self._packets: Iterator[_Packet] = iter(())

    @classmethod
    def of(cls, path: str | Path) -> Sound | None:
        """The sound of a file, or None when it has none, or none that can be read."""
        try:
            start_s = _picture_start_s(path)
            source = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            _LOG.warning("the sound of %s could not be opened and is left out: %s", Path(path).name, error)
            return None
        if not source.streams.audio or source.streams.audio[0].rate in (None, 0):
            source.close()
            return None
        return cls(source, picture_start_s=start_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()

    def join(self, output: OutputContainer) -> None:
        """Add a sound stream to `output`, which must not have been written to."""
        # The name of the codec, not that of its decoder, which for mp3 is mp3float.
        if self._stream.codec_context.codec.canonical_name in _COPIED:
            copy: AudioStream = output.add_stream_from_template(self._stream)
            self._packets = self._copied(copy)
            return
        rate_hz = self._stream.rate if self._stream.rate in _AAC_RATES_HZ else 48000
        channels = self._stream.layout.nb_channels
        layout = {1: "mono", 6: "5.1"}.get(channels, "stereo")  # what stands in a file may have no name
        coded: AudioStream = output.add_stream("aac", rate=rate_hz, layout=layout)
        self._packets = self._coded_anew(coded, rate_hz, layout)

    def write_until(self, output: OutputContainer, time_s: float) -> None:
        """Write what is heard before `time_s` (seconds after the first picture) and is not yet written."""
        try:
            while self._ready is not None or self._fetch():
                packet = self._ready
                assert packet is not None
                if packet.pts is not None and float(packet.pts * (packet.time_base or 0)) >= time_s:
                    return
                self._ready = None
                output.mux(packet)
        except (av.FFmpegError, ValueError) as error:
            _LOG.warning("the sound ends early: it could not be carried over further (%s)", error)
            self._ready, self._packets = None, iter(())

    def _fetch(self) -> bool:
        """Take the next packet; False at the end."""
        for packet in self._packets:
            # A file takes packets in rising order only; what a damaged one repeats is left out.
            if packet.dts is None or self._last_dts is None or packet.dts > self._last_dts:
                self._last_dts = packet.dts
                self._ready = packet
                return True
        return False

    def _copied(self, target: AudioStream) -> Iterator[_Packet]:
        for packet in self._source.demux(self._stream):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue  # the empty packet that ends a stream
            shift = round(self._start_s / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            if float((packet.pts + (packet.duration or 0)) * packet.time_base) > -_LEAD_IN_S:
                packet.stream = target
                yield packet

    def _decoded(self) -> Iterator[av.AudioFrame]:
        for packet in self._source.demux(self._stream):
            # A damaged packet is silence for its length, which the resampler puts there.
            with suppress(av.FFmpegError):
                yield from packet.decode()

    def _coded_anew(self, target: AudioStream, rate_hz: int, layout: str) -> Iterator[_Packet]:
        graph: av.filter.Graph | None = None
        for frame in self._decoded():
            if frame.pts is None or frame.time_base is None:
                continue  # sound without a time has no place beside the pictures
            frame.pts -= round(self._start_s / frame.time_base)
            # Not from the stream: some files say only in their first frame how their sound is stored.
            graph = graph or _resampler(frame, rate_hz, layout)
            graph.push(frame)
            yield from _drained(graph, target)
        if graph is not None:
            graph.push(None)
            yield from _drained(graph, target)
        yield from target.encode(None)


def _resampler(like: av.AudioFrame, rate_hz: int, layout: str) -> av.filter.Graph:
    """From sound as in the frame `like` to what the AAC encoder takes, in step with the pictures."""
    graph = av.filter.Graph()
    chain = [
        graph.add_abuffer(
            sample_rate=like.sample_rate, format=like.format, layout=like.layout, time_base=like.time_base
        ),
        # Silence where sound is missing, so that it stays with the pictures; nothing before time 0.
        graph.add("aresample", f"{rate_hz}:async=1:first_pts=0"),
        graph.add("aformat", f"sample_fmts=fltp:sample_rates={rate_hz}:channel_layouts={layout}"),
        graph.add("asetnsamples", "n=1024:p=0"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*chain).configure()
    return graph


def _drained(graph: av.filter.Graph, target: AudioStream) -> Iterator[_Packet]:
    """Everything that the graph has ready, coded."""
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, av.AudioFrame)
        yield from target.encode(frame)


def _picture_start_s(path: str | Path) -> Fraction:
    """When the first picture is shown, on the file's own clock, seconds."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.pts is not None and frame.time_base is not None:
                return Fraction(frame.pts) * frame.time_base
    return Fraction(0)

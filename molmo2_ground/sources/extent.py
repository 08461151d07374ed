"""Where a video ends and how many frames it has, from its packets and without decoding a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from molmo2_ground.sources.container import opened, packet_time, tells_decoding_times_only

# A header and the last frame may disagree by the length of the sound or by rounding; more means a loss.
_DISAGREEMENT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What reading to the end of a file found.

    frame_count  frames that are shown.
    last_pts     presentation time of the last one, in units of the stream's time base; None when the file
                 holds no times.
    last_length  its duration in the same units, 0 when the file does not say.
    lost         what the header promises and the file does not hold, one line each.
    """

    frame_count: int
    last_pts: int | None
    last_length: int
    lost: tuple[str, ...] = ()


def measure(path: Path) -> Extent:
    """Find the end: by the index and the last stretch where there is an index, else by reading every packet.

    The duration in the header is not used. In MP4 it is a sum of decoding steps, which misses the real end by
    seconds when the rate varies, and it stays as it was when a file is cut.
    """
    with opened(path) as (container, stream):
        if _has_index(container, stream):
            return _measure_indexed(path, container, stream)
        scan = _scan(container, stream)
        if stream.time_base is None or scan.last_pts is None:
            return scan.extent()
        end_s = float((scan.last_pts + scan.last_length) * stream.time_base)
        return scan.extent(lost=cut_short(container, stream, packets=scan.count, end_s=end_s))


def cut_short(
    container: InputContainer, stream: VideoStream, *, packets: int, end_s: float
) -> tuple[str, ...]:
    """What the header promises beyond what was read, one line each.

    packets  of frames that are shown, read to the end of the file.
    end_s    when the last one is over, on the file's own clock.
    """
    if _has_index(container, stream):
        return _missing_frames(packets, of=_shown(stream))
    promised_s = _promised_end_s(container, stream)
    if promised_s is not None and promised_s - end_s > _DISAGREEMENT_S:
        return (f"the file ends at {end_s:.2f} s; its header promises {promised_s:.2f} s",)
    return ()


def _has_index(container: InputContainer, stream: VideoStream) -> bool:
    return "mp4" in container.format.name and stream.frames > 0


def _shown(stream: VideoStream) -> int:
    return sum(1 for entry in stream.index_entries if not entry.is_discard)


def _missing_frames(count: int, *, of: int) -> tuple[str, ...]:
    return (f"the file is cut short: it holds {count} of {of} frames",) if count < of else ()


@dataclass(slots=True)
class _Scan:
    count: int = 0
    last_pts: int | None = None
    last_length: int = 0
    last_place: tuple[int | None, int] = (None, 0)

    def extent(self, *, frame_count: int | None = None, lost: tuple[str, ...] = ()) -> Extent:
        return Extent(
            frame_count=self.count if frame_count is None else frame_count,
            last_pts=self.last_pts,
            last_length=self.last_length,
            lost=lost,
        )


def _scan(container: InputContainer, stream: VideoStream) -> _Scan:
    """Read packets to the end, or to where reading fails: what lies behind cannot be had anyway."""
    scan, decoding_times_only = _Scan(), tells_decoding_times_only(container)
    try:
        for packet in container.demux(stream):
            if packet.size == 0:  # the flush at the end
                continue
            scan.last_place = (packet.pos, packet.size)
            if packet.is_discard:
                continue
            scan.count += 1
            pts = packet_time(packet, decoding_times_only=decoding_times_only)
            if pts is not None and (scan.last_pts is None or pts >= scan.last_pts):
                scan.last_pts, scan.last_length = pts, packet.duration or 0
    except av.FFmpegError:
        return scan
    return scan


def _measure_indexed(path: Path, container: InputContainer, stream: VideoStream) -> Extent:
    index = stream.index_entries
    shown = _shown(stream)
    if len(index):
        last = index[len(index) - 1]
        try:
            container.seek(last.timestamp, stream=stream)
            tail = _scan(container, stream)
        except av.FFmpegError:
            tail = _Scan()
        if tail.last_pts is not None and tail.last_place == (last.pos, last.size):
            return tail.extent(frame_count=shown)
    with opened(path) as (fresh, fresh_stream):
        whole = _scan(fresh, fresh_stream)
    return whole.extent(lost=_missing_frames(whole.count, of=shown))


def _promised_end_s(container: InputContainer, stream: VideoStream) -> float | None:
    """When the header says that the picture ends, seconds on the file's own clock; None when it does not."""
    if "matroska" in container.format.name:
        parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "").strip())
        if parts is not None:
            return int(parts[1]) * 3600 + int(parts[2]) * 60 + float(parts[3])
        if len(container.streams) == 1 and container.duration is not None:
            return float(Fraction(container.duration, av.time_base))
    if container.format.name == "avi" and stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None

"""Opening a video file, with one clear error for each way in which it can be none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from molmo2_ground.errors import SourceError
from molmo2_ground.sources import mp4_header
from molmo2_ground.sources.picture import MAX_PIXELS, check_size

# FFmpeg also "plays" text files, playlists that open other files, and raw noise. Only real films and, for a
# clear word about them, sound files are let in.
_FILMS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,vvc,m4v,obu,av1,ivf,mxf,nut,rm,dv,"
    "wtv,mjpeg,gxf,h263,vc1"
)
_SOUNDS = "mp3,wav,flac,aac,ac3,eac3,aiff,amr,caf,w64,wv,tta,ape,au"
_OPTIONS = {"format_whitelist": f"{_FILMS},{_SOUNDS}", "max_pixels": str(MAX_PIXELS)}

# By name, for folders alone; a file that is named is known by its content.
_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "wmv", "flv"),
        *("ogv", "3gp", "mxf"),
    )
)

READABLE = "a video (MP4, MOV, MKV, WebM, AVI, TS, …) or a picture (JPEG, PNG, WebP, …)"


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its picture stream, ready to read; raises `SourceError` when there is none."""
    name = path.name
    try:
        if mp4_header.is_photo(path):
            raise SourceError(
                f"{name} is a HEIC photo, which Pillow reads with a plugin only. Save it as JPEG."
            )
        if is_mp4(path):
            for width_px, height_px in mp4_header.claimed_sizes(path):
                check_size(width_px, height_px, source=name)
        container = av.open(str(path), options=_OPTIONS)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _open_error(path, error) from error
    with container:
        stream = _picture_stream(container, name)
        yield container, stream


def film_files(folder: Path) -> list[Path]:
    """The files in a folder that are called videos, by name."""
    paths = [p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")]
    return sorted(path for path in paths if path.is_file())


def tells_decoding_times_only(container: InputContainer) -> bool:
    """True for AVI, which counts packets as they are decoded; presentation times there are FFmpeg's guess."""
    return container.format.name == "avi"


def packet_time(packet: Packet[VideoStream], *, decoding_times_only: bool) -> int | None:
    """When the packet's frame is shown, or when its turn in decoding comes where nothing else is told.

    Sorted, both are the same times: the first frame shown takes the first turn.
    """
    return packet.dts if decoding_times_only else packet.pts


def is_mp4(path: Path) -> bool:
    """True when the file begins as MP4 and MOV files do."""
    with path.open("rb") as file:
        return file.read(8)[4:8] in mp4_header.FIRST_BOXES


def _open_error(path: Path, error: Exception) -> SourceError:
    if isinstance(error, PermissionError | FileNotFoundError):
        return SourceError(f"{path.name} cannot be opened: {error.strerror}")
    if is_mp4(path) and mp4_header.lacks_index(path):
        return SourceError(
            f"{path.name} was cut short: its index (the moov part of an MP4) is missing, and nothing can be "
            f"read without it. Copy or record it again."
        )
    return SourceError(f"{path.name} cannot be read: expected {READABLE}; its content is none of these")


def _picture_stream(container: InputContainer, name: str) -> VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        what = "sound but no picture" if container.streams.audio else "no picture"
        raise SourceError(f"{name} holds {what}; expected a video with a picture track")
    # Several tracks: the one marked as default, else the first, as players choose.
    stream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    if getattr(stream, "codec_context", None) is None:
        raise SourceError(
            f"{name} is coded in a way that this FFmpeg build cannot decode. Convert it to H.264 first."
        )
    check_size(stream.codec_context.width, stream.codec_context.height, source=name)
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.thread_type = "AUTO"
    return stream

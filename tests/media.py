"""Small real media files for tests: each function writes one kind of file, healthy or hurt.

Every video frame carries its own number, so that a test can say which frame it was given: `picture(i)` draws
it and `picture_number(rgb)` reads it back, through lossy coding and resizing. The picture also shows its
orientation (red left, blue right, the number on top), so that a flip or a turn cannot pass for upright.

In a test take the fixture `media` (tests/conftest.py), which writes each file once a session:

    path = media(variable_rate)
    path = media(constant_rate, frame_count=60)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import Image

RgbArray = npt.NDArray[np.uint8]
Writer = Callable[..., None]

SIZE_PX = (96, 64)
FPS = 10
FRAME_COUNT = 12
VARIABLE_TIMES_S = (0.0, 0.1, 0.2, 0.9, 1.0, 1.7, 1.8, 1.85, 2.5, 2.75, 3.0, 5.0)
_BITS = 10
_MILLISECOND = Fraction(1, 1000)

FILE_NAMES: dict[Writer, str] = {}


def _named(name: str) -> Callable[[Writer], Writer]:
    def register(write: Writer) -> Writer:
        FILE_NAMES[write] = name
        return write

    return register


class Shelf:
    """Files by writer and options, each written once into one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}

    def __call__(self, write: Writer, **options: object) -> Path:
        key = f"{write.__name__} {sorted(options.items())!r}"
        if key not in self._paths:
            folder = self._folder / str(len(self._paths))
            folder.mkdir()
            path = folder / FILE_NAMES[write]
            write(path, **options)
            self._paths[key] = path
        return self._paths[key]


# ---------------------------------------------------------------- pictures that know their number


def picture(number: int, *, width_px: int = SIZE_PX[0], height_px: int = SIZE_PX[1]) -> RgbArray:
    """uint8[h, w, 3]: the number as ten black and white blocks on top, red left and blue right below."""
    rgb = np.zeros((height_px, width_px, 3), dtype=np.uint8)
    for bit in range(_BITS):
        row, column = divmod(bit, _BITS // 2)
        y0, y1 = row * height_px // 4, (row + 1) * height_px // 4
        x0, x1 = column * width_px // 5, (column + 1) * width_px // 5
        rgb[y0:y1, x0:x1] = 235 if number >> bit & 1 else 20
    rgb[height_px // 2 :, : width_px // 2] = (200, 30, 30)
    rgb[height_px // 2 :, width_px // 2 :] = (30, 30, 200)
    return rgb


def picture_number(rgb: RgbArray) -> int:
    """The number that `picture` drew, read from the middle of each block."""
    height, width = rgb.shape[:2]
    number = 0
    for bit in range(_BITS):
        row, column = divmod(bit, _BITS // 2)
        y, x = (2 * row + 1) * height // 8, (2 * column + 1) * width // 10
        number |= int(rgb[y, x].mean() > 128) << bit
    return number


def is_upright(rgb: RgbArray) -> bool:
    """True when the lower half is red on the left and blue on the right, as `picture` draws it."""
    height, width = rgb.shape[:2]
    left, right = rgb[height * 3 // 4, width // 4], rgb[height * 3 // 4, width * 3 // 4]
    return bool(left[0] > 120 > left[2] and right[2] > 120 > right[0])


# ---------------------------------------------------------------- the one writer behind the others


def write_video(
    path: Path,
    *,
    times_s: Sequence[float] | None = None,
    frame_count: int = FRAME_COUNT,
    fps: int = FPS,
    size_px: tuple[int, int] = SIZE_PX,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    b_frames: int = 0,
    keyframe_every: int = 12,
    draw: Callable[[int], RgbArray] | None = None,
    set_up: Callable[[VideoStream], None] | None = None,
    muxer_options: dict[str, str] | None = None,
    format_name: str | None = None,
    sound: bool = False,
) -> None:
    """Write pictures 0, 1, 2, … at `times_s` (seconds; the grid of `fps` without it)."""
    times = [i / fps for i in range(frame_count)] if times_s is None else list(times_s)
    width, height = size_px
    options = {"g": str(keyframe_every), "bf": str(b_frames)} if codec in ("libx264", "mpeg4") else {}
    if codec == "libx264":
        options |= {"preset": "ultrafast", "threads": "1", "sc_threshold": "0"}
    with av.open(str(path), "w", format=format_name, options=muxer_options or {}) as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=fps, options=options))
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = _MILLISECOND
        if set_up is not None:
            set_up(stream)
        voice = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        container.start_encoding()
        for number, time_s in enumerate(times):
            rgb = picture(number, width_px=width, height_px=height) if draw is None else draw(number)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), _MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            _encode_tone(container, voice, duration_s=len(times) / fps)


def _encode_tone(container: OutputContainer, stream: AudioStream, *, duration_s: float) -> None:
    samples = (np.sin(np.arange(int(duration_s * 16000)) * 0.17) * 8000).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
    frame.sample_rate = 16000
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


# ---------------------------------------------------------------- healthy files


@_named("constant_rate.mp4")
def constant_rate(path: Path, *, frame_count: int = FRAME_COUNT, fps: int = FPS) -> None:
    """H.264, one frame every 1 / fps seconds, no B-frames."""
    write_video(path, frame_count=frame_count, fps=fps)


@_named("with_sound.mp4")
def with_sound(path: Path, *, frame_count: int = FRAME_COUNT) -> None:
    """The constant rate file with an AAC track beside the picture."""
    write_video(path, frame_count=frame_count, sound=True)


@_named("variable_rate.mp4")
def variable_rate(path: Path) -> None:
    """Frames at VARIABLE_TIMES_S, the last one two seconds after the one before it."""
    write_video(path, times_s=VARIABLE_TIMES_S)


@_named("variable_rate_b_frames.mp4")
def variable_rate_b_frames(path: Path) -> None:
    """The same times stored out of order; the header's duration (a sum of decoding steps) is then wrong."""
    write_video(path, times_s=VARIABLE_TIMES_S, b_frames=2)


@_named("b_frames.mp4")
def b_frames(path: Path, *, frame_count: int = FRAME_COUNT) -> None:
    """Two B-frames between references, so that frames are stored in another order than they are shown."""
    write_video(path, frame_count=frame_count, b_frames=2)


@_named("edit_list.mp4")
def edit_list(path: Path) -> None:
    """Pictures 0–4 lie before time zero and an edit list hides them: a player starts with picture 5."""
    write_video(path, times_s=[(i - 5) / FPS for i in range(FRAME_COUNT)], b_frames=2)


@_named("late_start.mkv")
def late_start(path: Path) -> None:
    """The first frame has the time 1.5 s in a Matroska file."""
    write_video(path, times_s=[1.5 + i / FPS for i in range(FRAME_COUNT)], b_frames=2)


@_named("transport.ts")
def transport_stream(path: Path) -> None:
    """MPEG-TS: no index, no frame durations, a first time that is not zero."""
    write_video(path, b_frames=2)


@_named("b_frames.avi")
def avi_b_frames(path: Path, *, codec: str = "libx264", frame_count: int = FRAME_COUNT) -> None:
    """AVI tells when a packet's turn in decoding comes and never when its picture is shown."""

    def set_up(stream: VideoStream) -> None:
        stream.codec_context.time_base = Fraction(1, FPS)  # which is all that this format has for a rate

    write_video(path, codec=codec, b_frames=2, keyframe_every=6, frame_count=frame_count, set_up=set_up)


@_named("rotated.mp4")
def rotated(path: Path, *, degrees_counterclockwise: int = 90, mirrored: bool = False) -> None:
    """Stored turned, with the display matrix that makes a player show it upright, as phones write it.

    Shown size: 64×96 for a quarter turn, 96×64 for a half turn.
    """
    quarter_turns = degrees_counterclockwise // 90
    width, height = SIZE_PX if quarter_turns % 2 == 0 else SIZE_PX[::-1]

    def draw(number: int) -> RgbArray:
        upright = picture(number, width_px=width, height_px=height)
        stored = np.rot90(upright[:, ::-1] if mirrored else upright, -quarter_turns)
        return np.ascontiguousarray(stored)

    def set_up(stream: VideoStream) -> None:
        stream.set_display_rotation(degrees_counterclockwise, hflip=mirrored)

    write_video(path, draw=draw, set_up=set_up)


@_named("odd_size.mp4")
def odd_size(path: Path) -> None:
    """97×63 pixels."""
    write_video(path, size_px=(97, 63), codec="mpeg4")


@_named("ten_bit.mp4")
def ten_bit(path: Path) -> None:
    """H.264 High 10."""
    write_video(path, pixel_format="yuv420p10le")


@_named("anamorphic.mp4")
def anamorphic(path: Path) -> None:
    """Stored 96×64 with pixels 4:3 wide: a player shows 128×64."""

    def set_up(stream: VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    write_video(path, set_up=set_up)


@_named("no_duration.mkv")
def no_duration(path: Path) -> None:
    """Matroska as a live stream is recorded: no duration and no index in the file."""
    write_video(path, b_frames=2, muxer_options={"live": "1"})


@_named("fragmented.mp4")
def fragmented(path: Path) -> None:
    """MP4 in fragments with an empty header, as a dashboard camera writes it."""
    write_video(path, b_frames=2, muxer_options={"movflags": "frag_keyframe+empty_moov"})


@_named("raw.h264")
def raw_h264(path: Path) -> None:
    """An H.264 stream with no container: no times at all; a player shows 25 frames a second."""
    write_video(path, b_frames=2, format_name="h264", fps=25)


@_named("one_frame.mp4")
def one_frame(path: Path) -> None:
    """A video of a single frame."""
    write_video(path, frame_count=1)


@_named("size_change.mkv")
def size_change(path: Path) -> None:
    """Six frames of 96×64, then six of 48×32 in the same stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=FPS, options={"q:v": "2"})
        stream.width, stream.height, stream.pix_fmt = *SIZE_PX, "yuvj444p"
        container.start_encoding()
        for number in range(FRAME_COUNT):
            width, height = SIZE_PX if number < 6 else (SIZE_PX[0] // 2, SIZE_PX[1] // 2)
            for packet in _jpeg_packets(picture(number, width_px=width, height_px=height)):
                packet.stream, packet.time_base = stream, Fraction(1, FPS)
                packet.pts = packet.dts = number
                container.mux(packet)


def _jpeg_packets(rgb: RgbArray) -> list[av.Packet[VideoStream]]:
    context = av.CodecContext.create("mjpeg", "w")
    context.height, context.width = rgb.shape[:2]
    context.pix_fmt, context.time_base = "yuvj444p", Fraction(1, FPS)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuvj444p")
    frame.pts = 0
    return [*context.encode(frame), *context.encode(None)]


@_named("animated.gif")
def animated_gif(path: Path) -> None:
    """Four pictures shown for 0.1, 0.2, 0.3 and 0.05 s."""
    _animation(path)


@_named("animated.webp")
def animated_webp(path: Path) -> None:
    """The same four pictures as an animated WebP, which FFmpeg cannot read."""
    _animation(path, lossless=True)


@_named("animated.png")
def animated_png(path: Path) -> None:
    """The same four pictures as an animated PNG."""
    _animation(path)


def _animation(path: Path, *, lossless: bool = False) -> None:
    first, *rest = [Image.fromarray(picture(i)) for i in range(4)]
    first.save(path, save_all=True, append_images=rest, duration=[100, 200, 300, 50], lossless=lossless)


# ---------------------------------------------------------------- hurt files


@_named("audio_only.mp4")
def audio_only(path: Path) -> None:
    """One second of sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        _encode_tone(container, stream, duration_s=1.0)


@_named("cover_art.mp3")
def cover_art(path: Path) -> None:
    """Sound with a picture on its cover, which FFmpeg calls a video stream."""
    with av.open(str(path), "w") as container:
        tone = container.add_stream("libmp3lame", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=FPS)
        cover.width, cover.height, cover.pix_fmt = *SIZE_PX, "yuvj444p"
        cover.disposition = Disposition.attached_pic
        container.start_encoding()
        for packet in _jpeg_packets(picture(0)):
            packet.stream = cover
            container.mux(packet)
        _encode_tone(container, tone, duration_s=1.0)


@_named("zero_frames.mp4")
def zero_frames(path: Path) -> None:
    """A video track that is described and holds no frame."""
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *SIZE_PX, "yuv420p"
        container.start_encoding()


@_named("empty.mp4")
def empty(path: Path) -> None:
    """No bytes."""
    path.write_bytes(b"")


@_named("renamed_text.mp4")
def renamed_text(path: Path) -> None:
    """Words, called a video."""
    path.write_text("This is a shopping list.\n" * 40)


@_named("notes.txt")
def text(path: Path) -> None:
    """Words, called words; FFmpeg would draw them as a film of a terminal."""
    renamed_text(path)


@_named("playlist.mp4")
def playlist(path: Path) -> None:
    """A text that asks FFmpeg to open other files."""
    write_video(path.with_name("other.mp4"))
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")


@_named("truncated_no_header.mp4")
def truncated_no_header(path: Path) -> None:
    """The first 60 % of an MP4 whose header stands at the end: nothing can be read."""
    write_video(path, b_frames=2)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


@_named("truncated_tail.mp4")
def truncated_tail(path: Path, *, frame_count: int = 60) -> None:
    """The header in front promises `frame_count` frames at 10 a second; the last 40 % of it are gone."""
    _write_rolling(path, frame_count=frame_count, muxer_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


@_named("rolling.mp4")
def rolling(path: Path, *, frame_count: int = 60) -> None:
    """Frames at 10 a second, of about as many bytes each; every tenth stands by itself."""
    _write_rolling(path, frame_count=frame_count)


def without_packets(path: Path, numbers: Iterable[int]) -> bytes:
    """The file's bytes, with those of some packets, counted in the order of decoding, made unreadable."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        start, size = packets[number].pos or 0, packets[number].size
        data[start : start + size] = b"\xff" * size
    return bytes(data)


@_named("damaged_middle.mp4")
def damaged_middle(path: Path, *, frame_count: int = 60) -> None:
    """Sixty frames at 10 a second; the bytes from 40 % to 60 % of the pictures are zero."""
    _write_rolling(path, frame_count=frame_count)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big")
    _wipe(data, start + size * 4 // 10, start + size * 6 // 10)
    path.write_bytes(data)


@_named("damaged_middle.mkv")
def damaged_middle_mkv(path: Path, *, frame_count: int = 60) -> None:
    """The same in Matroska, where the damage also hides that there were frames."""
    _write_rolling(path, frame_count=frame_count)
    data = bytearray(path.read_bytes())
    _wipe(data, len(data) * 4 // 10, len(data) * 6 // 10)
    path.write_bytes(data)


def _wipe(data: bytearray, start: int, end: int) -> None:
    data[start:end] = bytes(end - start)


def _write_rolling(path: Path, *, frame_count: int, muxer_options: dict[str, str] | None = None) -> None:
    """Numbered pictures over a rolling texture, so that every frame takes about as many bytes."""
    rng = np.random.default_rng(5)
    texture = rng.integers(40, 200, (SIZE_PX[1] // 8, SIZE_PX[0] // 8, 3), dtype=np.uint8)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)

    def draw(number: int) -> RgbArray:
        rgb = picture(number)
        rgb[SIZE_PX[1] // 2 :] = np.roll(texture, 5 * number, axis=1)[SIZE_PX[1] // 2 :]
        return rgb

    write_video(
        path, frame_count=frame_count, b_frames=2, keyframe_every=10, draw=draw, muxer_options=muxer_options
    )


@_named("gigantic.mp4")
def gigantic(path: Path, *, width_px: int = 60000, height_px: int = 50000) -> None:
    """A small MP4 whose sample description says 60000×50000."""
    write_video(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
    data[at : at + 4] = width_px.to_bytes(2, "big") + height_px.to_bytes(2, "big")
    path.write_bytes(data)


@_named("gigantic.avi")
def gigantic_avi(path: Path, *, width_px: int = 60000, height_px: int = 50000) -> None:
    """An AVI of uncompressed pictures, whose header alone says how large they are."""
    write_video(path, codec="rawvideo", frame_count=2)
    data = bytearray(path.read_bytes())
    at = data.index(b"strf") + 12
    data[at : at + 8] = width_px.to_bytes(4, "little") + height_px.to_bytes(4, "little")
    path.write_bytes(data)


@_named("gigantic.gif")
def gigantic_gif(path: Path) -> None:
    """A one-pixel GIF on a canvas of 65535×65535."""
    canvas = (65535).to_bytes(2, "little") * 2
    palette = b"\x00\x00\x00\xff\xff\xff"
    pixel = b"\x2c" + bytes(4) + b"\x01\x00\x01\x00\x00" + b"\x02\x02\x4c\x01\x00"
    path.write_bytes(b"GIF89a" + canvas + b"\x80\x00\x00" + palette + pixel + b"\x3b")

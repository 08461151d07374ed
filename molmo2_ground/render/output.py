"""The whole of a result, drawn over its media, in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from molmo2_ground._wanted import FUNCTION
from molmo2_ground.clip import Clip, Frame, RgbArray
from molmo2_ground.frame_times import FrameTimes, frame_s_of, name_of
from molmo2_ground.render.draw import Painter
from molmo2_ground.render.overlay import Drawable
from molmo2_ground.render.picture import PICTURE_SUFFIXES, write_picture
from molmo2_ground.render.sheet import contact_sheet
from molmo2_ground.render.sound import Sound
from molmo2_ground.render.trajectory import Result
from molmo2_ground.render.video import VIDEO_SUFFIXES, write_video
from molmo2_ground.results import Masks
from molmo2_ground.sources import MediaLike, iter_frames, open_clip, probe

# Decoders that give no RGB: the RGB of each of their frames was made for us alone and may be drawn on, which
# saves a copy. Pixels of others may be the decoder's own, from which it makes the next frame.
_NEVER_RGB = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mjpeg")


def render(
    media: MediaLike,
    result: Result,
    out_path: str | Path,
    *,
    masks: Masks | None = None,
    trail_s: float = 2.0,
    hidden: bool = False,
    zones: Sequence[Drawable] = (),
    on_progress: Callable[[float], None] | None = None,
) -> Path:
    """Write the media with the result drawn on it, and return where.

    A video becomes .mp4, .m4v or .mov: H.264 in yuv420p with the index in front, at the source's size (an
    odd width or height gets one more pixel) and at its frames' own times, rotation applied, sound copied
    where mp4 holds it and browsers play it, else as AAC. One image becomes .png, .jpg, .jpeg or .webp;
    several images, or a video under such a name, a contact sheet. `masks`, made by `segment` from the same
    media and result, are drawn frame by frame. `trail_s` is how many seconds of the past a trail shows.
    `hidden` marks the place where an object was last seen while the model looks and does not see it. `zones`
    are drawn with the number of objects inside. `on_progress` hears the share that is done, 0 to 1. The file
    appears whole or not at all.

    Raises `SourceError` when the media cannot be read, and `ValueError` for a suffix that does not fit, when
    the file would take the place of its own source, or for a file that is certainly another one than the
    result's: of another shape (a scaled copy is drawn on), or a video whose frames are shown at other times.
    """
    FUNCTION.or_nothing().check("on_progress", on_progress)
    out = Path(out_path).expanduser()
    _check_target(media, out)
    kind = _checked_kind(media, result)
    if out.suffix.lower() in VIDEO_SUFFIXES:
        if kind == "images":
            raise ValueError(
                f"images are not written as a video; name the file {out.stem}.png instead of {out.name}"
            )
        painter = Painter(result, masks=masks, trail_s=trail_s, hidden=hidden, zones=zones)
        return _video(media, result, painter, out, on_progress=on_progress)
    if kind == "images":
        clip = media if isinstance(media, Clip) else open_clip(media)
        if len(clip) == 1:
            frame = clip.frames[0]
            painter = Painter(result, masks=masks, zones=zones)
            return write_picture(painter.paint(frame.rgb, source_index=frame.source_index), out)
    return contact_sheet(media, result, out, masks=masks, hidden=hidden, zones=zones)


def _video(
    media: MediaLike,
    result: Result,
    painter: Painter,
    out: Path,
    *,
    on_progress: Callable[[float], None] | None,
) -> Path:
    if isinstance(media, Clip):
        frames, fps, duration_s, sound = iter(media.frames), media.fps, media.duration_s, None
        ours = False
    elif isinstance(media, str | os.PathLike):
        info = probe(media)
        fps, duration_s = info.fps, info.duration_s
        times = FrameTimes.of(result.receipt)
        frames = times.drawn_on(iter_frames(media), name=name_of(media), frame_s=frame_s_of(fps))
        ours = info.codec in _NEVER_RGB
        sound = Sound.of(Path(media).expanduser()) if info.has_audio else None
    else:
        raise ValueError(f"a video is read from a file or a Clip; got {type(media).__name__}")

    def painted() -> Iterator[tuple[Frame, RgbArray]]:
        for frame in frames:
            if ours and frame.rgb.flags.writeable and frame.rgb.flags.c_contiguous:
                painter.paint_over(frame.rgb, time_s=frame.time_s, source_index=frame.source_index)
                yield frame, frame.rgb
            else:
                yield frame, painter.paint(frame.rgb, time_s=frame.time_s, source_index=frame.source_index)

    tell = _Progress(on_progress, duration_s)
    with sound or nullcontext():
        write_video(painted(), out, fps=fps, sound=sound, on_frame=tell.frame)
    tell.done()
    return out


def _checked_kind(media: MediaLike, result: Result) -> str:
    """`video` or `images`. Raises `ValueError` for other media than the result's, as far as headers tell."""
    if isinstance(media, Clip):
        return media.kind
    info = probe(media)
    FrameTimes.of(result.receipt).check_drawn(
        info.kind,
        (info.width_px, info.height_px),
        name=name_of(media),
        duration_s=info.duration_s,
        frame_s=frame_s_of(info.fps),
    )
    return info.kind


class _Progress:
    """Tells a listener about each further hundredth, once."""

    def __init__(self, listener: Callable[[float], None] | None, duration_s: float | None) -> None:
        self._listener = listener
        self._duration_s = duration_s
        self._told = -1

    def frame(self, time_s: float) -> None:
        """A frame of this time is written."""
        if self._listener is None or not self._duration_s:
            return
        percent = min(99, int(100 * time_s / self._duration_s))
        if percent > self._told:
            self._told = percent
            self._listener(percent / 100)

    def done(self) -> None:
        """The file is there."""
        if self._listener is not None:
            self._listener(1.0)


def _check_target(media: MediaLike, out: Path) -> None:
    suffixes = (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES)
    if out.suffix.lower() not in suffixes:
        raise ValueError(f"the suffix chooses the format, one of {', '.join(suffixes)}; got {out.name!r}")
    if not isinstance(media, str | os.PathLike) or not out.exists():
        return
    source = Path(media).expanduser()
    if source.exists() and out.samefile(source):
        raise ValueError(f"{out} is the source itself; choose another name for the annotated file")

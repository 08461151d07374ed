"""From what a caller hands in to a `Clip`, to all of its frames, or to a few facts about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import Clip, Frame, RgbArray
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.images import opened_image
from molmo2_ground.sources.media import FilmFile, MediaLike, recognise
from molmo2_ground.sources.sampling import uniform_last_frame
from molmo2_ground.sources.shots import SAME_TIME_S, frames_at, to_frame

DEFAULT_MAX_FRAMES = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What a source is, without its pictures.

    width_px, height_px  as a player shows it; of the first picture when there are several.
    duration_s           from the first frame to the end of the last, None for still pictures.
    fps                  average frames a second, None for still pictures.
    frame_count          frames that are shown, or pictures; None when unknown.
    codec                `h264`, `gif`, …; None for what was handed in as arrays.
    lost                 what the header promises and the file does not hold.
    """

    kind: Literal["video", "images"]
    width_px: int
    height_px: int
    duration_s: float | None = None
    fps: float | None = None
    frame_count: int | None = None
    has_audio: bool = False
    codec: str | None = None
    lost: tuple[str, ...] = ()


def open_clip(
    media: MediaLike,
    *,
    times: Callable[[float], npt.NDArray[np.float64]] | None = None,
    resize: Callable[[RgbArray], RgbArray] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Clip:
    """Read what the model is shown: the wanted frames of a video, or the pictures themselves.

    times: from the duration in seconds to the wanted times, rising, seconds from 0 to the duration; without
    it two a second and the last frame, at most 384. Each time gets the frame that is on screen then. A source
    that yields no time (a grid over an empty duration) gets its first frame.
    resize: applied to each wanted frame of a video as soon as it is RGB, so that only small ones are kept;
    the frames' `width_px` and `height_px` stay those of the source. Pictures and clips stay as they are.
    on_progress: called with the fraction done, 0 to 1.
    Raises `SourceError` when nothing can be read; a damaged video gives the frames that it has, and
    `Clip.lost` says what was lost.
    """
    found = recognise(media)
    if isinstance(found, Clip):
        return found
    with found.opened() as film:
        wanted = wanted_times(film.duration_s, times)
        frames = tuple(frames_at(film, iter(wanted), resize=resize, on_progress=on_progress))
        lost = film.losses.take()
        if not frames:
            raise SourceError(f"{film.name}: no frame can be read at any of the {len(wanted)} wanted times")
        return Clip(frames=frames, fps=film.fps, duration_s=film.duration_s, source=film.name, lost=lost)


def wanted_times(duration_s: float, times: Callable[[float], npt.NDArray[np.float64]] | None) -> list[float]:
    """The times that `open_clip` asks a video of this duration for, seconds; `times` as it takes them."""
    if times is None:
        return [float(t) for t in uniform_last_frame(duration_s, max_frames=DEFAULT_MAX_FRAMES)]
    wanted = np.asarray(times(duration_s), dtype=np.float64).reshape(-1)
    if not len(wanted):
        return [0.0]
    if not np.isfinite(wanted).all() or wanted[0] < 0 or wanted[-1] > duration_s + SAME_TIME_S:
        raise ValueError(
            f"wanted times must lie from 0 to {duration_s} s; got {wanted.min()} to {wanted.max()}"
        )
    if (np.diff(wanted) < 0).any():
        raise ValueError("wanted times must rise")
    return [float(time_s) for time_s in wanted]


def iter_frames(
    path: str | os.PathLike[str],
    *,
    on_progress: Callable[[float], None] | None = None,
    on_lost: Callable[[str], None] | None = None,
) -> Iterator[Frame]:
    """Every frame of a video in order of presentation, upright, with square pixels, one at a time.

    `shown_time_s` is each frame's own time. on_progress: called with the fraction done, 0 to 1. on_lost:
    called with a line for each thing that could not be read. Raises `SourceError` like `open_clip`, also for
    still pictures, which have no times.
    """
    found = recognise(path)
    if not isinstance(found, FilmFile):
        raise SourceError(f"expected a video; {found.source} holds still pictures")
    with found.opened(measured=on_progress is not None) as film:
        for shot in film.shots():
            yield to_frame(shot, shot.paint(), source=film, shown_time_s=shot.time_s)
            if on_progress is not None:
                on_progress(min(1.0, shot.end_s / film.duration_s))
        for line in film.losses.take():
            if on_lost is not None:
                on_lost(line)


def probe(media: MediaLike) -> SourceInfo:
    """Say what a source is; of a video the first frame is decoded and the packets are counted."""
    found = recognise(media)
    if isinstance(found, FilmFile):
        with found.opened() as film:
            return SourceInfo(
                kind="video",
                width_px=film.width_px,
                height_px=film.height_px,
                duration_s=film.duration_s,
                fps=film.fps,
                frame_count=film.frame_count,
                has_audio=film.has_audio,
                codec=film.codec,
                lost=film.losses.take(),
            )
    return SourceInfo(
        kind=found.kind,
        width_px=found.frames[0].width_px,
        height_px=found.frames[0].height_px,
        duration_s=found.duration_s,
        fps=found.fps,
        frame_count=len(found),
        codec=_image_codec(media),
        lost=found.lost,
    )


def _image_codec(media: MediaLike) -> str | None:
    if not isinstance(media, str | os.PathLike) or Path(media).expanduser().is_dir():
        return None
    with opened_image(Path(media).expanduser()) as image:
        return None if image is None or image.format is None else image.format.lower()

"""A long video as overlapping windows of sampled frames, in one pass and bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count, takewhile
from typing import TypeVar

from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.media import FilmFile, MediaLike, recognise
from molmo2_ground.sources.shots import frames_at

_Item = TypeVar("_Item")


def open_windows(
    media: MediaLike,
    *,
    rate: float,
    window_frames: int,
    overlap_frames: int,
    resize: Callable[[RgbArray], RgbArray] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Iterator[Clip]:
    """Windows over the frames at k / rate seconds, one grid for the whole video.

    Each window holds `window_frames` frames (the last may hold fewer), the first `overlap_frames` of which
    were the last of the window before; a short video is one window. Times are those of the whole video, as is
    each window's `duration_s`; `lost` tells what was lost since the window before. The video is read once and
    no more than one window and a frame are kept. A `Clip` with times is cut as it is, without the grid.
    resize, on_progress: as for `open_clip`. Raises `ValueError` for impossible sizes and `SourceError` for
    what cannot be read or holds still pictures.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"rate must be above 0 frames a second; got {rate}")
    if not 0 <= overlap_frames < window_frames:
        raise ValueError(
            f"a window needs more frames than it shares; got window_frames={window_frames}, "
            f"overlap_frames={overlap_frames}"
        )
    found = recognise(media)
    if isinstance(found, FilmFile):
        return _film_windows(found, rate, window_frames, overlap_frames, resize, on_progress)
    if found.kind != "video":
        raise SourceError(f"windows are cut from a video; {found.source} holds still pictures")
    return _clip_windows(found, window_frames, overlap_frames)


def _film_windows(
    film_file: FilmFile,
    rate: float,
    window_frames: int,
    overlap_frames: int,
    resize: Callable[[RgbArray], RgbArray] | None,
    on_progress: Callable[[float], None] | None,
) -> Iterator[Clip]:
    with film_file.opened() as film:
        duration_s, nothing = film.duration_s, True
        frames = frames_at(film, grid_times(duration_s, rate=rate), resize=resize, on_progress=on_progress)
        for window in cut(frames, size=window_frames, overlap=overlap_frames):
            nothing = False
            yield Clip(
                frames=window,
                fps=film.fps,
                duration_s=duration_s,
                source=film.name,
                lost=film.losses.take(),
            )
        if nothing:
            raise SourceError(f"{film.name}: no frame can be read at any of the wanted times")


def _clip_windows(clip: Clip, window_frames: int, overlap_frames: int) -> Iterator[Clip]:
    for number, window in enumerate(cut(iter(clip.frames), size=window_frames, overlap=overlap_frames)):
        yield Clip(
            frames=window,
            fps=clip.fps,
            duration_s=clip.duration_s,
            source=clip.source,
            lost=clip.lost if number == 0 else (),
        )


def grid_times(duration_s: float, *, rate: float) -> Iterator[float]:
    """Times of a whole video's windows, seconds: k / rate for k = 0, 1, 2, … below the duration."""
    return takewhile(lambda time_s: time_s < duration_s, (k / rate for k in count()))


def cut(frames: Iterator[_Item], *, size: int, overlap: int) -> Iterator[tuple[_Item, ...]]:
    """Runs of `size` frames, or of their times; the first `overlap` were the last of the run before.

    A full one waits for the next frame, so that the last tells of the end.
    """
    window: list[_Item] = []
    for frame in frames:
        if len(window) == size:
            yield tuple(window)
            window = window[size - overlap :]
        window.append(frame)
    if window:
        yield tuple(window)

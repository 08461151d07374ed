"""Marks of a file of annotations, settled: with the size and the times that the video itself says."""

from __future__ import annotations

from dataclasses import replace

from molmo2_ground._amount import amount
from molmo2_ground.errors import SourceError
from molmo2_ground.export.marks import Mark, MarkedMedia
from molmo2_ground.sources.film_facts import FilmFacts

_UNKNOWN = (0, 0)


def settled(
    media: MarkedMedia,
    *,
    film: FilmFacts | None = None,
    fps: float | None = None,
    size_px: tuple[int, int] | None = None,
) -> MarkedMedia:
    """The same marks in pixels, each with its time.

    film: the video that they are of; its size and the times of its frames count.
    fps, size_px: without the video, the frame rate and the size, where the file does not say them. Times that
    were counted by a rate are named among what was left out: the video may show its frames at others.
    Pictures are settled as they are. Raises `SourceError` when a time or the size cannot be known, when the
    video has another size or fewer frames than the file says.
    """
    if media.kind == "images":
        if any(media.size_of(mark.frame) == _UNKNOWN for mark in media.marks):
            raise SourceError(f"{media.name}: the file does not say how large its pictures are")
        return media
    media = _in_pixels(media, film.size_px if film is not None else size_px)
    if film is None:
        return _by_rate(media, fps)
    if media.size_px != film.size_px:
        raise SourceError(
            f"{media.name} is annotated at {media.size_px[0]} x {media.size_px[1]} pixels, and the video has "
            f"{film.size_px[0]} x {film.size_px[1]}"
        )
    count = len(film.times_s)
    late = next((mark for mark in media.marks if mark.frame >= count), None)
    if late is not None:
        raise SourceError(
            f"{media.name} has a mark in frame {late.frame}, counted from 0, and the video has "
            f"{amount(count, 'frame')}"
        )
    frames = tuple(frame for frame in media.frames if frame < count)
    times_s = {frame: float(film.times_s[frame]) for frame in frames}
    return replace(
        _timed(media, times_s), frames=frames, fps=film.fps or media.fps, frame_count=count, times_s=times_s
    )


def _by_rate(media: MarkedMedia, fps: float | None) -> MarkedMedia:
    rate = fps or media.fps
    if any(frame not in media.times_s for frame in media.frames) and not rate:
        raise SourceError(
            f"{media.name}: the file numbers frames and does not say when they are shown; name the video "
            "(--media), or its frames a second (--fps)"
        )
    times_s = {
        frame: media.times_s[frame] if frame in media.times_s else frame / (rate or 1.0)
        for frame in media.frames
    }
    left_out = media.left_out
    if rate and times_s.keys() - media.times_s.keys():
        note = f"its times are counted by {rate:g} frames a second; the video itself (--media) has its own"
        left_out = (*left_out, note)
    return replace(_timed(media, times_s), fps=rate, times_s=times_s, left_out=left_out)


def _timed(media: MarkedMedia, times_s: dict[int, float]) -> MarkedMedia:
    return replace(media, marks=tuple(replace(mark, time_s=times_s[mark.frame]) for mark in media.marks))


def _in_pixels(media: MarkedMedia, size_px: tuple[int, int] | None) -> MarkedMedia:
    if media.size_px != _UNKNOWN and not media.percent:
        return media
    if size_px is None:
        raise SourceError(
            f"{media.name}: the file does not say how large the video's pictures are; name the video "
            "(--media) or the size (--size WIDTHxHEIGHT)"
        )
    if not media.percent:
        return replace(media, size_px=size_px)
    across, down = size_px[0] / 100, size_px[1] / 100
    marks = tuple(_scaled(mark, across, down) for mark in media.marks)
    return replace(media, size_px=size_px, marks=marks, percent=False)


def _scaled(mark: Mark, across: float, down: float) -> Mark:
    if mark.box_px is None:
        return mark
    left, top, right, bottom = mark.box_px
    return replace(mark, box_px=(left * across, top * down, right * across, bottom * down))

"""`Shot`: one frame of a moving source at its place in time, and which one is on screen when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.sources.losses import Losses

# A wanted time and a presentation time that differ by less are the same: times come from divisions.
SAME_TIME_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """One frame in order of presentation.

    index        its number in the file, from 0.
    time_s       its presentation time, seconds after the first frame.
    end_s        when its own duration is over; the next frame usually comes then.
    hole_before  frames between the one before and this one were lost.
    damaged      it is hurt, or builds on a frame that is hurt or lost; its pixels are a guess.
    paint        makes the pixels; called for wanted frames only, because it costs more than decoding.
    """

    index: int
    time_s: float
    end_s: float
    hole_before: bool
    damaged: bool = False
    paint: Callable[[], RgbArray]


class MovingSource(Protocol):
    """A video or an animated picture, opened and with its first frame decoded.

    Sizes are in pixels as a player shows it; `duration_s` runs from the first frame to the end of the last.
    `lost_at_start` and `lost_at_end` are frames before the first and after the last that could be decoded;
    what was lost is known once the first frame, or the last, was given.
    """

    name: str
    width_px: int
    height_px: int
    duration_s: float
    fps: float | None
    frame_count: int | None
    has_audio: bool
    codec: str
    losses: Losses
    lost_at_start: int
    lost_at_end: int

    def shots(self) -> Iterator[Shot]:
        """Every frame in order of presentation, once."""
        ...


def on_screen(source: MovingSource, wanted_s: Iterator[float]) -> Iterator[tuple[Shot, list[float]]]:
    """For wanted times in rising order: each shot that is on screen at some of them, with those times.

    A time belongs to the last shot that begins no later. Times in a stretch that was lost belong to none and
    are counted in `source.losses`. Reading ends with the last wanted time.
    """
    time_s = next(wanted_s, None)
    shown: Shot | None = None
    for shot in source.shots():
        if time_s is None:
            return
        if shown is not None:
            seen: list[float] = []
            while time_s is not None and time_s + SAME_TIME_S < shot.time_s:
                _see(time_s, shown, seen, source.losses, hole=shot.hole_before)
                time_s = next(wanted_s, None)
            if seen:
                yield shown, seen
        shown = shot
    if shown is None:
        return
    rest: list[float] = []
    while time_s is not None:
        _see(time_s, shown, rest, source.losses, hole=source.lost_at_end > 0)
        time_s = next(wanted_s, None)
    if rest:
        yield shown, rest


def _see(time_s: float, shown: Shot, seen: list[float], losses: Losses, *, hole: bool) -> None:
    if hole and time_s + SAME_TIME_S >= shown.end_s:
        losses.unseen_time()
    else:
        seen.append(time_s)


def frames_at(
    source: MovingSource,
    wanted_s: Iterator[float],
    *,
    resize: Callable[[RgbArray], RgbArray] | None,
    on_progress: Callable[[float], None] | None,
) -> Iterator[Frame]:
    """One frame a wanted time; a shot wanted twice is converted once and its pixels are shared."""
    for shot, times_s in on_screen(source, wanted_s):
        rgb = shot.paint()
        if resize is not None:
            rgb = resize(rgb)
        for time_s in times_s:
            yield to_frame(shot, rgb, source=source, shown_time_s=time_s)
        if on_progress is not None:
            on_progress(min(1.0, shot.time_s / source.duration_s))
    if on_progress is not None:
        on_progress(1.0)


def to_frame(shot: Shot, rgb: RgbArray, *, source: MovingSource, shown_time_s: float) -> Frame:
    """The shot as a `Frame` with these pixels; the size stays the source's."""
    return Frame(
        rgb=rgb,
        width_px=source.width_px,
        height_px=source.height_px,
        source_index=shot.index,
        time_s=shot.time_s,
        shown_time_s=shown_time_s,
    )

"""What the model is shown of a training row: its pictures, or the frames of its video that were annotated.

The trainer and the preview both read media here, so a page that was looked at shows what is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.sources import open_clip
from molmo2_ground.sources.media import FilmFile, recognise
from molmo2_ground.sources.sampling import rate_grid, uniform_last_frame
from molmo2_ground.train.rows import TRACK_TASKS, Row

# A moment and a frame this close are one: the released training code matches within a hundredth of a second.
SAME_MOMENT_S = 0.01
# Times are written in tenths of a second, so frames closer than this would get the same name.
_MOST_FPS = 10
# The end of a part that is cut out of a longer video still belongs to its last frame, not to the one behind.
_BEFORE_THE_END_S = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSampling:
    """How many frames of a video are shown at most, and how many a second where nobody says.

    The defaults are those of the joint fine-tuning stage; the long-context stage shows 384.
    """

    max_frames: int = 128
    max_fps: float = 2.0

    def __post_init__(self) -> None:
        if self.max_frames < 1 or not self.max_fps > 0:
            raise ValueError(
                f"max_frames is 1 or more and max_fps above 0; got {self.max_frames} and {self.max_fps}"
            )


def open_row_clip(
    row: Row,
    folder: str | Path,
    *,
    sampling: RowSampling | None = None,
    resize: Callable[[RgbArray], RgbArray] | None = None,
) -> Clip:
    """Read the pictures of a row, or the frames of its video that `row_times` names; no picture for text.

    A part of a video (`clip_s`) comes as if it had been cut out: all times of the clip count from the start
    of the part, so the moment at `time_s` is that of the frame shown at `time_s - clip_s[0]`. The numbers of
    the frames stay those of the file.
    resize: as for `open_clip`.
    Raises `SourceError` when a file cannot be read, `BadRowError` when it is not what the row says: another
    kind, another size, a shorter video, more annotated moments than may be shown.
    """
    if row.kind == "none":
        return Clip(frames=(), source="no picture")
    paths = [Path(folder) / name for name in row.media]
    if row.kind == "video":
        clip = _video_clip(row, paths, sampling or RowSampling(), resize)
    else:
        clip = open_clip(paths[0] if row.kind == "image" and len(paths) == 1 else paths)
        if clip.kind != "images":
            raise BadRowError(f"{row.media[0]} is a video; the row says {row.kind}")
    _check_sizes(row, clip)
    return clip


def clip_start_s(row: Row) -> float:
    """Where the part that is shown begins, seconds of the file."""
    return 0.0 if row.clip_s is None else row.clip_s[0]


def row_times(row: Row, duration_s: float, *, sampling: RowSampling) -> npt.NDArray[np.float64]:
    """The times that are shown of a row's video, float64[T], rising, seconds from the start of its part.

    duration_s: how long the shown part is. A row with a task of tracks gets the grid k / rate of its
    annotations (the rate that holds them all when there are several), any other row the times for pointing
    and counting: two a second and the end, evenly spread over a video that is too long for that. Annotated
    moments that lie between are shown too; evenly spread ones give way to them.
    Raises `BadRowError` when the grid or the annotated moments are more than `sampling.max_frames`.
    """
    annotated = _annotated_s(row)
    if annotated and (annotated[0] < -SAME_MOMENT_S or annotated[-1] > duration_s + SAME_MOMENT_S):
        raise BadRowError(
            f"moments are annotated from {annotated[0]:g} to {annotated[-1]:g} s after the start of what is "
            f"shown, which lasts {duration_s:g} s"
        )
    tracked = [one for one in row.annotations if TRACK_TASKS & set(one.task)]
    rates = sorted({one.rate_fps for one in tracked if one.rate_fps is not None})
    if rates:
        rate = _common_rate(rates)
        grid = rate_grid(duration_s, rate=rate, max_frames=sampling.max_frames + 1)
        if len(grid) > sampling.max_frames:
            raise BadRowError(
                f"{duration_s:g} s at {rate:g} frames a second are more than the {sampling.max_frames} "
                f"frames that are shown; cut the row with clip_s to {sampling.max_frames / rate:g} s or less"
            )
    elif tracked:
        grid = np.zeros(0, dtype=np.float64)  # an irregular track is shown where it was annotated
    else:
        grid = uniform_last_frame(duration_s, max_fps=sampling.max_fps, max_frames=sampling.max_frames)
    return _merged(grid, annotated, most=sampling.max_frames, keep_grid=bool(rates))


def _annotated_s(row: Row) -> list[float]:
    """Annotated times, seconds from the start of the shown part, rising; two that are one are given once."""
    start_s = clip_start_s(row)
    times = sorted(
        moment.time_s - start_s
        for one in row.annotations
        for moment in one.moments
        if moment.time_s is not None
    )
    return _apart(times)


def _apart(times: Sequence[float]) -> list[float]:
    kept: list[float] = []
    for time_s in times:
        if not kept or time_s - kept[-1] > SAME_MOMENT_S:
            kept.append(time_s)
    return kept


def _common_rate(rates: Sequence[float]) -> float:
    """The lowest rate whose grid holds those of all; the highest of them when it would be too dense."""
    parts = [Fraction(rate).limit_denominator(1000) for rate in rates]
    shared = Fraction(
        math.lcm(*(part.numerator for part in parts)), math.gcd(*(part.denominator for part in parts))
    )
    return float(shared) if shared <= _MOST_FPS else rates[-1]


def _merged(
    grid: npt.NDArray[np.float64], annotated: Sequence[float], *, most: int, keep_grid: bool
) -> npt.NDArray[np.float64]:
    """Grid and annotated times in one, at most `most`; a grid time stands for an annotated one beside it."""
    near = np.maximum(np.array(annotated, dtype=np.float64), 0.0)
    off_grid = (
        near[np.abs(near[:, None] - grid[None, :]).min(axis=1) > SAME_MOMENT_S]
        if len(near) and len(grid)
        else near
    )
    free = (
        [] if keep_grid else [at for at in grid if not len(near) or np.abs(near - at).min() > SAME_MOMENT_S]
    )
    needed = len(grid) - len(free) + len(off_grid)
    if needed > most:
        raise BadRowError(
            f"{needed} moments are annotated and at most {most} frames are shown; cut the row with clip_s, "
            "or annotate fewer moments"
        )
    kept = _spread(free, most - needed)
    left_out = set(free) - set(kept)
    return np.array(sorted([*(at for at in grid if at not in left_out), *off_grid]), dtype=np.float64)


def _spread(items: Sequence[float], count: int) -> list[float]:
    """`count` of the items in their order, evenly spread, the first and the last among them."""
    if len(items) <= count or count < 2:
        return list(items[: max(0, count)])
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _video_clip(
    row: Row, paths: Sequence[Path], sampling: RowSampling, resize: Callable[[RgbArray], RgbArray] | None
) -> Clip:
    (path,) = paths
    if not isinstance(recognise(path), FilmFile):
        raise BadRowError(f"{row.media[0]} holds a still picture; the row says video")
    shown_of: dict[float, float] = {}
    part_s = (0.0, 0.0)

    def times(duration_s: float) -> npt.NDArray[np.float64]:
        nonlocal part_s
        part_s = part_of(row, duration_s)
        start_s, end_s = part_s
        shown = row_times(row, end_s - start_s, sampling=sampling)
        last_s = end_s if end_s >= duration_s else end_s - _BEFORE_THE_END_S
        wanted = np.minimum(start_s + shown, max(start_s, last_s))
        # Two times may be brought to the same end: the later name stays.
        shown_of.update(zip(wanted.tolist(), shown.tolist(), strict=True))
        return np.array(sorted(shown_of), dtype=np.float64)

    clip = open_clip(path, times=times, resize=resize)
    start_s, end_s = part_s
    return replace(
        clip,
        duration_s=end_s - start_s,
        frames=tuple(
            replace(
                frame,
                time_s=(frame.time_s or 0.0) - start_s,
                shown_time_s=shown_of.get(frame.shown_time_s or 0.0, 0.0),
            )
            for frame in clip.frames
        ),
    )


def part_of(row: Row, duration_s: float) -> tuple[float, float]:
    """The shown part of a video of this length, (start, end) in seconds; raises `BadRowError` outside it."""
    if row.clip_s is None:
        return 0.0, duration_s
    start_s, end_s = row.clip_s
    # Durations are rounded to milliseconds by whoever writes them down, and more generously by some.
    if not 0 <= start_s < end_s or end_s > duration_s + SAME_MOMENT_S:
        raise BadRowError(
            f"clip_s is {start_s:g} to {end_s:g} s; expected a part of the video's {duration_s:g} s"
        )
    return start_s, min(end_s, duration_s)


def _check_sizes(row: Row, clip: Clip) -> None:
    if not row.size_px:
        return
    found = [(frame.width_px, frame.height_px) for frame in clip.frames]
    if row.kind == "video":
        found = found[:1]
    for name, said, got in zip(row.media, row.size_px, found, strict=True):
        if said != got:
            raise BadRowError(f"{name} has {got[0]} x {got[1]} pixels; the row says {said[0]} x {said[1]}")

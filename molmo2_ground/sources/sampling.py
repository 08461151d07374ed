"""Which times of a video the model is shown: the rules it was trained with."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_SAME_RATE = 1e-3  # frames a second that differ by less are the same rate


def uniform_last_frame(
    duration_s: float, *, max_fps: float = 2.0, max_frames: int
) -> npt.NDArray[np.float64]:
    """The times for pointing, counting and questions: evenly spread, the end always among them.

    Seconds, rising. A video that fits within `max_frames` at `max_fps` frames a second gets 0, 1/max_fps,
    2/max_fps, … below its duration and then the duration itself; a longer one gets `max_frames` times evenly
    from 0 to its duration, both included. Raises `ValueError` for a duration, rate or number of frames that
    no video can have.
    """
    _check(duration_s, rate=max_fps, max_frames=max_frames, rate_name="max_fps")
    if (max_frames - 1) / max_fps < duration_s:
        return np.linspace(0.0, duration_s, max_frames, dtype=np.float64)
    return np.append(_grid_below(duration_s, rate=max_fps, at_most=max_frames - 1), float(duration_s))


def rate_grid(duration_s: float, *, rate: float, max_frames: int) -> npt.NDArray[np.float64]:
    """The times for tracking: k / rate for k = 0, 1, 2, … below the duration, the first `max_frames` of them.

    Seconds, rising; the end of the video is not added. Empty when the duration is 0. Raises `ValueError` for
    a duration, rate or number of frames that no video can have.
    """
    _check(duration_s, rate=rate, max_frames=max_frames, rate_name="rate")
    return _grid_below(duration_s, rate=rate, at_most=max_frames)


def shown_rate(
    duration_s: float, *, asked: float, at_most: float, video_fps: float | None, max_frames: int
) -> float:
    """How many frames a second are shown where tracking is asked for `asked` places a second.

    The released models were trained and evaluated so that they see more frames than they are asked about:
    the highest multiple of `asked`, up to `at_most`, that divides the whole part of the video's own rate
    (29.97 counts as 29) and of which `max_frames` frames still span the video (max_frames / rate is at least
    `duration_s`). `rate_grid` gives the times. Where no multiple does, or the video's rate is not known,
    just the frames asked for are shown: `asked` comes back. The released code raises an error where `asked`
    does not divide the video's rate. Raises `ValueError` for a duration, rate or number of frames that no
    video can have.
    """
    _check(duration_s, rate=asked, max_frames=max_frames, rate_name="asked")
    if video_fps is None:
        return asked
    _check(duration_s, rate=video_fps, max_frames=max_frames, rate_name="video_fps")
    # Rates come out of divisions of ticks: 5.9999 is 6.
    whole_fps = math.floor(video_fps + _SAME_RATE)
    # Below a frame in the whole video, or the rate asked for, nothing is gained.
    slowest = max(asked, 1 / duration_s) if duration_s else math.inf
    for share in range(
        max(1, math.ceil(whole_fps / at_most - _SAME_RATE)), math.floor(whole_fps / slowest) + 1
    ):
        multiple = round(whole_fps / share / asked)
        rate = multiple * asked
        if multiple > 1 and abs(whole_fps / share - rate) <= _SAME_RATE and max_frames / rate >= duration_s:
            return rate
    return asked


def _grid_below(duration_s: float, *, rate: float, at_most: int) -> npt.NDArray[np.float64]:
    # One more than the product says: rounding may put the last step on either side of the duration, and the
    # comparison below decides with the very values that are returned.
    count = min(at_most, math.ceil(min(duration_s * rate, at_most)) + 1)
    steps = np.arange(count, dtype=np.float64) / rate
    return steps[steps < duration_s]


def _check(duration_s: float, *, rate: float, max_frames: int, rate_name: str) -> None:
    if not (math.isfinite(duration_s) and duration_s >= 0):
        raise ValueError(f"duration_s must be 0 or more seconds; got {duration_s}")
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"{rate_name} must be above 0 frames a second; got {rate}")
    if max_frames < 1:
        raise ValueError(f"max_frames must be at least 1; got {max_frames}")

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from molmo2_ground.clip import Clip, Frame

PIXELS = np.zeros((2, 3, 3), dtype=np.uint8)


def frame(time_s: float | None = None, **changes: Any) -> Frame:
    fields: dict[str, Any] = {
        "rgb": PIXELS,
        "width_px": 3,
        "height_px": 2,
        "source_index": 0,
        "time_s": time_s,
        "shown_time_s": time_s,
    }
    return Frame(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"rgb": PIXELS.astype(np.float32)}, "uint8", id="floats"),
        pytest.param({"rgb": PIXELS[..., 0]}, r"uint8\[2, 3\]", id="grey"),
        pytest.param({"rgb": np.zeros((2, 3, 4), dtype=np.uint8)}, r"\[2, 3, 4\]", id="with-alpha"),
        pytest.param({"rgb": PIXELS[:0]}, "at least one pixel", id="no-rows"),
        pytest.param({"time_s": 1.0, "shown_time_s": None}, "together", id="time-alone"),
        pytest.param({"shown_time_s": 1.0}, "together", id="shown-time-alone"),
    ],
)
def test_what_is_no_frame_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        frame(**changes)


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        pytest.param((frame(0.0), frame()), "not both", id="video-and-image"),
        pytest.param((frame(1.0), frame(0.5)), "order of time", id="backwards"),
    ],
)
def test_what_is_no_clip_is_refused(frames: tuple[Frame, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Clip(frames=frames)


def test_a_clip_of_frames_with_times_is_a_video() -> None:
    clip = Clip(frames=(frame(0.02, shown_time_s=0.0), frame(0.02, shown_time_s=0.5)))
    assert clip.kind == "video"
    assert clip.shown_times_s.tolist() == [0.0, 0.5]
    assert clip.shown_times_s.dtype == np.float64
    assert len(clip) == 2


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_clip_of_frames_without_times_is_images(count: int) -> None:
    clip = Clip(frames=(frame(),) * count)
    assert clip.kind == "images"
    assert clip.shown_times_s.shape == (0,)
    assert len(clip) == count


def test_a_clip_is_not_changed_after_it_was_made() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Clip(frames=()).fps = 30.0  # type: ignore[misc]


def test_arrays_with_times_are_a_video() -> None:
    arrays = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    clip = Clip.from_arrays(arrays, times_s=np.array([0.0, 0.4, 1.0]))
    assert clip.kind == "video"
    assert [(f.source_index, f.time_s, f.shown_time_s) for f in clip.frames] == [
        (0, 0.0, 0.0),
        (1, 0.4, 0.4),
        (2, 1.0, 1.0),
    ]
    assert {(f.width_px, f.height_px) for f in clip.frames} == {(5, 4)}
    assert all(np.array_equal(f.rgb, array) for f, array in zip(clip.frames, arrays, strict=True))
    assert clip.duration_s == 1.0


def test_arrays_at_a_rate_are_a_video_that_ends_after_its_last_frame() -> None:
    clip = Clip.from_arrays([PIXELS] * 4, fps=2.0)
    assert clip.shown_times_s.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert (clip.fps, clip.duration_s) == (2.0, 2.0)


def test_arrays_without_times_are_images_of_any_sizes() -> None:
    clip = Clip.from_arrays([PIXELS, np.zeros((7, 9, 3), dtype=np.uint8)])
    assert clip.kind == "images"
    assert [(f.width_px, f.height_px, f.source_index) for f in clip.frames] == [(3, 2, 0), (9, 7, 1)]
    assert clip.duration_s is None


@pytest.mark.parametrize(
    ("arrays", "options", "why"),
    [
        pytest.param([PIXELS], {"times_s": [0.0, 1.0]}, "2 times for 1 frames", id="one-time-too-many"),
        pytest.param([PIXELS], {"fps": 0.0}, "above 0", id="no-rate"),
        pytest.param([PIXELS], {"fps": math.nan}, "above 0 and finite", id="no-number-as-rate"),
        pytest.param([PIXELS], {"times_s": [math.inf]}, "times are finite", id="endless-time"),
        pytest.param([PIXELS, PIXELS], {"times_s": [0.0, math.nan]}, "times are finite", id="no-time"),
        pytest.param([PIXELS] * 2, {"times_s": [1.0, 0.0]}, "order of time", id="backwards"),
        pytest.param([PIXELS[0]], {}, "height, width, 3", id="not-a-picture"),
        pytest.param([PIXELS / 255], {}, "uint8", id="floats"),
    ],
)
def test_arrays_that_make_no_clip_are_refused(arrays: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Clip.from_arrays(arrays, **options)

from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.live.live_picture import LivePicture
from molmo2_ground.live.sampled_window import SampledWindow
from tests.live_scenes import Street

STREET = Street(lambda time_s: {}, size_px=(64, 36))


def window(**options: float) -> SampledWindow:
    values = {"fps": 2.0, "max_frames": 4} | options
    return SampledWindow(resize=lambda rgb: rgb[::2, ::2], source="door", **values)  # type: ignore[arg-type]


def taken(sampling: SampledWindow, times_s: list[float]) -> list[int]:
    """The numbers of the pictures that are sampled."""
    pictures = [LivePicture(capture=STREET.capture(n, t), time_s=t) for n, t in enumerate(times_s)]
    return [picture.index for picture in pictures if sampling.take(picture)]


@pytest.mark.parametrize(
    ("times_s", "sampled", "shown"),
    [
        pytest.param([n / 10 for n in range(20)], [0, 5, 10, 15], [0.0, 0.5, 1.0, 1.5], id="ten-a-second"),
        pytest.param([0.0, 0.49, 1.01, 1.5], [0, 1, 2, 3], [0.0, 0.5, 1.0, 1.5], id="a-jittery-two-a-second"),
        pytest.param([0.0, 0.3, 0.9, 1.3], [0, 2, 3], [0.0, 0.5, 1.0], id="first-at-or-after"),
        pytest.param([5.0, 6.3, 7.6], [0, 1, 2], [0.0, 1.0, 2.5], id="a-slow-camera-leaves-holes"),
        pytest.param([0.0, 0.4, 0.45], [0], [0.0], id="too-early"),
    ],
)
def test_which_pictures_are_shown_and_as_when(
    times_s: list[float], sampled: list[int], shown: list[float]
) -> None:
    sampling = window(max_frames=8)
    assert taken(sampling, times_s) == sampled
    made = sampling.window()
    assert made is not None
    assert list(made.clip.shown_times_s) == shown
    assert [frame.time_s for frame in made.clip.frames] == [times_s[n] for n in sampled]


def test_a_window_holds_the_last_pictures_and_its_times_start_at_0() -> None:
    sampling = window()
    taken(sampling, [n / 2 for n in range(9)])
    made = sampling.window()
    assert made is not None
    assert [frame.source_index for frame in made.clip.frames] == [5, 6, 7, 8]
    assert list(made.clip.shown_times_s) == [0.0, 0.5, 1.0, 1.5]
    assert made.time_s == 4.0
    assert made.newest.index == 8
    assert made.clip.source == "door"


def test_a_window_with_holes_spans_no_longer_than_a_full_one() -> None:
    sampling = window()
    taken(sampling, [0.0, 1.2, 2.4, 3.6])
    made = sampling.window()
    assert made is not None
    assert list(made.clip.shown_times_s) == [0.0, 1.5]


def test_pictures_are_shrunk_at_once_and_the_newest_is_whole() -> None:
    sampling = window()
    taken(sampling, [0.0, 0.5])
    made = sampling.window()
    assert made is not None
    assert {frame.rgb.shape for frame in made.clip.frames} == {(18, 32, 3)}
    assert {(frame.width_px, frame.height_px) for frame in made.clip.frames} == {(64, 36)}
    still = made.still
    assert still.kind == "images"
    assert still.frames[0].source_index == 1
    np.testing.assert_array_equal(still.frames[0].rgb, STREET.paint(0.5))


def test_another_connection_starts_another_grid() -> None:
    sampling = window()
    taken(sampling, [0.0, 0.5, 1.0])
    sampling.restart()
    assert sampling.window() is None
    assert taken(sampling, [7.3, 7.7, 7.81]) == [0, 2]
    made = sampling.window()
    assert made is not None
    assert list(made.clip.shown_times_s) == [0.0, 0.5]


def test_a_camera_that_changes_its_size_starts_a_new_window() -> None:
    sampling = window()
    taken(sampling, [0.0, 0.5])
    larger = Street(lambda time_s: {}, size_px=(80, 60))
    assert sampling.take(LivePicture(capture=larger.capture(2, 1.0), time_s=1.0))
    made = sampling.window()
    assert made is not None
    assert len(made.clip) == 1


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        pytest.param({"max_frames": 384, "window_s": 60.0}, 120, id="a-minute"),
        pytest.param({"max_frames": 4, "window_s": 60.0}, 4, id="a-small-model"),
        pytest.param({"max_frames": 384, "window_s": 5.0}, 10, id="short"),
        pytest.param({"max_frames": 384, "window_s": 0.1}, 1, id="shorter-than-a-step"),
    ],
)
def test_how_many_pictures_a_window_holds(options: dict[str, float], frames: int) -> None:
    assert window(**options).most_frames == frames


def test_a_window_is_at_most_a_minute() -> None:
    with pytest.raises(ValueError, match="at most 60 seconds; got 61"):
        window(window_s=61.0)

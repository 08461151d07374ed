from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.clip import Clip
from molmo2_ground.sources import open_windows
from tests import media as files
from tests.media import Shelf, picture_number


def _windows(media: Shelf, *, frame_count: int, window: int, overlap: int, rate: float = 2.0) -> list[Clip]:
    path = media(files.constant_rate, frame_count=frame_count)
    return list(open_windows(path, rate=rate, window_frames=window, overlap_frames=overlap))


@pytest.mark.parametrize(
    ("frame_count", "window", "overlap", "expected"),
    [
        pytest.param(20, 8, 2, [[0, 5, 10, 15]], id="shorter-than-a-window"),
        pytest.param(40, 8, 2, [[0, 5, 10, 15, 20, 25, 30, 35]], id="exactly-one-window"),
        pytest.param(45, 4, 0, [[0, 5, 10, 15], [20, 25, 30, 35], [40]], id="no-overlap"),
        pytest.param(
            45,
            4,
            2,
            [[0, 5, 10, 15], [10, 15, 20, 25], [20, 25, 30, 35], [30, 35, 40]],
            id="overlap",
        ),
        pytest.param(40, 4, 2, [[0, 5, 10, 15], [10, 15, 20, 25], [20, 25, 30, 35]], id="ends-full"),
        pytest.param(15, 2, 1, [[0, 5], [5, 10]], id="one-new-frame-a-window"),
        pytest.param(6, 1, 0, [[0], [5]], id="windows-of-one"),
        pytest.param(1, 8, 2, [[0]], id="one-frame"),
    ],
)
def test_windows_lie_on_one_grid(
    media: Shelf, frame_count: int, window: int, overlap: int, expected: list[list[int]]
) -> None:
    windows = _windows(media, frame_count=frame_count, window=window, overlap=overlap)
    assert [[picture_number(f.rgb) for f in w.frames] for w in windows] == expected
    assert [[f.source_index for f in w.frames] for w in windows] == expected
    for clip in windows:
        assert clip.shown_times_s == pytest.approx([f.source_index / 10 for f in clip.frames])
        assert (clip.duration_s, clip.fps, clip.lost) == (frame_count / 10, 10.0, ())


def test_shared_frames_are_the_same_objects(media: Shelf) -> None:
    first, second, *_ = _windows(media, frame_count=45, window=4, overlap=2)
    assert first.frames[2:] == second.frames[:2]


def test_resize_comes_before_keeping(media: Shelf) -> None:
    path = media(files.constant_rate, frame_count=45)
    windows = open_windows(
        path, rate=2, window_frames=4, overlap_frames=1, resize=lambda a: np.ascontiguousarray(a[::8, ::8])
    )
    for clip in windows:
        assert all(f.rgb.shape == (8, 12, 3) and (f.width_px, f.height_px) == (96, 64) for f in clip.frames)


def test_progress_ends_at_one(media: Shelf) -> None:
    fractions: list[float] = []
    path = media(files.constant_rate, frame_count=45)
    list(open_windows(path, rate=2, window_frames=4, overlap_frames=1, on_progress=fractions.append))
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_a_clip_with_times_is_cut_as_it_is() -> None:
    clip = Clip.from_arrays(np.zeros((5, 4, 6, 3), np.uint8), times_s=[0, 0.3, 0.9, 1.0, 4.0])
    windows = list(open_windows(clip, rate=2, window_frames=3, overlap_frames=1))
    assert [w.shown_times_s.tolist() for w in windows] == [[0, 0.3, 0.9], [0.9, 1.0, 4.0]]


@pytest.mark.parametrize(
    ("rate", "window", "overlap", "message"),
    [
        pytest.param(0.0, 4, 1, "rate", id="no-rate"),
        pytest.param(float("nan"), 4, 1, "rate", id="nan-rate"),
        pytest.param(2.0, 4, 4, "overlap_frames=4", id="all-shared"),
        pytest.param(2.0, 0, 0, "window_frames=0", id="no-window"),
        pytest.param(2.0, 4, -1, "overlap_frames=-1", id="negative-overlap"),
    ],
)
def test_impossible_sizes_are_refused_at_once(
    media: Shelf, rate: float, window: int, overlap: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_windows(media(files.one_frame), rate=rate, window_frames=window, overlap_frames=overlap)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molmo2_ground.clip import Clip
from molmo2_ground.frame_times import FrameTimes, name_of
from tests.found import receipt

SIZE_PX = (96, 64)
# Looked at twice a second in a video of 30 frames a second.
TIMES = FrameTimes.of(receipt(looked_s=[0.0, 0.5, 1.0, 60.0], size_px=SIZE_PX))
FRAME_S = 1 / 30


def test_windows_and_what_was_carried_count_too() -> None:
    windows = (receipt(looked_s=[0.0, 0.5]), receipt(looked_s=[0.5, 1.0]))
    whole = receipt(looked_s=[0.0]).model_copy(update={"windows": windows})
    times_s = FrameTimes.of(whole, also={16: 16 / 30}).times_s
    assert times_s == {0: 0.0, 15: 0.5, 30: 1.0, 16: 16 / 30}


@pytest.mark.parametrize(
    ("size_px", "same", "scaled"),
    [
        pytest.param((96, 64), True, True, id="same"),
        pytest.param((48, 32), False, True, id="half"),
        pytest.param((854, 570), False, True, id="even-sides"),
        pytest.param((64, 96), False, False, id="upright"),
        pytest.param((96, 60), False, False, id="other-shape"),
    ],
)
def test_sizes(size_px: tuple[int, int], same: bool, scaled: bool) -> None:
    says = f"a.mp4 has {size_px[0]} x {size_px[1]} pixels, and the result is of 96 x 64; name the video"
    for check, fits in ((TIMES.check_size, same), (TIMES.check_shape, scaled)):
        if fits:
            check(size_px, name="a.mp4")
        else:
            with pytest.raises(ValueError, match=says):
                check(size_px, name="a.mp4")


def test_a_result_without_a_size_fits_every_size() -> None:
    unknown = FrameTimes(times_s={0: 0.0}, size_px=(0, 0))
    unknown.check_size((7, 5), name="a.mp4")
    unknown.check_shape((7, 5), name="a.mp4")


@pytest.mark.parametrize(
    ("index", "there_s", "fits", "exactly"),
    [
        pytest.param(15, 0.501, True, True, id="milliseconds"),
        pytest.param(15, 0.5 + 0.03, True, False, id="a-frame-late"),
        pytest.param(15, 0.6, False, False, id="three-frames-late"),
        pytest.param(1800, 60.06, True, False, id="29.97"),
        pytest.param(1800, 72.0, False, False, id="25"),
        pytest.param(16, 9.0, True, True, id="nobody-looked"),
    ],
)
def test_times(index: int, there_s: float, fits: bool, exactly: bool) -> None:
    for strict, good in ((False, fits), (True, exactly)):
        if good:
            TIMES.check(index, there_s, name="a.mp4", frame_s=FRAME_S, exactly=strict)
        else:
            says = (
                rf"a\.mp4 shows frame {index} at {there_s:.2f} s, and the result has it at .*; name the video"
            )
            with pytest.raises(ValueError, match=says):
                TIMES.check(index, there_s, name="a.mp4", frame_s=FRAME_S, exactly=strict)


@pytest.mark.parametrize(
    ("duration_s", "fits"),
    [
        pytest.param(60.0, True, id="ends-there"),
        pytest.param(900.0, True, id="longer"),
        pytest.param(None, True, id="unknown"),
        pytest.param(50.0, False, id="shorter"),
    ],
)
def test_ends(duration_s: float | None, fits: bool) -> None:
    if fits:
        TIMES.check_end(duration_s, name="a.mp4", frame_s=FRAME_S)
    else:
        with pytest.raises(
            ValueError, match=r"a\.mp4 lasts 50\.00 s, and the result goes up to 60\.00 s; name"
        ):
            TIMES.check_end(duration_s, name="a.mp4", frame_s=FRAME_S)


@pytest.mark.parametrize(
    ("fps", "count", "says"),
    [
        pytest.param(30, 31, "", id="the-video"),
        pytest.param(30, 90, "", id="longer"),
        pytest.param(30, 30, "has 30 frames, and the result goes up to frame 30, counted from 0", id="short"),
        pytest.param(25, 90, "shows frame 15 at 0.60 s, and the result has it at 0.50 s", id="rate"),
    ],
)
def test_every_frame_of_a_video_is_looked_at(fps: int, count: int, says: str) -> None:
    clip = Clip.from_arrays(np.zeros((count, 2, 3, 3), dtype=np.uint8), fps=fps)
    times = FrameTimes.of(receipt(looked_s=[0.0, 0.5, 1.0]))
    if not says:
        assert len(list(times.checked(clip.frames, name="a.mp4", frame_s=1 / fps))) == count
        return
    with pytest.raises(ValueError, match=says):
        list(times.checked(clip.frames, name="a.mp4", frame_s=1 / fps))


def test_frames_of_arrays_are_drawn_by_their_times() -> None:
    clip = Clip.from_arrays(np.zeros((40, 2, 3, 3), dtype=np.uint8), fps=30)
    arrays = receipt(looked_s=[0.0, 0.5, 1.0], frame_source_indices=(0, 1, 2), source="array")
    times = FrameTimes.of(arrays)
    assert len(list(times.drawn_on(clip.frames, name="a.mp4", frame_s=FRAME_S))) == 40
    with pytest.raises(ValueError, match=r"shows frame 1 at 0\.03 s, and the result has it at 0\.50 s"):
        list(times.checked(clip.frames, name="a.mp4", frame_s=FRAME_S))


def test_a_result_about_pictures_says_nothing_of_a_video() -> None:
    pictures = FrameTimes.of(receipt(looked_s=[]))
    pictures.check_drawn("images", (7, 5), name="a.png")
    with pytest.raises(
        ValueError, match=r"a\.png holds still pictures, and the result is about a video; name"
    ):
        TIMES.check_drawn("images", SIZE_PX, name="a.png")


def test_media_are_named_where_they_have_a_name() -> None:
    assert [name_of(media) for media in ("d/a.mp4", Path("d/a.mp4"), None)] == [
        "d/a.mp4",
        "d/a.mp4",
        "what was given",
    ]

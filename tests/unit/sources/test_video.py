"""Healthy video files: which frame is where in time, and how it looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from molmo2_ground.clip import Frame
from molmo2_ground.sources import iter_frames, open_clip, probe
from molmo2_ground.sources.sampling import rate_grid
from tests import media as files
from tests.media import Shelf, Writer, is_upright, picture_number

TENTHS = [i / 10 for i in range(12)]

EVERY_KIND = [
    pytest.param(files.constant_rate, {}, TENTHS, (96, 64), id="constant-rate"),
    pytest.param(files.with_sound, {}, TENTHS, (96, 64), id="with-sound"),
    pytest.param(files.variable_rate, {}, files.VARIABLE_TIMES_S, (96, 64), id="variable-rate"),
    pytest.param(files.variable_rate_b_frames, {}, files.VARIABLE_TIMES_S, (96, 64), id="variable-b-frames"),
    pytest.param(files.b_frames, {}, TENTHS, (96, 64), id="b-frames"),
    pytest.param(files.late_start, {}, TENTHS, (96, 64), id="late-start"),
    pytest.param(files.transport_stream, {}, TENTHS, (96, 64), id="transport-stream"),
    pytest.param(files.avi_b_frames, {}, TENTHS, (96, 64), id="avi"),
    pytest.param(files.avi_b_frames, {"codec": "mpeg4"}, TENTHS, (96, 64), id="avi-mpeg4"),
    pytest.param(files.rotated, {}, TENTHS, (64, 96), id="quarter-turn"),
    pytest.param(files.rotated, {"degrees_counterclockwise": 270}, TENTHS, (64, 96), id="three-quarter-turn"),
    pytest.param(files.rotated, {"degrees_counterclockwise": 180}, TENTHS, (96, 64), id="half-turn"),
    pytest.param(
        files.rotated, {"degrees_counterclockwise": 0, "mirrored": True}, TENTHS, (96, 64), id="mirror"
    ),
    pytest.param(files.odd_size, {}, TENTHS, (97, 63), id="odd-size"),
    pytest.param(files.ten_bit, {}, TENTHS, (96, 64), id="ten-bit"),
    pytest.param(files.anamorphic, {}, TENTHS, (128, 64), id="anamorphic"),
    pytest.param(files.no_duration, {}, TENTHS, (96, 64), id="no-duration"),
    pytest.param(files.fragmented, {}, TENTHS, (96, 64), id="fragmented"),
    pytest.param(files.raw_h264, {}, [i / 25 for i in range(12)], (96, 64), id="no-times-at-all"),
    pytest.param(files.size_change, {}, TENTHS, (96, 64), id="size-change"),
    pytest.param(files.one_frame, {}, [0.0], (96, 64), id="one-frame"),
    pytest.param(files.animated_gif, {}, [0.0, 0.1, 0.3, 0.6], (96, 64), id="gif"),
    pytest.param(files.animated_webp, {}, [0.0, 0.1, 0.3, 0.6], (96, 64), id="webp"),
    pytest.param(files.animated_png, {}, [0.0, 0.1, 0.3, 0.6], (96, 64), id="png"),
]


def _numbers(frames: tuple[Frame, ...] | list[Frame]) -> list[int]:
    return [picture_number(frame.rgb) for frame in frames]


@pytest.mark.parametrize(("write", "options", "times_s", "size_px"), EVERY_KIND)
def test_every_frame_comes_at_its_time_upright_and_in_its_shown_size(
    media: Shelf, write: Writer, options: dict[str, Any], times_s: list[float], size_px: tuple[int, int]
) -> None:
    lost: list[str] = []
    frames = list(iter_frames(media(write, **options), on_lost=lost.append))
    assert _numbers(frames) == list(range(len(times_s)))
    assert [frame.source_index for frame in frames] == list(range(len(times_s)))
    assert [frame.time_s for frame in frames] == pytest.approx(list(times_s), abs=1e-9)
    assert [frame.shown_time_s for frame in frames] == [frame.time_s for frame in frames]
    for frame in frames:
        assert (frame.width_px, frame.height_px) == size_px
        assert frame.rgb.shape == (size_px[1], size_px[0], 3)
        assert is_upright(frame.rgb)
    assert lost == []


@pytest.mark.parametrize(("write", "options", "times_s", "size_px"), EVERY_KIND)
def test_a_wanted_time_gets_the_frame_on_screen_then(
    media: Shelf, write: Writer, options: dict[str, Any], times_s: list[float], size_px: tuple[int, int]
) -> None:
    def wanted(duration_s: float) -> Any:
        return np.linspace(0, duration_s, 23)

    clip = open_clip(media(write, **options), times=wanted)
    assert clip.duration_s is not None
    expected = [max(i for i, t in enumerate(times_s) if t <= w + 1e-6) for w in wanted(clip.duration_s)]
    assert _numbers(clip.frames) == expected
    assert [frame.source_index for frame in clip.frames] == expected
    assert clip.shown_times_s == pytest.approx(wanted(clip.duration_s))
    assert (clip.frames[0].width_px, clip.frames[0].height_px) == size_px
    assert clip.lost == ()


@pytest.mark.parametrize(
    ("write", "duration_s", "fps", "frame_count"),
    [
        pytest.param(files.constant_rate, 1.2, 10, 12, id="constant-rate"),
        pytest.param(files.variable_rate, 5.1, 2.2, 12, id="variable-rate"),
        # The header's own duration is 3.06 s here, two seconds before the last frame even begins.
        pytest.param(files.variable_rate_b_frames, 5.25, 2.2, 12, id="wrong-in-the-header"),
        pytest.param(files.edit_list, 0.7, 10, 7, id="edit-list"),
        pytest.param(files.late_start, 1.2, 10, 12, id="late-start"),
        pytest.param(files.transport_stream, 1.2, 10, 12, id="transport-stream"),
        pytest.param(files.avi_b_frames, 1.2, 10, 12, id="avi"),
        pytest.param(files.no_duration, 1.2, 10, 12, id="no-duration"),
        pytest.param(files.fragmented, 1.2, 10, 12, id="fragmented"),
        pytest.param(files.raw_h264, 12 / 25, 25, 12, id="no-times-at-all"),
        pytest.param(files.one_frame, 0.1, 10, 1, id="one-frame"),
        pytest.param(files.animated_gif, 0.65, 4 / 0.65, 4, id="gif"),
    ],
)
def test_duration_rate_and_count(
    media: Shelf, write: Writer, duration_s: float, fps: float, frame_count: int
) -> None:
    info = probe(media(write))
    assert info.kind == "video"
    assert info.duration_s == pytest.approx(duration_s)
    assert info.fps == pytest.approx(fps)
    assert info.frame_count == frame_count
    assert info.lost == ()


def test_an_edit_list_hides_frames_and_the_first_shown_one_is_time_zero(media: Shelf) -> None:
    frames = list(iter_frames(media(files.edit_list)))
    assert _numbers(frames) == [5, 6, 7, 8, 9, 10, 11]
    assert [frame.source_index for frame in frames] == list(range(7))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 10 for i in range(7)])


def test_without_wishes_two_frames_a_second_and_the_last_are_read(media: Shelf) -> None:
    clip = open_clip(media(files.constant_rate))
    assert _numbers(clip.frames) == [0, 5, 10, 11]
    assert clip.shown_times_s.tolist() == [0.0, 0.5, 1.0, 1.2]
    assert [frame.time_s for frame in clip.frames] == pytest.approx([0.0, 0.5, 1.0, 1.1])
    assert (clip.kind, clip.fps, clip.source) == ("video", 10.0, "constant_rate.mp4")


def test_the_tracking_grid_has_no_forced_last_frame(media: Shelf) -> None:
    clip = open_clip(media(files.constant_rate), times=lambda d: rate_grid(d, rate=2, max_frames=9))
    assert clip.shown_times_s.tolist() == [0.0, 0.5, 1.0]


def test_no_wanted_time_gives_the_first_frame(media: Shelf) -> None:
    clip = open_clip(media(files.constant_rate), times=lambda _: np.array([]))
    assert _numbers(clip.frames) == [0]


@pytest.mark.parametrize(
    ("times_s", "message"),
    [
        pytest.param([0.5, 0.2], "rise", id="falling"),
        pytest.param([0.0, 9.0], "from 0 to", id="past-the-end"),
        pytest.param([-1.0, 0.0], "from 0 to", id="negative"),
        pytest.param([0.0, float("nan")], "from 0 to", id="not-a-number"),
    ],
)
def test_impossible_times_are_the_callers_mistake(media: Shelf, times_s: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_clip(media(files.constant_rate), times=lambda _: np.array(times_s))


def test_resize_sees_each_wanted_frame_once_and_sizes_stay_those_of_the_source(media: Shelf) -> None:
    seen: list[tuple[int, ...]] = []

    def shrink(rgb: files.RgbArray) -> files.RgbArray:
        seen.append(rgb.shape)
        return np.ascontiguousarray(rgb[::8, ::8])

    clip = open_clip(media(files.one_frame), resize=shrink)
    assert len(clip) == 2
    assert seen == [(64, 96, 3)]
    assert clip.frames[0].rgb is clip.frames[1].rgb
    assert clip.frames[0].rgb.shape == (8, 12, 3)
    assert (clip.frames[0].width_px, clip.frames[0].height_px) == (96, 64)


@pytest.mark.parametrize("write", [files.constant_rate, files.animated_gif])
def test_progress_rises_from_low_to_one(media: Shelf, write: Writer) -> None:
    fractions: list[float] = []
    open_clip(media(write), on_progress=fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.5
    assert fractions[-1] == 1.0
    assert max(fractions) == 1.0


def test_progress_of_every_frame(media: Shelf) -> None:
    fractions: list[float] = []
    assert len(list(iter_frames(media(files.constant_rate), on_progress=fractions.append))) == 12
    assert fractions == pytest.approx([(i + 1) / 12 for i in range(12)])


def test_probe_tells_sound_codec_and_shown_size(media: Shelf) -> None:
    info = probe(media(files.with_sound))
    assert (info.has_audio, info.codec) == (True, "h264")
    assert not probe(media(files.constant_rate)).has_audio
    turned = probe(media(files.rotated))
    assert (turned.width_px, turned.height_px) == (64, 96)
    wide = probe(media(files.anamorphic))
    assert (wide.width_px, wide.height_px) == (128, 64)


def test_reading_leaves_the_colours(media: Shelf) -> None:
    rgb = open_clip(media(files.constant_rate)).frames[0].rgb
    expected = files.picture(0)
    assert np.abs(rgb[40:60, 8:40].astype(int) - expected[40:60, 8:40]).max() < 12
    assert np.abs(rgb[40:60, 56:88].astype(int) - expected[40:60, 56:88]).max() < 12

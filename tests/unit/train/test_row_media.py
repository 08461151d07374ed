from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.sources.sampling import rate_grid, uniform_last_frame
from molmo2_ground.train.row_media import SAME_MOMENT_S, RowSampling, open_row_clip, row_times
from molmo2_ground.train.rows import Annotation, Row, Turn
from tests.made_up_rows import box, moments, row_folder, track_row
from tests.media import (
    SIZE_PX,
    Shelf,
    animated_gif,
    constant_rate,
    picture,
    picture_number,
    rotated,
    variable_rate,
)


def asked(*annotations: Annotation, clip_s: tuple[float, float] | None = None) -> Row:
    return track_row(annotations=annotations, clip_s=clip_s)


def tracked(times_s: list[float], rate_fps: float | None = 2.0) -> Annotation:
    return Annotation(task=("track",), label="the dog", moments=moments(times_s, box(1)), rate_fps=rate_fps)


def pointed(times_s: list[float]) -> Annotation:
    return Annotation(task=("point",), label="the dog", moments=moments(times_s, box(1)))


SAMPLING = RowSampling(max_frames=16)


@pytest.mark.parametrize(
    ("annotations", "duration_s", "expected"),
    [
        pytest.param([tracked([0, 0.5])], 2.2, [0, 0.5, 1, 1.5, 2], id="a-track-gets-its-grid"),
        pytest.param([tracked([0], 1.0)], 3, [0, 1, 2], id="one-a-second-without-the-end"),
        pytest.param([pointed([0, 0.5])], 1.2, [0, 0.5, 1, 1.2], id="points-get-two-a-second-and-the-end"),
        pytest.param([pointed([0.7])], 1.2, [0, 0.5, 0.7, 1, 1.2], id="a-moment-between-is-shown"),
        pytest.param([pointed([0.505])], 1.2, [0, 0.5, 1, 1.2], id="a-moment-that-is-the-frame"),
        pytest.param([pointed([1.2])], 1.2, [0, 0.5, 1, 1.2], id="the-end-is-a-moment"),
        pytest.param(
            [tracked([0], 1.0), pointed([0.3])], 2, [0, 0.3, 1], id="a-point-between-the-steps-of-a-track"
        ),
        pytest.param(
            [tracked([0], 1.0), tracked([0], 2.0)], 2, [0, 0.5, 1, 1.5], id="two-rates-share-a-grid"
        ),
        pytest.param(
            [tracked([0], 2.0), tracked([0], 3.0)],
            1,
            [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6],
            id="two-rates-that-do-not-divide",
        ),
        pytest.param([tracked([0.2, 0.7], None)], 2, [0.2, 0.7], id="an-irregular-track-is-shown-as-it-is"),
        pytest.param([pointed([])], 0.0, [0], id="no-duration"),
    ],
)
def test_the_times_that_are_shown(
    annotations: list[Annotation], duration_s: float, expected: list[float]
) -> None:
    times = row_times(asked(*annotations), duration_s, sampling=SAMPLING)
    assert times == pytest.approx(expected)


def test_rates_too_dense_to_share_a_grid_take_the_highest() -> None:
    row = asked(tracked([0], 4.0), tracked([0, 1 / 7], 7.0))
    assert row_times(row, 1.0, sampling=SAMPLING) == pytest.approx([k / 7 for k in range(7)])


def test_moments_count_from_the_start_of_the_part() -> None:
    row = asked(pointed([10.5, 11.2]), clip_s=(10.0, 12.0))
    assert row_times(row, 2.0, sampling=SAMPLING) == pytest.approx([0, 0.5, 1, 1.2, 1.5, 2])


def test_evenly_spread_frames_give_way_to_annotated_ones() -> None:
    wanted = [0.3, 5.1, 9.7]
    times = row_times(asked(pointed(wanted)), 10.0, sampling=RowSampling(max_frames=8))
    assert len(times) == 8
    assert all(np.abs(times - at).min() < 1e-9 for at in wanted)
    assert times[0] == 0
    assert times[-1] == 10


@pytest.mark.parametrize(
    ("row", "duration_s", "words"),
    [
        pytest.param(asked(tracked([0])), 60.0, "cut the row with clip_s to 8 s or less", id="long-track"),
        pytest.param(
            asked(pointed([k / 10 for k in range(20)])),
            2.0,
            "moments are annotated and at most 16",
            id="dense",
        ),
        pytest.param(asked(pointed([0, 3])), 2.0, "which lasts 2 s", id="behind-the-end"),
        pytest.param(asked(pointed([4]), clip_s=(5, 7)), 2.0, "from -1 to -1 s", id="before-the-start"),
    ],
)
def test_rows_that_cannot_be_shown(row: Row, duration_s: float, words: str) -> None:
    with pytest.raises(BadRowError, match=words):
        row_times(row, duration_s, sampling=SAMPLING)


@pytest.mark.slow
@given(
    annotated=st.lists(st.floats(0, 20), max_size=12),
    duration_s=st.floats(20, 100),
    max_frames=st.integers(12, 40),
)
def test_every_annotated_moment_is_shown_and_never_too_many_frames(
    annotated: list[float], duration_s: float, max_frames: int
) -> None:
    times = row_times(
        asked(pointed(sorted(annotated))), duration_s, sampling=RowSampling(max_frames=max_frames)
    )
    assert len(times) <= max_frames
    assert (np.diff(times) > 0).all()
    assert 0 <= times[0] <= times[-1] <= duration_s
    for at in annotated:
        # Two moments that are one are shown once, so a moment may be two steps of nearness away.
        assert np.abs(times - at).min() <= 2 * SAME_MOMENT_S + 1e-9


@pytest.mark.slow
@given(duration_s=st.floats(0.1, 60), annotated=st.booleans())
def test_without_moments_between_the_rules_are_those_of_inference(duration_s: float, annotated: bool) -> None:
    sampling = RowSampling(max_frames=128)
    at = [0.0] if annotated else []
    assert row_times(asked(tracked(at)), duration_s, sampling=sampling).tolist() == (
        rate_grid(duration_s, rate=2.0, max_frames=128).tolist()
    )
    assert row_times(asked(pointed(at)), duration_s, sampling=sampling).tolist() == (
        uniform_last_frame(duration_s, max_frames=128).tolist()
    )


def test_the_frames_on_screen_are_read(media: Shelf, tmp_path: Path) -> None:
    clip = open_row_clip(track_row(), row_folder(media, tmp_path), sampling=SAMPLING)
    assert [picture_number(frame.rgb) for frame in clip.frames] == [0, 5, 10]
    assert clip.shown_times_s.tolist() == [0, 0.5, 1]
    assert clip.duration_s == pytest.approx(1.2)


def test_a_part_looks_as_if_it_had_been_cut_out(media: Shelf, tmp_path: Path) -> None:
    row = asked(pointed([0.4]), clip_s=(0.4, 0.9))
    clip = open_row_clip(row, row_folder(media, tmp_path), sampling=SAMPLING)
    # The end of the part belongs to its last frame, number 8, not to the one that begins there.
    assert [picture_number(frame.rgb) for frame in clip.frames] == [4, 8]
    assert [frame.source_index for frame in clip.frames] == [4, 8]
    assert clip.shown_times_s == pytest.approx([0, 0.5])
    assert [frame.time_s for frame in clip.frames] == pytest.approx([0, 0.4])
    assert clip.duration_s == pytest.approx(0.5)


def test_times_are_the_files_own(media: Shelf, tmp_path: Path) -> None:
    row = asked(pointed([2.0, 4.0])).model_copy(update={"media": ("variable_rate.mp4",)})
    clip = open_row_clip(row, media(variable_rate).parent, sampling=SAMPLING)
    shown = {round(float(f.shown_time_s or 0), 3): picture_number(f.rgb) for f in clip.frames}
    assert shown[2.0] == 7  # on screen from 1.85 to 2.5 s
    assert shown[4.0] == 10


def test_frames_are_made_small_while_reading(media: Shelf, tmp_path: Path) -> None:
    clip = open_row_clip(track_row(), row_folder(media, tmp_path), resize=lambda rgb: rgb[::4, ::4])
    assert clip.frames[0].rgb.shape == (16, 24, 3)
    assert (clip.frames[0].width_px, clip.frames[0].height_px) == SIZE_PX


def images_row(*names: str, kind: str = "images", size_px: tuple[int, int] = SIZE_PX) -> Row:
    point = Annotation(task=("point",), label="dogs")
    return Row.model_validate(
        {
            "row_id": "a",
            "kind": kind,
            "media": names,
            "size_px": (size_px,) * len(names),
            "annotations": (point,),
        }
    )


def test_pictures_come_in_the_order_of_the_row(tmp_path: Path) -> None:
    for number in (1, 2):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    clip = open_row_clip(images_row("2.png", "1.png"), tmp_path)
    assert [picture_number(frame.rgb) for frame in clip.frames] == [2, 1]
    assert clip.kind == "images"
    assert len(open_row_clip(images_row("1.png", kind="image"), tmp_path)) == 1


def test_text_has_no_pictures(tmp_path: Path) -> None:
    words = Annotation(task=("text",), turns=(Turn(question="Why?", answer="So."),))
    assert len(open_row_clip(Row(row_id="a", kind="none", annotations=(words,)), tmp_path)) == 0


@pytest.mark.parametrize(
    ("row", "words"),
    [
        pytest.param(track_row(size_px=((96, 63),)), "has 96 x 64 pixels; the row says 96 x 63", id="size"),
        pytest.param(track_row(clip_s=(0.5, 1.5)), "clip_s is 0.5 to 1.5 s", id="too-long"),
        pytest.param(images_row("clip.mp4", kind="image"), "is a video; the row says image", id="no-image"),
    ],
)
def test_media_that_are_not_what_the_row_says(media: Shelf, tmp_path: Path, row: Row, words: str) -> None:
    with pytest.raises(BadRowError, match=words):
        open_row_clip(row, row_folder(media, tmp_path))


def test_a_still_picture_is_no_video(tmp_path: Path) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "clip.mp4", format="PNG")
    with pytest.raises(BadRowError, match="holds a still picture"):
        open_row_clip(track_row(), tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"clip\.mp4"):
        open_row_clip(track_row(), tmp_path)


def test_sizes_are_those_of_a_player(media: Shelf) -> None:
    row = track_row(media=("rotated.mp4",), size_px=((64, 96),))
    clip = open_row_clip(row, media(rotated).parent)
    assert clip.frames[0].rgb.shape[:2] == (96, 64)


def test_an_animated_picture_is_a_video(media: Shelf) -> None:
    row = asked(pointed([0.1])).model_copy(update={"media": ("animated.gif",)})
    assert open_row_clip(row, media(animated_gif).parent).kind == "video"


def test_the_last_frame_of_a_whole_video_is_its_last(media: Shelf) -> None:
    row = asked(pointed([0])).model_copy(update={"media": ("constant_rate.mp4",)})
    clip = open_row_clip(row, media(constant_rate).parent)
    assert picture_number(clip.frames[-1].rgb) == 11


@pytest.mark.parametrize("wrong", [{"max_frames": 0}, {"max_fps": 0.0}])
def test_a_sampling_that_shows_nothing(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="max_frames is 1 or more"):
        RowSampling(**wrong)  # type: ignore[arg-type]

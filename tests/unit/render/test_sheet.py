from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.clip import Clip
from molmo2_ground.errors import SourceError
from molmo2_ground.render import Tile, colour_of, contact_sheet, tiles
from molmo2_ground.results import Count, Points, Tracks
from tests import media as shelf
from tests.found import points, track, tracks
from tests.media import Shelf

SIZE_PX = shelf.SIZE_PX
LOOKED_S = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def _followed(size_px: tuple[int, int] = SIZE_PX) -> Tracks:
    seen = track({0.0: (10.0, 60.0), 0.4: (30.0, 60.0), 1.0: (80.0, 60.0)}, size_px=size_px)
    return tracks(seen, looked_s=LOOKED_S, size_px=size_px, fps=10.0)


def test_the_frames_that_the_model_saw_are_shown_with_what_it_found(media: Shelf) -> None:
    made = tiles(media(shelf.constant_rate), _followed(), width_px=96, max_frames=16)
    assert [tile.time_s for tile in made] == pytest.approx(LOOKED_S)
    assert [shelf.picture_number(tile.rgb) for tile in made] == [0, 2, 4, 6, 8, 10]
    assert [tile.seen for tile in made] == [1, 0, 1, 0, 0, 1]
    assert [tile.caption for tile in made[:2]] == ["0:00.00 · 1 seen", "0:00.20 · not seen"]
    assert tuple(made[2].rgb[60, 30]) == colour_of(1)
    assert not (made[1].rgb == colour_of(1)).all(axis=2).any()


def test_times_between_frames_of_a_variable_rate_file_fetch_the_right_ones(media: Shelf) -> None:
    shown = (3, 5, 7, 11)
    looked_s = [shelf.VARIABLE_TIMES_S[i] for i in shown]
    result = tracks(looked_s=looked_s, size_px=SIZE_PX, frame_source_indices=shown)
    made = tiles(media(shelf.variable_rate), result, width_px=96, max_frames=16)
    assert [shelf.picture_number(tile.rgb) for tile in made] == [3, 5, 7, 11]


@pytest.mark.parametrize(
    ("max_frames", "times_s"),
    [(1, [0.4]), (2, [0.0, 1.0]), (4, [0.0, 0.4, 0.6, 1.0]), (6, LOOKED_S), (60, LOOKED_S)],
)
def test_many_frames_are_thinned(max_frames: int, times_s: list[float], media: Shelf) -> None:
    made = tiles(media(shelf.constant_rate), _followed(), width_px=96, max_frames=max_frames)
    assert [tile.time_s for tile in made] == pytest.approx(times_s)


def test_three_quarters_of_a_sheet_go_to_frames_in_which_something_was_seen() -> None:
    clip = Clip.from_arrays(np.full((100, 16, 24, 3), 128, dtype=np.uint8), fps=2)
    looked_s = [i / 2 for i in range(100)]
    for seen_s, shares in (([7.0, 7.5, 8.0], (3, 13)), (looked_s[:60], (12, 4)), (looked_s[:99], (15, 1))):
        result = tracks(track(dict.fromkeys(seen_s, (5.0, 5.0)), size_px=(24, 16)), looked_s=looked_s)
        made = tiles(clip, result, width_px=24, max_frames=16)
        assert (sum(tile.seen > 0 for tile in made), sum(tile.seen == 0 for tile in made)) == shares


def test_frames_with_a_point_go_first(media: Shelf) -> None:
    result = points(
        [(5.0, 5.0), (9.0, 9.0)], times_s=[0.2, 0.8], looked_s=LOOKED_S, size_px=SIZE_PX, fps=10.0
    )
    made = tiles(media(shelf.constant_rate), result, width_px=96, max_frames=3)
    assert [(tile.time_s, tile.seen) for tile in made] == [(0.2, 1), (0.6, 0), (0.8, 1)]


def test_tiles_are_shrunk_and_never_enlarged(media: Shelf) -> None:
    path, upright = media(shelf.rotated), _followed((64, 96))
    assert {tile.rgb.shape for tile in tiles(path, upright, width_px=32, max_frames=4)} == {(40, 27, 3)}
    assert {tile.rgb.shape for tile in tiles(path, upright, width_px=900, max_frames=4)} == {(96, 64, 3)}


def test_images_come_by_number_with_their_own_points() -> None:
    shelf_of_mugs = Clip.from_arrays([np.full((50, 80, 3), 128, dtype=np.uint8) for _ in range(3)])
    result = points([(8.0, 40.0), (70.0, 40.0)], source_indices=[2, 2], size_px=(80, 50))
    made = tiles(shelf_of_mugs, result, width_px=80, max_frames=9)
    assert [tile.caption for tile in made] == [
        "image 1 · none found",
        "image 2 · none found",
        "image 3 · 2 found",
    ]
    assert tuple(made[2].rgb[40, 70]) == colour_of(2)


def test_frames_of_a_clip_are_taken_as_they_are() -> None:
    clip = Clip.from_arrays(np.full((11, 64, 96, 3), 128, dtype=np.uint8), fps=10)
    assert [tile.time_s for tile in tiles(clip, _followed(), width_px=96, max_frames=16)] == pytest.approx(
        LOOKED_S
    )


def test_media_in_which_no_frame_is_found_are_refused() -> None:
    clip = Clip.from_arrays(np.zeros((2, 64, 96, 3), dtype=np.uint8), times_s=[50.0, 51.0])
    with pytest.raises(SourceError, match="another file"):
        tiles(clip, _followed(), width_px=96, max_frames=16)


@pytest.mark.parametrize(("columns", "across", "down"), [(1, 1, 6), (4, 4, 2), (9, 6, 1)])
def test_the_sheet_has_as_many_columns_as_asked(
    columns: int, across: int, down: int, media: Shelf, tmp_path: Path
) -> None:
    out = contact_sheet(media(shelf.constant_rate), _followed(), tmp_path / "sheet.png", columns=columns)
    with Image.open(out) as sheet:
        assert sheet.width == 8 + across * (200 + 8)
        assert 64 * down < sheet.height < 64 * down + 40 * (down + 2)


def test_a_sheet_of_one_image_and_of_nothing_found(tmp_path: Path) -> None:
    picture = np.full((50, 80, 3), 128, dtype=np.uint8)
    nothing: Points = points([], size_px=(80, 50))
    for result in (nothing, Count(value=0, stated=0, points=nothing)):
        assert contact_sheet(picture, result, tmp_path / "sheet.jpg").stat().st_size > 0


@pytest.mark.parametrize("options", [{"columns": 0}, {"max_frames": 0}], ids=str)
def test_impossible_layouts_are_refused(options: dict[str, int], media: Shelf, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 0"):
        contact_sheet(media(shelf.constant_rate), _followed(), tmp_path / "sheet.png", **options)  # type: ignore[arg-type]


def test_a_caption_of_an_image_counts_from_one() -> None:
    pixel = np.zeros((1, 1, 3), dtype=np.uint8)
    tile = Tile(rgb=pixel, plain=pixel, source_index=4, time_s=None, seen=7)
    assert tile.caption == "image 5 · 7 found"


def test_what_was_found_in_arrays_is_shown_in_the_file_that_they_came_from(media: Shelf) -> None:
    # Every second frame, numbered by itself.
    fields: dict[str, Any] = {"frame_source_indices": tuple(range(len(LOOKED_S))), "source": "array"}
    result = tracks(looked_s=LOOKED_S, size_px=SIZE_PX, **fields)
    made = tiles(media(shelf.constant_rate), result, width_px=96, max_frames=16)
    assert [shelf.picture_number(tile.rgb) for tile in made] == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param({}, "", id="the-video"),
        pytest.param({"size_px": (48, 32)}, "", id="scaled"),
        pytest.param({"size_px": (96, 96)}, "has 96 x 96 pixels", id="shape"),
        pytest.param({"frame_count": 5}, "lasts 0.50 s, and the result", id="short"),
        pytest.param(
            {"fps": 30, "frame_count": 36},
            "shows frame 6 at 0.20 s, and the result has it at 0.60 s",
            id="rate",
        ),
        pytest.param(
            {"times_s": shelf.VARIABLE_TIMES_S},
            "shows frame 2 at 0.40 s, and the result has frame 4 then",
            id="times",
        ),
        pytest.param(
            {"times_s": [0.0, *(0.2 + 0.02 * i for i in range(50))]},
            "shows frame 11 at 0.40 s, and the result has frame 4 then",
            id="numbers",
        ),
    ],
)
def test_another_video_than_the_result_s_is_refused(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    shelf.write_video(path, **options)
    if not says:
        assert len(tiles(path, _followed(), width_px=96, max_frames=16)) == len(LOOKED_S)
        return
    with pytest.raises(ValueError, match=says) as told:
        tiles(path, _followed(), width_px=96, max_frames=16)
    assert str(told.value).startswith(str(path))

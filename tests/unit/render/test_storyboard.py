from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.clip import Clip
from molmo2_ground.render import storyboard
from tests import media as shelf
from tests.found import masks, points, track, tracks
from tests.media import Shelf

GRID_S = [i / 2 for i in range(13)]
SEEN = {t: (40.0 + 20 * t, 60.0) for t in GRID_S if t not in (2.0, 2.5)}


def _clip() -> Clip:
    return Clip.from_arrays(np.full((13, 120, 200, 3), 128, dtype=np.uint8), fps=2)


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_board_has_as_many_pictures_as_asked_for(tmp_path: Path) -> None:
    result = tracks(track(SEEN, size_px=(200, 120)), looked_s=GRID_S, size_px=(200, 120))
    board = _picture(storyboard(_clip(), result, tmp_path / "story.png", max_frames=6, columns=3))
    assert board.shape[1] == 3 * (200 + 8) + 8
    grey = (board == 128).all(axis=2)
    assert [bool(grey[:, 8 + i * 208 : 208 + i * 208].any()) for i in range(3)] == [True] * 3
    rows = np.flatnonzero(grey.sum(axis=1) > 300)
    assert int((np.diff(rows) > 1).sum()) >= 1  # two rows of pictures


def test_masks_and_what_is_hidden_are_on_it(tmp_path: Path) -> None:
    result = tracks(track(SEEN, size_px=(200, 120)), looked_s=GRID_S, size_px=(200, 120))
    made = masks([(1, i, (20, 20, 60, 90)) for i in range(4)], size_px=(200, 120), fps=2)
    boards = [
        _picture(storyboard(_clip(), result, tmp_path / f"{name}.png", **options))  # type: ignore[arg-type]
        for name, options in {
            "plain": {"hidden": False},
            "masks": {"hidden": False, "masks": made},
            "hidden": {},
        }.items()
    ]
    assert not np.array_equal(boards[0], boards[1])
    assert not np.array_equal(boards[0], boards[2])


def test_a_file_is_read_only_where_it_is_shown(media: Shelf, tmp_path: Path) -> None:
    seen = track({0.0: (10.0, 60.0), 1.0: (80.0, 60.0)}, size_px=shelf.SIZE_PX)
    result = tracks(seen, looked_s=[0.0, 0.2, 0.4, 1.0], size_px=shelf.SIZE_PX, fps=10.0)
    board = storyboard(media(shelf.constant_rate), result, tmp_path / "story.jpg", max_frames=3)
    assert _picture(board).shape[1] == 3 * 208 + 8


def test_images_become_a_sheet(tmp_path: Path) -> None:
    pictures = [np.full((50, 80, 3), 128, dtype=np.uint8) for _ in range(2)]
    board = storyboard(pictures, points([(9.0, 9.0)], size_px=(80, 50)), tmp_path / "story.png")
    assert _picture(board).shape[1] == 2 * 208 + 8


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"max_frames": 0}], ids=str)
def test_a_board_without_pictures_is_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one frame and one column"):
        storyboard(_clip(), tracks(), tmp_path / "story.png", **wrong)  # type: ignore[arg-type]

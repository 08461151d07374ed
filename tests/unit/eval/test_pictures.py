from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.example import Example, Result, Truth, TruthFrame, TruthObject
from molmo2_ground.eval.pictures import MISSED, WRONG, frames_of, pictures_of
from molmo2_ground.query import Query
from molmo2_ground.results import Count
from molmo2_ground.rle import Rle
from tests import media as shelf
from tests.fake_suite import HEIGHT_PX, SIDE_PX, WIDTH_PX, picture_of, square_of
from tests.found import points, track, tracks
from tests.media import Shelf

STILL = (WIDTH_PX, HEIGHT_PX)


def has(rgb: np.typing.NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(rgb.astype(int) - colour).max(axis=2) <= 12).any())


@pytest.fixture
def still(tmp_path: Path) -> tuple[Path, Example]:
    path = tmp_path / "square.png"
    Image.fromarray(picture_of(0)).save(path)
    corner = square_of(0)
    assert corner is not None
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.bool_)
    mask[corner[1] : corner[1] + SIDE_PX, corner[0] : corner[0] + SIDE_PX] = True
    frame = TruthFrame(time_s=None, source_index=0, mask=Rle.encode(mask))
    truth = Truth(size_px=STILL, count=1, objects=(TruthObject(object_id=1, frames=(frame,)),))
    return path, Example(key="a", media=path, query=Query.point("square"), truth=truth)


@pytest.mark.parametrize(
    ("place", "caption", "missed", "wrong"),
    [
        pytest.param((15.0, 15.0), "image 1 · 1 of 1 found", False, False, id="found"),
        pytest.param((90.0, 60.0), "image 1 · 0 of 1 found, 1 wrong", True, True, id="beside"),
        pytest.param(None, "image 1 · 0 of 1 found", True, False, id="nothing-said"),
    ],
)
def test_a_picture_tells_found_missed_and_wrong_apart(
    still: tuple[Path, Example],
    place: tuple[float, float] | None,
    caption: str,
    missed: bool,
    wrong: bool,
) -> None:
    answer = points([] if place is None else [place], size_px=STILL)
    (picture,) = pictures_of(*still, answer)
    assert picture.caption == caption
    assert (has(picture.rgb, MISSED), has(picture.rgb, WRONG)) == (missed, wrong)
    assert picture.rgb.shape == (HEIGHT_PX, WIDTH_PX, 3)


def test_an_unreadable_answer_leaves_the_truth_to_see(still: tuple[Path, Example]) -> None:
    (picture,) = pictures_of(*still, None)
    assert picture.caption == "image 1 · 0 of 1 found"
    assert has(picture.rgb, MISSED)


def test_a_count_is_drawn_by_its_points(still: tuple[Path, Example]) -> None:
    answer = Count(value=1, stated=1, points=points([(15.0, 15.0)], size_px=STILL, task="count"))
    assert pictures_of(*still, answer)[0].caption == "image 1 · 1 of 1 found"


def moving(query: Query, *, masks: bool = True) -> Example:
    """Something at the left edge from 0 to 0.5 s and gone at 1.0 s."""
    mask = np.zeros((shelf.SIZE_PX[1], shelf.SIZE_PX[0]), dtype=np.bool_)
    mask[20:40, 2:22] = True
    frames = tuple(
        TruthFrame(
            time_s=index / 10,
            source_index=index,
            xy_px=(12.0, 30.0),
            mask=Rle.encode(mask) if masks else None,
        )
        for index in (0, 5)
    )
    truth = Truth(
        size_px=shelf.SIZE_PX,
        duration_s=1.2,
        fps=10.0,
        objects=(TruthObject(object_id=4, frames=frames),),
        frame_times_s=(0.0, 0.5, 1.0),
    )
    return Example(key="v", media="", query=query, truth=truth)


def captions(media: Path, example: Example, answer: Result | None, *, most: int = 4) -> list[str]:
    return [picture.caption for picture in pictures_of(media, example, answer, most=most)]


def test_a_track_is_judged_frame_by_frame(media: Shelf) -> None:
    path = media(shelf.constant_rate)
    answer = tracks(
        track({0.0: (12.0, 30.0), 0.5: (80.0, 30.0), 1.0: (80.0, 30.0)}, size_px=shelf.SIZE_PX),
        looked_s=[0.0, 0.5, 1.0],
        size_px=shelf.SIZE_PX,
        fps=10.0,
    )
    answer = answer.model_copy(
        update={
            "tracks": tuple(
                t.model_copy(
                    update={
                        "samples": tuple(
                            s.model_copy(update={"source_index": round(s.time_s * 10)}) for s in t.samples
                        )
                    }
                )
                for t in answer
            )
        }
    )
    assert captions(path, moving(Query.track("x")), answer) == [
        "0:00.00 · 1 of 1 found",
        "0:00.50 · 0 of 1 found, 1 wrong",
        "0:01.00 · nothing to find, 1 wrong",
    ]
    assert len(captions(path, moving(Query.track("x")), answer, most=2)) == 2
    assert frames_of(answer) == [0, 5, 10]


def pointed(time_s: float, x_px: float) -> Result:
    return points(
        [(x_px, 30.0)],
        times_s=[time_s],
        source_indices=[round(time_s * 10)],
        size_px=shelf.SIZE_PX,
        looked_s=[0.0, 0.5, 1.0],
        fps=10.0,
    )


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(pointed(0.5, 12.0), ["0:00.50 · 1 of 1 found"], id="found-once-is-found"),
        pytest.param(
            pointed(1.0, 12.0),
            ["0:00.00 · 0 of 1 found", "0:01.00 · nothing to find, 1 wrong"],
            id="too-late",
        ),
        pytest.param(
            pointed(0.8, 12.0), ["0:00.00 · 1 to find", "0:00.80 · not annotated"], id="nobody-knows"
        ),
        pytest.param(None, ["0:00.00 · 0 of 1 found"], id="unreadable"),
    ],
)
def test_a_point_counts_for_the_whole_clip(answer: Result | None, told: list[str], media: Shelf) -> None:
    assert captions(media(shelf.constant_rate), moving(Query.point("x")), answer) == told


def test_without_masks_nothing_is_judged(media: Shelf) -> None:
    path = media(shelf.constant_rate)
    assert captions(path, moving(Query.point("x"), masks=False), pointed(0.5, 80.0)) == [
        "0:00.00 · 1 to find",
        "0:00.50 · 1 to find",
    ]


def test_media_that_cannot_be_read_say_so(still: tuple[Path, Example], tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        pictures_of(tmp_path / "gone.png", still[1], None)

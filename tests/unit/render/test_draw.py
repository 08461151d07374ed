from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from molmo2_ground.render.draw import Painter, draw
from molmo2_ground.render.style import DARK, Style, colour_of
from molmo2_ground.results import Count, Points
from tests.found import points, track, tracks

Rgb8 = npt.NDArray[np.uint8]

GRID_S = [i / 2 for i in range(13)]
CAR = {t: (100.0 + 60 * t, 180.0) for t in GRID_S if t not in (2.0, 2.5)}


def _grey(width_px: int = 640, height_px: int = 360) -> Rgb8:
    return np.full((height_px, width_px, 3), 128, dtype=np.uint8)


def _changed(before: Rgb8, after: Rgb8) -> npt.NDArray[np.bool_]:
    return np.asarray((before != after).any(axis=2))


def test_the_picture_handed_in_stays_as_it_was() -> None:
    frame = _grey()
    frame.flags.writeable = False
    drawn = draw(frame, tracks(track(CAR), looked_s=GRID_S), time_s=1.0)
    assert drawn.shape == frame.shape
    assert drawn.flags.writeable
    assert (frame == 128).all()


def test_a_sighting_is_a_filled_dot_of_its_colour_where_the_object_is() -> None:
    drawn = draw(_grey(), tracks(track(CAR), looked_s=GRID_S), time_s=1.0)
    assert tuple(drawn[180, 160]) == colour_of(1)
    assert tuple(drawn[179, 159]) == colour_of(1)


def test_between_two_sightings_the_dot_is_hollow() -> None:
    drawn = draw(_grey(), tracks(track(CAR), looked_s=GRID_S), time_s=1.25, trail_s=0)
    assert (drawn[179:181, 174:176] == 128).all()
    ring_px = round(Style.of_size(640, 360).dot_radius_px)
    assert tuple(drawn[180 + ring_px, 175]) == colour_of(1)


def test_a_trail_does_not_fill_a_hollow_dot() -> None:
    drawn = draw(_grey(), tracks(track(CAR), looked_s=GRID_S), time_s=1.25, trail_s=2)
    assert (drawn[180, 175] == 128).all()
    assert tuple(drawn[180, 130]) == colour_of(1)


@pytest.mark.parametrize("time_s", [1.6, 2.0, 2.3, 2.9])
def test_a_hidden_object_leaves_the_picture_below_the_caption_untouched(time_s: float) -> None:
    drawn = draw(_grey(), tracks(track(CAR), looked_s=GRID_S), time_s=time_s)
    assert (drawn[40:320] == 128).all()


@pytest.mark.parametrize(
    "size_px", [(64, 48), (360, 640), (641, 361), (1920, 1080), (16, 16), (3, 5), (1, 1), (2000, 20)], ids=str
)
def test_any_size_can_be_drawn_on_and_the_dot_sits_in_proportion(size_px: tuple[int, int]) -> None:
    width_px, height_px = size_px
    frame = _grey(width_px, height_px)
    drawn = draw(frame, tracks(track({0.0: (480.0, 270.0)}), looked_s=GRID_S), time_s=0.0)
    assert drawn.shape == frame.shape
    assert tuple(drawn[int(height_px * 0.75), int(width_px * 0.75)]) == colour_of(1)


def test_dots_beyond_the_edge_are_cut_off() -> None:
    at_corners = points([(0.0, 0.0), (640.0, 360.0), (640.0, 0.0)])
    drawn = draw(_grey(), at_corners)
    assert tuple(drawn[359, 639]) == colour_of(2)
    assert tuple(drawn[0, 639]) == colour_of(3)


def test_a_dot_lies_over_the_caption() -> None:
    drawn = draw(_grey(), points([(12.0, 12.0)], query="every mug on the shelf"))
    assert tuple(drawn[12, 12]) == colour_of(1)


def test_many_objects_with_long_labels_in_a_small_picture() -> None:
    rng = np.random.default_rng(4)
    each = [
        track({0.0: (x, y)}, object_id=i + 1, label=f"the {i}th very long label about a bicycle – naïve Łódź")
        for i, (x, y) in enumerate(rng.uniform((5, 5), (635, 355), (12, 2)))
    ]
    drawn = draw(_grey(320, 180), tracks(*each, looked_s=GRID_S), time_s=0.0)
    for one in each:
        x_px, y_px = one.first.x_norm * 320, one.first.y_norm * 180
        assert tuple(drawn[int(y_px), int(x_px)]) in {colour_of(i) for i in range(1, 13)}


def test_the_caption_says_time_and_question_and_when_nothing_is_seen() -> None:
    result = tracks(track(CAR), looked_s=GRID_S)
    width_px = {
        name: int(np.flatnonzero(_changed(_grey(), picture)[8])[-1])
        for name, picture in {
            "seen": draw(_grey(), result, time_s=1.0),
            "hidden": draw(_grey(), result, time_s=2.0),
        }.items()
    }
    assert width_px["hidden"] > width_px["seen"] + 30


def test_a_long_question_is_cut_and_the_time_stays() -> None:
    short = draw(_grey(), tracks(track(CAR), looked_s=GRID_S, query="q"), time_s=2.0)
    long = draw(_grey(), tracks(track(CAR), looked_s=GRID_S, query="a question " * 60), time_s=2.0)
    clock_px = 50
    assert np.array_equal(short[:30, :clock_px], long[:30, :clock_px])
    assert not _changed(_grey(), long)[:, 636:].any()


def test_without_caption_only_objects_are_drawn() -> None:
    result = tracks(track(CAR), looked_s=GRID_S)
    assert np.array_equal(Painter(result).paint(_grey(), time_s=2.0, caption=False), _grey())


def test_a_lone_sighting_is_echoed_without_a_dot_and_fades() -> None:
    painter = Painter(points([(320.0, 180.0)], times_s=[1.0], looked_s=GRID_S))
    changes = []
    for time_s in (1.1, 1.4, 1.75):
        drawn = painter.paint(_grey(), time_s=time_s, caption=False)
        assert (drawn[178:182, 318:322] == 128).all()
        changes.append(int(np.abs(drawn.astype(int) - 128).max()))
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] > 0


def test_several_images_get_their_own_points() -> None:
    result = points([(100.0, 100.0), (300.0, 200.0)], source_indices=[0, 1])
    second = draw(_grey(), result, source_index=1)
    assert (second[100, 100] == 128).all()
    assert tuple(second[200, 300]) == colour_of(2)


def test_an_empty_result_is_said() -> None:
    nothing = Points(points=(), receipt=points([]).receipt)
    drawn = draw(_grey(), nothing)
    assert _changed(_grey(), drawn)[:30].any()
    assert not _changed(_grey(), drawn)[30:].any()
    assert draw(_grey(), Count(value=0, stated=0, points=nothing)).shape == (360, 640, 3)


def test_labels_and_dots_have_their_object_s_colour_and_a_dark_edge() -> None:
    drawn = draw(_grey(), tracks(track(CAR), looked_s=GRID_S), time_s=1.0, trail_s=0)
    area = drawn[150:176, 160:240].reshape(-1, 3)
    assert (area == colour_of(1)).all(axis=1).sum() > 200
    assert (drawn[165:195, 145:175].reshape(-1, 3) == DARK).all(axis=1).any()


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(np.zeros((4, 4), dtype=np.uint8), id="grey"),
        pytest.param(np.zeros((4, 4, 4), dtype=np.uint8), id="with alpha"),
        pytest.param(np.zeros((0, 4, 3), dtype=np.uint8), id="empty"),
        pytest.param(np.zeros((4, 4, 3), dtype=np.float32), id="float"),
    ],
)
def test_other_pictures_are_refused(frame: Rgb8) -> None:
    with pytest.raises(ValueError, match=r"uint8\[height, width, 3\]"):
        draw(frame, points([]))


def test_a_result_of_a_video_needs_a_time_and_a_trail_a_length() -> None:
    with pytest.raises(ValueError, match="time_s"):
        draw(_grey(), tracks(track(CAR), looked_s=GRID_S))
    with pytest.raises(ValueError, match="trail_s"):
        draw(_grey(), points([]), trail_s=-1)

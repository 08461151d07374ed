"""Exact answers of every task of places. Numbers are those of the recipe's invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.answer import GroupSeparator, format_answer, parse_answer
from molmo2_ground.rle import Rle
from molmo2_ground.thousandths import to_pixels
from molmo2_ground.train.place_answers import draw_start, n_points, place_answer
from molmo2_ground.train.rows import Moment, Place, Row, TaskName
from molmo2_ground.train.shown_places import ShownPlaces, asked_rates, shown_places
from tests.made_rows import (
    about,
    at,
    film,
    on,
    pictures,
    places,
    row_of_image,
    row_of_images,
    row_of_video,
)

FIXED = settings(derandomize=True, deadline=None, max_examples=60)
POINTING: tuple[TaskName, ...] = ("point", "point_then_count", "count_then_point")
MOVING: tuple[TaskName, ...] = ("track", "first_last", "track_from_point")
TWO_DOGS = (
    at(0.0, (7, 90, 10), (3, 10, 10)),
    at(0.5, (7, 80, 10)),
    at(1.0, (3, 30, 25), (7, 70, 50)),
    at(1.5),
    at(2.0, (9, 0, 0)),
)


def shown_of(row: Row, *times_s: float, seed: int = 0) -> ShownPlaces:
    clip = film(*times_s) if times_s else pictures(3 if row.kind == "images" else 1)
    return shown_places(row.annotations[0], row, clip, rng=np.random.default_rng(seed))


def answer_of(task: TaskName, row: Row, *times_s: float, rate: float | None = None) -> str:
    shown = shown_of(row, *times_s)
    start = draw_start(shown, np.random.default_rng(0), random_share=0.0) if task[:5] == "track" else None
    told = shown if rate is None else shown.on_grid(rate)
    return format_answer(place_answer(task, row.annotations[0].label, told, start=start))


def in_film(*moments: Moment, rate_fps: float | None = None, **more: tuple[float, float]) -> Row:
    return row_of_video(about("point", *moments, label="dogs", rate_fps=rate_fps), **more)


FRAMES = (0.0, 0.5, 1.0, 1.5, 2.0)


@pytest.mark.parametrize(
    ("task", "row", "times_s", "rate", "expected"),
    [
        pytest.param(
            "point",
            row_of_image(about("point", on(0, (1, 50, 25), (2, 10, 40), (3, 10, 5)), label="dogs")),
            (),
            None,
            '<points coords="1 1 100 100 2 100 800 3 500 500">dogs</points>',
            id="picture-in-order-of-x-then-y",
        ),
        pytest.param(
            "point_then_count",
            row_of_image(about("point", on(0, (1, 50, 25)), label="dogs")),
            (),
            None,
            'Counting the <points coords="1 1 500 500">dogs</points> shows a total of 1.',
            id="picture-counted",
        ),
        pytest.param(
            "point",
            row_of_image(about("point", on(0, (1, 100, 50), (2, 0, 0), (3, 100.9, -0.5)), label="dogs")),
            (),
            None,
            '<points coords="1 1 000 000 2 1000 000 3 1000 1000">dogs</points>',
            id="edges",
        ),
        pytest.param(
            "point",
            row_of_images(about("point", on(2, (1, 30, 5), (2, 10, 5)), on(0, (1, 50, 25)), label="dogs")),
            (),
            None,
            '<points coords="1 1 500 500;3 2 100 100 3 300 100">dogs</points>',
            id="pictures-count-through",
        ),
        pytest.param(
            "count",
            row_of_images(about("point", on(2, (1, 30, 5), (2, 10, 5)), on(0, (1, 50, 25)), label="dogs")),
            (),
            None,
            "3",
            id="pictures-number",
        ),
        pytest.param(
            "point",
            in_film(*TWO_DOGS),
            FRAMES,
            None,
            '<points coords="0.0 1 100 200 2 900 200;2.0 3 000 000">dogs</points>',
            id="video-each-thing-once",
        ),
        pytest.param(
            "count_then_point",
            in_film(*TWO_DOGS),
            FRAMES,
            None,
            'There are 3 <points coords="0.0 1 100 200 2 900 200;2.0 3 000 000">dogs</points>.',
            id="video-number-first",
        ),
        pytest.param("count", in_film(*TWO_DOGS), FRAMES, None, "3", id="video-number"),
        pytest.param(
            "track",
            in_film(*TWO_DOGS, rate_fps=2),
            FRAMES,
            2.0,
            '<tracks coords="0.0 1 100 200 2 900 200;0.5 2 800 200;1.0 1 300 500 2 700 1000;2.0 3 000 000">'
            "dogs</tracks>",
            id="tracks-with-gaps-and-an-empty-frame",
        ),
        pytest.param(
            "track",
            in_film(*TWO_DOGS, rate_fps=2),
            FRAMES,
            1.0,
            '<tracks coords="0.0 1 100 200 2 900 200;1.0 1 300 500 2 700 1000;2.0 3 000 000">dogs</tracks>',
            id="tracks-once-a-second",
        ),
        pytest.param(
            "track",
            in_film(*TWO_DOGS, rate_fps=2),
            (0.0, 0.5, 0.75, 1.02),
            None,
            '<tracks coords="0.0 1 100 200 2 900 200;0.5 2 800 200">dogs</tracks>',
            id="only-what-is-shown",
        ),
        pytest.param(
            "first_last",
            in_film(*TWO_DOGS, rate_fps=2),
            FRAMES,
            None,
            '<tracks coords="0.0 1 100 200 2 900 200;1.0 1 300 500 2 700 1000;2.0 3 000 000">dogs</tracks>',
            id="first-and-last",
        ),
        pytest.param(
            "track_from_point",
            in_film(*TWO_DOGS[:2], at(1.5, (3, 30, 25), (7, 70, 50)), at(2.0, (3, 0, 0)), rate_fps=2),
            FRAMES,
            2.0,
            '<tracks coords="0.5 1 800 200;1.5 1 700 1000">dogs</tracks>',
            id="the-rest-of-one-way",
        ),
        pytest.param(
            "track",
            in_film(at(10.0, (1, 10, 10)), at(10.5, (1, 20, 10)), rate_fps=2, clip_s=(10.0, 11.0)),
            (0.0, 0.5),
            2.0,
            '<tracks coords="0.0 1 100 200;0.5 1 200 200">dogs</tracks>',
            id="a-part-of-the-file-in-its-own-time",
        ),
    ],
)
def test_the_answer_is_exactly_this(
    task: TaskName, row: Row, times_s: tuple[float, ...], rate: float | None, expected: str
) -> None:
    assert answer_of(task, row, *times_s, rate=rate) == expected


@pytest.mark.parametrize(
    "task", ["point", "point_then_count", "count_then_point", "count", "track", "first_last"]
)
@pytest.mark.parametrize(
    "moments",
    [
        pytest.param((), id="nothing-annotated"),
        pytest.param((at(0.0), at(0.5)), id="nothing-there"),
        pytest.param(
            (Moment(time_s=0.0, places=(Place(object_id=1, x_px=5, y_px=5, occluded=True),)),), id="hidden"
        ),
    ],
)
def test_none_is_said_in_one_way(task: TaskName, moments: tuple[Moment, ...]) -> None:
    assert answer_of(task, in_film(*moments, rate_fps=2), 0.0, 0.5) == "There are none."


def test_what_is_hidden_is_left_out_of_its_moment_and_its_track_goes_on() -> None:
    hidden = Place(object_id=3, x_px=20, y_px=20, occluded=True)
    moments = (
        at(0.0, (3, 10, 10), (7, 90, 10)),
        Moment(time_s=0.5, places=(hidden, *places((7, 80, 10)))),
        at(1.0, (3, 30, 10), (7, 70, 10)),
    )
    assert answer_of("track", in_film(*moments, rate_fps=2), 0.0, 0.5, 1.0) == (
        '<tracks coords="0.0 1 100 200 2 900 200;0.5 2 800 200;1.0 1 300 200 2 700 200">dogs</tracks>'
    )


def test_the_separator_of_the_first_stage_is_a_tab() -> None:
    shown = shown_of(in_film(at(0.0, (1, 10, 10)), at(0.5, (2, 10, 10))), 0.0, 0.5)
    text = format_answer(place_answer("point", "dogs", shown), separator=GroupSeparator.TAB)
    assert text == '<points coords="0.0 1 100 200\t0.5 2 100 200">dogs</points>'
    assert n_points(parse_answer(text)) == 2


def test_two_frames_of_one_name_say_the_first() -> None:
    row = in_film(at(3.0, (1, 10, 10)), at(3.04, (1, 90, 10)))
    assert answer_of("track", row, 3.0, 3.04) == '<tracks coords="3.0 1 100 200">dogs</tracks>'


@pytest.mark.parametrize("rate_fps", [None, 50.0])
def test_what_only_a_frame_without_a_name_shows_is_missed(rate_fps: float | None) -> None:
    row = in_film(at(0.5, (1, 10, 10)), at(0.54, (1, 12, 10), (2, 20, 10)), rate_fps=rate_fps)
    assert shown_of(row, 0.5, 0.54).missing == 1


def test_the_last_frame_is_not_on_a_grid_that_it_only_rounds_to() -> None:
    row = in_film(at(0.0, (1, 10, 10)), at(0.5, (1, 20, 10)), at(0.96, (1, 30, 10)))
    assert answer_of("track", row, 0.0, 0.5, 0.96, rate=2.0).count("0.0 ") == 1
    assert "1.0 1" not in answer_of("track", row, 0.0, 0.5, 0.96, rate=2.0)


def test_boxes_and_masks_become_points_inside_that_stay_on_the_thing() -> None:
    def mask(left: int) -> Rle:
        pixels = np.zeros((50, 100), dtype=bool)
        pixels[10:30, left : left + 20] = True
        return Rle.encode(pixels)

    def moment(time_s: float, left: int) -> Moment:
        box = Place(object_id=1, box_px=(left, 0, left + 40, 40))
        return Moment(time_s=time_s, places=(box, Place(object_id=2, mask=mask(left))))

    shown = shown_of(in_film(moment(0.0, 10), moment(0.5, 30)), 0.0, 0.5, seed=4)
    (box0, mask0), (box1, mask1) = (group.points for group in shown.groups)
    for box, inside, left in ((box0, mask0, 10), (box1, mask1, 30)):
        assert left < to_pixels(box.x, 100) < left + 40
        assert left < to_pixels(inside.x, 100) < left + 20
        assert 10 < to_pixels(inside.y, 50) < 30
    assert (box1.x - box0.x, mask1.x - mask0.x) == (200, 200)
    other = shown_of(in_film(moment(0.0, 10), moment(0.5, 30)), 0.0, 0.5, seed=5)
    assert other.groups != shown.groups


@pytest.mark.parametrize(
    ("place", "lost"),
    [
        pytest.param(
            Place(object_id=1, mask=Rle.encode(np.zeros((50, 100), dtype=bool))),
            (("have a mask without a pixel", 1),),
            id="empty-mask",
        ),
        pytest.param(
            Place(object_id=1, box_px=(200, 0, 210, 10)),
            (("have a box that is empty or outside the picture", 1),),
            id="box-outside",
        ),
        pytest.param(
            Place(object_id=1, x_px=140, y_px=10), (("lie outside the picture", 1),), id="point-outside"
        ),
    ],
)
def test_what_cannot_be_seen_is_counted(place: Place, lost: tuple[tuple[str, int], ...]) -> None:
    shown = shown_of(row_of_image(about("point", Moment(places=(place, *places((2, 10, 10)))))))
    assert shown.lost == lost
    assert shown.object_ids == (2,)


def test_places_are_scaled_by_the_size_that_the_row_gives() -> None:
    row = row_of_video(about("point", at(0.0, (1, 960, 540)), label="dogs"), size_px=((1920, 1080),))
    assert answer_of("point", row, 0.0) == '<points coords="0.0 1 500 500">dogs</points>'


def test_a_thing_that_no_frame_shows_is_missed_when_every_place_counts() -> None:
    sparse = in_film(at(0.0, (1, 10, 10)), at(0.75, (2, 20, 10)), at(9.0, (3, 20, 10)))
    assert shown_of(sparse, 0.0, 0.5, 1.0).missing == 1  # what comes after the last frame is not asked about
    dense = in_film(at(0.0, (1, 10, 10)), at(0.75, (2, 20, 10)), rate_fps=4)
    assert shown_of(dense, 0.0, 0.5, 1.0).missing == 0


@pytest.mark.parametrize(
    ("row", "clip", "message"),
    [
        pytest.param(in_film(at(0.0)), pictures(2), "about a video", id="images-for-a-video"),
        pytest.param(in_film(Moment()), film(0.0), "no time_s", id="moment-without-a-time"),
        pytest.param(row_of_images(about("point", on(0))), film(0.0), "still images", id="video-for-images"),
        pytest.param(row_of_images(about("point", on(5))), pictures(2), "image 5", id="no-such-image"),
        pytest.param(
            row_of_images(about("point", on(0)), media=("a.png", "b.png")),
            pictures(3),
            "2 still",
            id="number",
        ),
    ],
)
def test_rows_and_clips_of_two_kinds_are_refused(row: Row, clip: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shown_places(row.annotations[0], row, clip, rng=np.random.default_rng(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("own", "moments", "frames", "expected"),
    [
        pytest.param(2.0, (), FRAMES, (1.0, 2.0), id="twice-a-second"),
        pytest.param(6.0, (), tuple(n / 6 for n in range(13)), (1.0, 2.0, 6.0), id="six"),
        pytest.param(6.0, (), FRAMES, (1.0, 2.0), id="six-shown-at-two"),
        pytest.param(1.0, (), FRAMES, (1.0,), id="once-a-second"),
        pytest.param(5.0, (), tuple(n / 5 for n in range(11)), (1.0, 5.0), id="five-is-no-multiple-of-two"),
        pytest.param(1.5, (), (0.0, 2 / 3, 4 / 3, 2.0), (1.5,), id="one-and-a-half"),
        pytest.param(2.0, (), (0.0, 0.5, 1.0, 1.46), (1.0, 2.0), id="with-the-last-frame"),
        pytest.param(2.0, (), (0.0, 0.7, 1.4, 2.1), (), id="no-grid-shown"),
        pytest.param(30.0, (), tuple(n / 30 for n in range(61)), (1.0, 2.0), id="too-dense-for-tenths"),
        pytest.param(None, (0.0, 0.5, 1.0), (0.0, 0.5, 1.0), (1.0, 2.0), id="irregular-that-is-not"),
        pytest.param(None, (0.0, 1.0), (0.0, 0.5, 1.0), (1.0,), id="irregular-once-a-second"),
        pytest.param(None, (0.0, 0.7), (0.0, 0.7), (), id="irregular"),
    ],
)
def test_rates_are_asked_for_that_can_be_told(
    own: float | None, moments: tuple[float, ...], frames: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    row = in_film(*(at(t, (1, 5, 5)) for t in moments), rate_fps=own)
    assert asked_rates(row.annotations[0], film(*frames), shown_of(row, *frames)) == expected


def test_a_track_starts_at_the_first_sighting_and_at_times_anywhere() -> None:
    shown = shown_of(in_film(*TWO_DOGS[:3], rate_fps=2), *FRAMES)
    first = [draw_start(shown, np.random.default_rng(s), random_share=0.0) for s in range(60)]
    assert {(s.point.object_id, s.time_s) for s in first if s} == {(3, 0.0), (7, 0.0)}
    drawn = [draw_start(shown, np.random.default_rng(s), random_share=0.2) for s in range(400)]
    later = [s for s in drawn if s and s.time_s > 0]
    # A fifth is drawn, half of these sightings of one dog and two thirds of the other's are not the first.
    assert 0.05 < len(later) / 400 < 0.2
    assert draw_start(shown_of(in_film(), 0.0), np.random.default_rng(0), random_share=0.2) is None


@st.composite
def annotated_films(draw: st.DrawFn) -> tuple[Row, tuple[float, ...]]:
    """Things that come and go on a grid of tenths, and the frames that are shown of it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_things, n_moments = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    moments = []
    for number in range(n_moments):
        seen = [
            Place(
                object_id=int(i) + 1,
                x_px=float(rng.uniform(0, 100)),
                y_px=float(rng.uniform(0, 50)),
                occluded=bool(rng.random() < 0.2),
            )
            for i in rng.permutation(n_things)
            if rng.random() < 0.6
        ]
        moments.append(Moment(time_s=number / 2, places=tuple(seen)))
    frames = tuple(n / 2 for n in range(n_moments) if n == 0 or rng.random() < 0.8)
    return in_film(*moments, rate_fps=2), frames


@pytest.mark.slow
@FIXED
@given(film_row=annotated_films(), task=st.sampled_from([*POINTING, *MOVING]), seed=st.integers(0, 99))
def test_invariant_20_what_is_written_is_read_back(
    film_row: tuple[Row, tuple[float, ...]], task: TaskName, seed: int
) -> None:
    row, frames = film_row
    shown = shown_of(row, *frames)
    start = draw_start(shown, np.random.default_rng(seed), random_share=0.5)
    if start is None:
        return
    answer = place_answer(task, "dogs", shown, start=start)
    text = format_answer(answer)
    read = parse_answer(text)
    assert format_answer(read) == text
    assert read.rejected == ()
    assert not read.truncated
    truth = {
        (moment.time_s, place.x_px, place.y_px)
        for moment in row.annotations[0].moments
        for place in moment.places
        if not place.occluded and moment.time_s in frames
    }
    for element in read.elements:
        keys = [group.key for group in element.groups]
        assert keys == sorted(set(keys))
        for group in element.groups:
            for point in group.points:
                # Half a thousandth of the side, and the time to a tenth.
                assert any(
                    t is not None
                    and x is not None
                    and y is not None
                    and abs(t - group.key) < 0.05
                    and abs(x - to_pixels(point.x, 100)) <= 0.0501
                    and abs(y - to_pixels(point.y, 50)) <= 0.0251
                    for t, x, y in truth
                )
            order = [(point.x, point.y) for point in group.points]
            ids = [point.object_id for point in group.points]
            assert order == sorted(order) if element.tag == "points" else ids == sorted(set(ids))
        if element.tag == "points":
            all_ids = [point.object_id for group in element.groups for point in group.points]
            assert all_ids == list(range(1, len(all_ids) + 1))
            assert read.stated_count == (None if task == "point" else len(all_ids))


@pytest.mark.slow
@FIXED
@given(film_row=annotated_films(), seed=st.integers(0, 99))
def test_invariant_21_track_ids_count_up_as_things_appear_and_ends_are_two_at_most(
    film_row: tuple[Row, tuple[float, ...]], seed: int
) -> None:
    row, frames = film_row
    shown = shown_of(row, *frames)
    start = draw_start(shown, np.random.default_rng(seed), random_share=0.5)
    for task in MOVING:
        if start is None:
            continue
        for element in place_answer(task, "dogs", shown, start=start).elements:
            met: list[int] = []
            entries: dict[int, int] = {}
            for group in element.groups:
                ids = [point.object_id for point in group.points]
                assert len(ids) == len(set(ids))
                new = [p for p in group.points if p.object_id not in met]
                by_place = [p.object_id for p in sorted(new, key=lambda p: (p.x, p.y))]
                assert by_place == list(range(len(met) + 1, len(met) + 1 + len(new)))
                met += by_place
                for object_id in ids:
                    entries[object_id] = entries.get(object_id, 0) + 1
            if task == "first_last":
                assert max(entries.values()) <= 2
            if task == "track_from_point":
                assert met == [1]
                assert all(group.key > start.time_s for group in element.groups)

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.render.labels import Box, Seating, Wish


def _dot(x_px: int, y_px: int, reach_px: int = 5) -> Box:
    return Box(
        left_px=x_px - reach_px, top_px=y_px - reach_px, right_px=x_px + reach_px, bottom_px=y_px + reach_px
    )


def _wish(object_id: int, x_px: int, y_px: int) -> Wish:
    return Wish(object_id=object_id, dot=_dot(x_px, y_px), sizes_px=((80, 14), (12, 14)))


_PLACES = st.lists(st.tuples(st.integers(-10, 210), st.integers(-10, 130)), max_size=20)


@pytest.mark.slow
@given(_PLACES)
def test_labels_lie_inside_and_over_nothing(places: list[tuple[int, int]]) -> None:
    wishes = [_wish(i, *place) for i, place in enumerate(places)]
    caption = Box(left_px=0, top_px=0, right_px=90, bottom_px=16)
    seats = Seating().seat(wishes, width_px=200, height_px=120, gap_px=2, taken=[caption])
    boxes = [seat.box for seat in seats if seat is not None]
    assert len(seats) == len(wishes)
    assert all(box.within(200, 120) for box in boxes)
    assert not any(a.meets(b) for a, b in itertools.combinations(boxes, 2))
    assert not any(
        box.meets(other) for box in boxes for other in (caption, *(w.dot for w in wishes if w.dot))
    )


def test_a_lone_dot_gets_its_words_and_a_crowded_one_its_number() -> None:
    (alone,) = Seating().seat([_wish(1, 50, 60)], width_px=200, height_px=120, gap_px=2)
    assert alone is not None
    assert alone.size_index == 0
    walls = [
        Box(left_px=0, top_px=0, right_px=200, bottom_px=35),
        Box(left_px=0, top_px=85, right_px=200, bottom_px=120),
    ]
    walls += [
        Box(left_px=0, top_px=0, right_px=25, bottom_px=120),
        Box(left_px=80, top_px=0, right_px=200, bottom_px=120),
    ]
    (crowded,) = Seating().seat([_wish(1, 50, 60)], width_px=200, height_px=120, gap_px=2, taken=walls)
    assert crowded is not None
    assert crowded.size_index == 1


def test_no_room_means_no_label() -> None:
    assert Seating().seat([_wish(1, 5, 5)], width_px=11, height_px=11, gap_px=1) == [None]


def test_a_label_stays_on_its_side_while_that_is_free() -> None:
    seating = Seating()
    blocked = Box(left_px=100, top_px=0, right_px=200, bottom_px=120)
    (pushed,) = seating.seat([_wish(1, 95, 60)], width_px=200, height_px=120, gap_px=2, taken=[blocked])
    assert pushed is not None
    assert pushed.box.right_px <= 95
    (later,) = seating.seat([_wish(1, 97, 60)], width_px=200, height_px=120, gap_px=2)
    assert later is not None
    assert later.box.left_px - pushed.box.left_px == 2


_MASK = Box(left_px=60, top_px=40, right_px=100, bottom_px=70)


def _masked(object_id: int, *, dot: Box | None = None, around: Box = _MASK) -> Wish:
    return Wish(object_id=object_id, dot=dot, around=around, sizes_px=((40, 14), (12, 14)))


def test_a_label_stands_above_the_mask_whose_dot_lies_within() -> None:
    (seat,) = Seating().seat([_masked(1, dot=_dot(80, 55))], width_px=200, height_px=120, gap_px=2)
    assert seat is not None
    assert seat.box == Box(left_px=60, top_px=24, right_px=100, bottom_px=38)


def test_a_mask_without_a_dot_is_labelled_and_blocks_no_label() -> None:
    (seat,) = Seating().seat([_masked(1)], width_px=200, height_px=120, gap_px=2)
    assert seat is not None
    assert seat.size_index == 0
    whole = Box(left_px=0, top_px=0, right_px=200, bottom_px=120)
    over, beside = Seating().seat(
        [_masked(1, dot=_dot(100, 60), around=whole), _wish(2, 30, 60)],
        width_px=200,
        height_px=120,
        gap_px=2,
    )
    assert over is not None
    assert beside is not None


def test_a_label_keeps_off_the_pixels_of_other_objects_while_it_can() -> None:
    above = Box(left_px=50, top_px=10, right_px=110, bottom_px=38)
    seat, _ = Seating().seat([_masked(1), _masked(2, around=above)], width_px=200, height_px=120, gap_px=2)
    assert seat is not None
    assert not seat.box.meets(above)


@pytest.mark.slow
@given(_PLACES, st.lists(st.tuples(st.integers(0, 150), st.integers(0, 90)), max_size=6))
def test_labels_of_masks_lie_inside_and_over_no_dot_and_no_label(
    places: list[tuple[int, int]], corners: list[tuple[int, int]]
) -> None:
    wishes = [_wish(i, *place) for i, place in enumerate(places)]
    wishes += [
        _masked(100 + i, around=Box(left_px=x, top_px=y, right_px=x + 40, bottom_px=y + 25))
        for i, (x, y) in enumerate(corners)
    ]
    seats = Seating().seat(wishes, width_px=200, height_px=120, gap_px=2)
    boxes = [seat.box for seat in seats if seat is not None]
    assert all(box.within(200, 120) for box in boxes)
    assert not any(a.meets(b) for a, b in itertools.combinations(boxes, 2))
    assert not any(box.meets(wish.dot) for box in boxes for wish in wishes if wish.dot)

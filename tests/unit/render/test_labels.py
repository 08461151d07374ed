from __future__ import annotations

import itertools

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


@given(_PLACES)
def test_labels_lie_inside_and_over_nothing(places: list[tuple[int, int]]) -> None:
    wishes = [_wish(i, *place) for i, place in enumerate(places)]
    caption = Box(left_px=0, top_px=0, right_px=90, bottom_px=16)
    seats = Seating().seat(wishes, width_px=200, height_px=120, gap_px=2, taken=[caption])
    boxes = [seat.box for seat in seats if seat is not None]
    assert len(seats) == len(wishes)
    assert all(box.within(200, 120) for box in boxes)
    assert not any(a.meets(b) for a, b in itertools.combinations(boxes, 2))
    assert not any(box.meets(other) for box in boxes for other in (caption, *(w.dot for w in wishes)))


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

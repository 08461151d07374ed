"""Rows with more places than one tree may ask about."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.train.rows import Annotation, Row, TaskName
from molmo2_ground.train.split_row import split_row
from tests.made_rows import about, at, on, row_of_image, row_of_video

FIXED = settings(derandomize=True, deadline=None, max_examples=60)


def dogs(count: int, task: TaskName = "point") -> Annotation:
    return about(task, on(0, *((n + 1, n % 100, 1) for n in range(count))), label=f"dogs {count}")


def names(rows: tuple[Row, ...]) -> list[list[str]]:
    return [[annotation.label for annotation in row.annotations] for row in rows]


def test_what_fits_stays_one_row() -> None:
    row = row_of_image(dogs(40), dogs(20))
    assert split_row(row) == (row,)


def test_labels_go_where_there_is_room() -> None:
    parts = split_row(row_of_image(dogs(40), dogs(30), dogs(15), dogs(61), dogs(7), dogs(5)))
    assert names(parts) == [["dogs 40", "dogs 15", "dogs 5"], ["dogs 30", "dogs 7"], ["dogs 61"]]
    assert [part.row_id for part in parts] == ["picture#1", "picture#2", "picture#3"]


def test_things_of_a_video_count_once_and_tracks_not_at_all() -> None:
    moments = [at(n / 2, *((i, 5, 5) for i in range(1, 31))) for n in range(4)]
    row = row_of_video(about("point", *moments), about("track", *moments), about("count", *moments))
    assert split_row(row) == (row,)
    assert len(split_row(row, max_points=59)) == 2


@pytest.mark.slow
@FIXED
@given(counts=st.lists(st.integers(0, 70), min_size=1, max_size=8))
def test_nothing_is_lost_and_no_part_is_over_the_limit(counts: list[int]) -> None:
    row = row_of_image(*(dogs(count) for count in counts))
    parts = split_row(row)
    assert sorted(a.label for part in parts for a in part.annotations) == sorted(
        a.label for a in row.annotations
    )
    for part in parts:
        sizes = [len(annotation.moments[0].places) for annotation in part.annotations]
        assert sum(sizes) <= 60 or len(sizes) == 1 or sum(n for n in sizes if n) == max(sizes)

from __future__ import annotations

import pytest

from molmo2_ground.eval.groups import by_category, by_number, tags_of
from molmo2_ground.eval.record import Row


def row(index: int, score: float, *, media: str = "", **tags: str | float) -> Row:
    return Row(
        index=index,
        key=str(index),
        media=media or f"{index}.mp4",
        task="track",
        phrase="x",
        status="answered",
        asked="",
        scores={"f1": score},
        tags=tags,
    )


def test_few_values_are_groups_of_their_own() -> None:
    rows = [row(i, i % 2, objects=float(i % 3)) for i in range(30)]
    groups = by_number(rows, "f1", "objects")
    assert [(group.label, group.examples, group.value) for group in groups] == [
        ("0", 10, 0.5),
        ("1", 10, 0.5),
        ("2", 10, 0.5),
    ]
    assert all(group.low < 0.5 < group.high and group.telling for group in groups)


def test_many_values_become_ranges_with_about_as_many_each() -> None:
    groups = by_number([row(i, 1.0, clip_s=float(i)) for i in range(100)], "f1", "clip_s")
    assert [group.label for group in groups] == ["0–19", "20–39", "40–59", "60–79", "80–99"]
    assert [group.examples for group in groups] == [20] * 5


@pytest.mark.parametrize("count", [7, 11, 23])
def test_every_example_is_in_one_range(count: int) -> None:
    groups = by_number([row(i, 0.0, size_share=i * i / 1000) for i in range(count)], "f1", "size_share")
    assert sum(group.examples for group in groups) == count


def test_rows_without_tag_or_score_are_in_no_group() -> None:
    rows = [row(0, 1.0, objects=1.0), row(1, 1.0), row(2, 1.0, objects="many")]
    assert [group.examples for group in by_number(rows, "f1", "objects")] == [1]
    assert by_number(rows, "hota", "objects") == []


def test_categories_come_by_size_and_the_rest_together() -> None:
    rows = [row(i, 1.0, category=f"c{min(i // 2, 13):02d}") for i in range(29)]
    groups = by_category(rows, "f1", "category")
    assert len(groups) == 13
    assert (groups[0].label, groups[0].examples, groups[0].telling) == ("c13", 3, False)
    assert (groups[-1].label, groups[-1].examples) == ("2 others", 4)


def test_questions_about_one_video_are_one_piece_of_evidence() -> None:
    alone = [row(i, float(i % 4 < 2), objects=1.0) for i in range(40)]
    together = [row(i, float(i // 10 < 2), media=f"{i // 10}.mp4", objects=1.0) for i in range(40)]
    (one,), (other,) = by_number(alone, "f1", "objects"), by_number(together, "f1", "objects")
    assert one.value == other.value == 0.5
    assert (one.files, one.telling) == (40, True)
    assert (other.files, other.telling) == (4, False)
    assert other.high - other.low > 2 * (one.high - one.low)


def test_tags_are_numbers_or_words() -> None:
    rows = [row(0, 1.0, objects=1.0, category="a"), row(1, 1.0, clip_s=2.0)]
    assert tags_of(rows) == (["objects", "clip_s"], ["category"])

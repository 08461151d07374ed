from __future__ import annotations

import json
from typing import Any

import pytest

from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.train.rows import Subtitle, row_of, text_of
from tests.made_up_rows import mask, moments, track_row

PLACE = "annotations[0].moments[0].places[0]"


def fields() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(text_of(track_row()))
    return made


def first_place(row: dict[str, Any]) -> dict[str, Any]:
    place: dict[str, Any] = row["annotations"][0]["moments"][0]["places"][0]
    return place


def test_a_row_is_one_line_that_reads_back() -> None:
    row = track_row(subtitles=(Subtitle(start_s=0, end_s=1, text="Ça va?\nGood."),), clip_s=(0.0, 1.0))
    assert "\n" not in text_of(row)
    assert row_of(text_of(row)) == row


def test_a_mask_is_written_as_coco_does() -> None:
    row = track_row()
    annotation = row.annotations[0].model_copy(update={"moments": moments((0.0,), mask(3))})
    row = row.model_copy(update={"annotations": (annotation,)})
    (written,) = json.loads(text_of(row))["annotations"][0]["moments"][0]["places"]
    assert written["mask"]["size"] == [64, 96]
    assert isinstance(written["mask"]["counts"], str)
    assert row_of(text_of(row)) == row


def test_a_mask_may_be_a_list_of_runs() -> None:
    row = fields()
    first_place(row)["mask"] = {"size": [64, 96], "counts": [0, 64 * 96]}
    place = row_of(json.dumps(row)).annotations[0].moments[0].places[0]
    assert place.mask is not None
    assert place.mask.area_px == 64 * 96


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("{", "this is no JSON", id="cut-off"),
        pytest.param("[1]", "the row is [1]", id="a-list"),
        pytest.param('{"row_id": "a"}', "the field kind is missing", id="no-kind"),
        pytest.param(b"\xff{}", "no JSON", id="no-text"),
    ],
)
def test_what_is_no_row_is_told(text: str | bytes, words: str) -> None:
    with pytest.raises(BadRowError) as caught:
        row_of(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"x_px": "12", "y_px": 3}, f"{PLACE}.x_px is '12'", id="a-number-as-text"),
        pytest.param({"x_px": float("nan"), "y_px": 3}, f"{PLACE}.x_px is nan", id="not-a-number"),
        pytest.param({"object_id": 0}, f"{PLACE}.object_id is 0", id="object-0"),
        pytest.param({"object": 1}, f"{PLACE}.object is unknown", id="misspelt"),
        pytest.param({"box_px": [1, 2, 3]}, f"{PLACE}.box_px", id="three-edges"),
        pytest.param({"mask": {"size": [0, 4], "counts": "0"}}, "at least 1; got (0, 4)", id="no-size"),
        pytest.param({"mask": {"size": [None, 4], "counts": "0"}}, "[height, width]", id="null-size"),
        pytest.param({"mask": {"counts": "0"}}, "fields size and counts", id="mask-without-size"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_else(change: dict[str, Any], words: str) -> None:
    row = fields()
    first_place(row).update(change)
    with pytest.raises(BadRowError) as caught:
        row_of(json.dumps(row))
    assert words in str(caught.value)
    assert "annotations is" not in str(caught.value)


def test_many_wrong_fields_are_counted() -> None:
    row = fields()
    first_place(row).update({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5})
    with pytest.raises(BadRowError, match="and 2 more fields like these"):
        row_of(json.dumps(row))


def test_rows_do_not_change() -> None:
    row = track_row()
    with pytest.raises(ValueError, match="frozen"):
        setattr(row, "row_id", "other")  # noqa: B010 - a type checker would not let it stand as it is meant

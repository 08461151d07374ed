"""docs/training-data.md says what the code reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from molmo2_ground.train.box_table import COLUMNS
from molmo2_ground.train.row_checks import problems_of
from molmo2_ground.train.rows import Annotation, Moment, Place, Row, Subtitle, Turn, row_of

PAGE = (Path(__file__).parents[3] / "docs" / "training-data.md").read_text(encoding="utf-8")


def test_the_row_on_the_page_is_a_good_one() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    row = row_of(text)
    assert list(problems_of(row)) == []


@pytest.mark.parametrize("model", [Row, Annotation, Moment, Place, Subtitle, Turn])
def test_every_field_is_on_the_page(
    model: type[Row | Annotation | Moment | Place | Subtitle | Turn],
) -> None:
    assert [name for name in model.model_fields if f"`{name}`" not in PAGE] == []


def test_every_task_is_on_the_page() -> None:
    tasks = re.findall(r"'(\w+)'", str(Annotation.model_fields["task"].annotation))
    assert len(tasks) == 11
    assert [name for name in tasks if f"`{name}`" not in PAGE] == []


def test_every_column_name_is_on_the_page() -> None:
    words = set(re.findall(r"\w+", PAGE))
    assert [name for names in COLUMNS.values() for name in names if name not in words] == []

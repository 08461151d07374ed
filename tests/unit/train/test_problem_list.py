from __future__ import annotations

from collections.abc import Sequence

import pytest

from molmo2_ground.train.problem_list import ProblemList, kind_of
from molmo2_ground.train.row_report import RowProblem


def problems(*reasons: str) -> list[RowProblem]:
    return [RowProblem(place=f"line {at}", row_id="", reason=why) for at, why in enumerate(reasons, start=1)]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        pytest.param("moments[1] is at 0.5 s", "moments[12] is at -3e-05 s", True, id="numbers"),
        pytest.param("the box (1, 2, 3, 4)", "the box (-1, 2.5, 3, 4)", True, id="box"),
        pytest.param("no file media/a1.mp4", "no file media/a2.mp4", False, id="name-with-a-number"),
        pytest.param("no file 1.mp4", "no file 2.mp4", False, id="number-as-a-name"),
        pytest.param("no file media/1/x", "no file media/2/x", False, id="folder-with-a-number"),
        pytest.param("label is empty", "label is blank", False, id="words"),
    ],
)
def test_what_is_alike_differs_in_numbers_alone(one: str, other: str, alike: bool) -> None:
    assert (kind_of(one) == kind_of(other)) == alike


@pytest.mark.parametrize(
    ("reasons", "most", "alike", "lines", "untold"),
    [
        pytest.param([], 20, 3, [], 0, id="none"),
        pytest.param(["a", "b"], 20, 3, ["line 1: a", "line 2: b"], 0, id="few"),
        pytest.param(["a 1", "a 2"], 20, 2, ["line 1: a 1", "line 2: a 2"], 0, id="just-as-many"),
        pytest.param(
            ["a", "a", "b", "a", "a"], 20, 2,
            ["line 1: a", "line 2: a", "… and 2 more like it", "line 3: b"], 0, id="repeated",
        ),
        pytest.param(["a", "b", "c"], 2, 3, ["line 1: a", "line 2: b"], 1, id="many"),
        pytest.param(
            ["a", "a", "a", "b", "c"], 2, 1, ["line 1: a", "… and 2 more like it", "line 4: b"], 1, id="both"
        ),
        pytest.param(["a", "a"], 0, 1, [], 2, id="nothing-is-told"),
    ],
)  # fmt: skip
def test_some_are_named_and_the_rest_counted(
    reasons: Sequence[str], most: int, alike: int, lines: Sequence[str], untold: int
) -> None:
    made = ProblemList.of(problems(*reasons), most=most, alike=alike)
    assert list(made.lines) == list(lines)
    assert made.untold == untold


def test_those_that_were_not_kept_are_counted() -> None:
    made = ProblemList.of(problems("a", "a"), most=5, alike=1, count=100, front="problem: ")
    assert made.lines == ("problem: line 1: a", "… and 1 more like it")
    assert made.untold == 98

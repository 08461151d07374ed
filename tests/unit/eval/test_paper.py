from __future__ import annotations

import pytest

from molmo2_ground.eval.paper import PAPER_ROWS, PaperRow, paper_rows
from molmo2_ground.eval.suites import SUITES

# Of each suite the 8B model's figures, in percent, as the report prints them.
MOLMO2_8B = {
    "video-count": {"accuracy": 35.5},
    "burst-count": {"accuracy": 60.8},
    "video-point": {"f1": 38.4, "recall": 39.3, "precision": 38.7},
    "mevis": {"j_and_f": 62.3, "f1": 75.9, "hota": 72.6},
    "ref-yt-vos": {"j_and_f": 70.2, "f1": 78.7, "hota": 77.3},
    "ref-davis": {"j_and_f": 81.3, "f1": 78.7, "hota": 72.7},
    "reason-vos": {"j_and_f": 65.8, "f1": 70.8, "hota": 68.6},
    "video-track": {"j_and_f": 56.2, "f1": 57.1, "hota": 57.5},
    "point-bench": {"accuracy": 72.7},
}


@pytest.mark.parametrize("suite", list(MOLMO2_8B))
def test_the_published_figures_of_a_suite(suite: str) -> None:
    found = {row.score: row.value for row in paper_rows(suite) if row.model == "Molmo2-8B"}
    assert found == {score: pytest.approx(value / 100) for score, value in MOLMO2_8B[suite].items()}


@pytest.mark.parametrize(
    ("suite", "kind", "value"),
    [
        pytest.param("video-track", "difference", 0.063, id="6.3-points-in-tracking"),
        pytest.param("video-point", "preference", 0.591, id="59.1-percent-of-pairs-in-pointing"),
    ],
)
def test_what_is_no_score_says_so_and_against_what(suite: str, kind: str, value: float) -> None:
    (found,) = (row for row in paper_rows(suite) if row.kind != "score")
    assert (found.model, found.kind) == ("MolmoPoint", kind)
    assert found.value == pytest.approx(value)
    assert "Molmo2" in found.against
    assert "2603.28069" in found.source
    assert found.score == "overall"  # no score of a suite's own is called so


@pytest.mark.parametrize(
    ("kind", "against"),
    [
        pytest.param("difference", "", id="a-difference-from-nothing"),
        pytest.param("preference", "", id="preferred-to-nothing"),
        pytest.param("score", "Molmo2", id="a-score-against-a-model"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(kind: str, against: str) -> None:
    with pytest.raises(ValueError, match="against another model"):
        PaperRow(suite="mevis", model="a", score="f1", value=0.5, kind=kind, against=against)  # type: ignore[arg-type]


def test_one_score_of_a_suite() -> None:
    assert [row.model for row in paper_rows("video-point", score="f1")] == [
        "Molmo2-8B",
        "Qwen3-VL-8B",
        "Gemini 3 Pro",
    ]
    assert paper_rows("toy") == ()


def test_every_number_belongs_to_a_suite_and_says_where_it_stands() -> None:
    assert {row.suite for row in PAPER_ROWS} <= SUITES.keys()
    assert all(0 < row.value < 1 and row.source and row.where for row in PAPER_ROWS)
    assert len({(row.suite, row.model, row.score) for row in PAPER_ROWS}) == len(PAPER_ROWS)


def test_only_scores_that_suites_have_are_said_to_be_comparable() -> None:
    for row in PAPER_ROWS:
        released = "released evaluator" in row.note
        assert not (released and row.score == "j_and_f"), row
        assert ("SAM 2" in row.note) == (row.score == "j_and_f" and row.model == "Molmo2-8B")

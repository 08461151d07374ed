from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from molmo2_ground.eval.compare import Comparison, compare, lines, write_comparison
from molmo2_ground.eval.record import Run
from molmo2_ground.eval.runner import evaluate
from tests.fake_suite import FakeSuite, finder

SUITE = FakeSuite(count=16)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("runs")
    return (
        evaluate(SUITE, finder(squints=True), folder / "a"),
        evaluate(SUITE, finder(), folder / "b"),
    )


@pytest.fixture(scope="module")
def found(runs: tuple[Run, Run]) -> Comparison:
    return compare(*runs)


def test_differences_are_the_second_minus_the_first(found: Comparison, runs: tuple[Run, Run]) -> None:
    by_name = {one.name: one for one in found.differences}
    for name in ("f1", "count", "readable"):
        one = by_name[name]
        values = [next(f.value for f in run.figures if f.name == name) for run in runs]
        assert [one.first, one.second] == pytest.approx(values)
        assert one.interval.difference == pytest.approx(values[1] - values[0])
        assert one.interval.low <= one.interval.difference <= one.interval.high
    assert by_name["f1"].examples == 16
    # Only the second writes nonsense, in four answers: but they are about two files.
    assert by_name["readable"].verdict == "no clear difference"
    assert by_name["readable"].interval.clusters == 16


def test_questions_about_one_file_are_one_piece_of_evidence(runs: tuple[Run, Run]) -> None:
    # All that got worse is about one file now, and the rest about three others.
    def moved(run: Run) -> Run:
        worse = {row.index for row in runs[1].rows if row.status == "unreadable"}
        rows = [
            dataclasses.replace(row, media="hard.mp4" if row.index in worse else f"{row.index % 3}.mp4")
            for row in run.rows
        ]
        return dataclasses.replace(run, rows=tuple(rows))

    found = {one.name: one for one in compare(moved(runs[0]), moved(runs[1])).differences}
    assert found["readable"].interval.clusters == 4
    assert found["readable"].first > found["readable"].second
    assert found["readable"].verdict == "no clear difference"


@pytest.mark.parametrize(
    ("change", "verdict"), [pytest.param(-0.1, "worse", id="down"), pytest.param(0.1, "better", id="up")]
)
def test_what_holds_for_every_file_is_clear(change: float, verdict: str, runs: tuple[Run, Run]) -> None:
    rows = [
        dataclasses.replace(row, scores={name: value + change for name, value in row.scores.items()})
        for row in runs[0].rows
    ]
    found = compare(runs[0], dataclasses.replace(runs[0], rows=tuple(rows)))
    assert {one.verdict for one in found.differences} == {verdict}


def test_one_file_alone_has_no_interval(runs: tuple[Run, Run]) -> None:
    first, second = (
        dataclasses.replace(run, rows=tuple(dataclasses.replace(row, media="a") for row in run.rows))
        for run in runs
    )
    found = compare(first, second)
    assert {one.verdict for one in found.differences} <= {"no clear difference", "the same"}
    assert sum("| one file only |" in line for line in lines(found)) == len(found.differences)


def test_changes_are_those_examples_whose_score_differs(found: Comparison) -> None:
    # The first misses every fourth square, the second another fourth, and both questions about 2 and 10.
    changed = {change.first.key: change.change for change in found.changed}
    assert {key for key, change in changed.items() if change > 0} == {f"{n:03d}-point" for n in (0, 4, 8, 12)}
    assert {key for key, change in changed.items() if change < 0} == (
        {f"{n:03d}-point" for n in (3, 7, 11, 15, 2, 10)} | {"002-count", "010-count"}
    )
    assert [abs(c.change) for c in found.changed] == sorted(
        (abs(c.change) for c in found.changed), reverse=True
    )


def test_a_run_compared_with_itself_is_the_same(runs: tuple[Run, Run]) -> None:
    same = compare(runs[0], runs[0])
    assert {one.verdict for one in same.differences} == {"the same"}
    assert same.changed == ()


def test_only_what_both_have_is_compared(runs: tuple[Run, Run]) -> None:
    part = dataclasses.replace(runs[1], rows=runs[1].rows[4:])
    failed = dataclasses.replace(part.rows[0], status="failed", scores={})
    part = dataclasses.replace(part, rows=(failed, *part.rows[1:]))
    less = compare(runs[0], part)
    assert (less.shared, less.only_first, less.only_second) == (27, 5, 0)
    assert any("5 are in the first run only, and not compared." in line for line in lines(less))


class Pools(FakeSuite):
    """With a score that no example has for itself."""

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        found = super().summary(rows)
        return found | {"pooled_f1": found["f1"] / 2} if "f1" in found else found


def test_scores_of_the_whole_set_need_the_suite(runs: tuple[Run, Run], found: Comparison) -> None:
    figure = dataclasses.replace(runs[0].figures[0], name="pooled_f1")
    with_pooled = dataclasses.replace(runs[0], figures=(*runs[0].figures, figure))
    without = compare(with_pooled, runs[1])
    assert without.left_out == ("pooled_f1",)
    assert any("compared when its data is at hand (--data)" in line for line in lines(without))
    whole = {one.name: one for one in compare(with_pooled, runs[1], suite=Pools(count=16)).differences}
    f1 = next(one for one in found.differences if one.name == "f1")
    assert whole["pooled_f1"].interval.difference == pytest.approx(f1.interval.difference / 2)
    assert whole["pooled_f1"].examples == found.shared


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"card": "mevis"}, "two runs of one suite", id="another-suite"),
        pytest.param({"rows": ()}, "no example in common", id="nothing-shared"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    change: dict[str, object], words: str, runs: tuple[Run, Run]
) -> None:
    if "card" in change:
        other = dataclasses.replace(runs[1], card=dataclasses.replace(runs[1].card, suite="mevis"))
    else:
        other = dataclasses.replace(runs[1], rows=())
    with pytest.raises(ValueError, match=words):
        compare(runs[0], other)


def test_the_table_names_both_models(found: Comparison) -> None:
    text = list(lines(found))
    assert text[0].startswith("| score | squinting | finder |")
    widths = {line.count("|") for line in text if line.startswith("|")}
    assert widths == {8}
    assert (
        "Of 32 examples that both runs have, 4 went better in the second, 8 went worse and 20 as before."
        in text
    )


def test_the_page_shows_both_answers(found: Comparison, tmp_path: Path) -> None:
    page = write_comparison(found, tmp_path / "page.html", suite=SUITE).read_text("utf-8")
    assert page.count('<div class="story">') == 8
    assert page.count("<figure>") == 16
    assert "<strong>squinting</strong>" in page
    assert 'class="worse"' in page
    assert "<yellow>" not in page
    assert "All 12 examples that changed" in page


def test_with_other_data_the_page_says_what_is_gone(found: Comparison, tmp_path: Path) -> None:
    page = write_comparison(found, tmp_path / "page.html", suite=FakeSuite(count=4)).read_text("utf-8")
    assert "No pictures: the suite&#x27;s data holds no example 010-point now" in page
    assert "<figure>" in page


def test_without_the_suite_the_page_has_no_pictures(found: Comparison, tmp_path: Path) -> None:
    page = write_comparison(found, tmp_path / "page.html").read_text("utf-8")
    assert "<figure>" not in page
    assert "All 12 examples that changed" in page

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from molmo2_ground.eval.example import Problem
from molmo2_ground.eval.record import Run
from molmo2_ground.eval.report import write_reports
from molmo2_ground.eval.runner import evaluate
from molmo2_ground.eval.stories import stories, worst_and_best
from tests.fake_suite import FakeSuite, finder

SUITE = FakeSuite(count=24, broken=(5,))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    return evaluate(SUITE, finder(), folder, left_out=[Problem(row="row <9>", reason="no video")])


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return write_reports(run, SUITE)[1].read_text("utf-8")


def test_the_worst_and_the_best_are_each_of_another_file(run: Run) -> None:
    worst, best = worst_and_best(run, count=4)
    assert len(worst) == len(best) == 4
    assert len({row.media for row in worst}) == 4
    assert {row.task for row in worst} == {"point", "count"}
    assert all(row.scores.get("f1", row.scores.get("count")) == 0 for row in worst)
    assert all(row.scores.get("f1", row.scores.get("count")) == 1 for row in best)
    assert all(row.tags["objects"] == 1.0 for row in best)


def test_a_run_of_one_kind_is_no_worst_and_best(run: Run) -> None:
    perfect = dataclasses.replace(run, rows=tuple(r for r in run.rows if r.scores.get("f1") == 1.0))
    worst, best = worst_and_best(perfect, count=4)
    assert (len(worst), len(best)) == (0, 4)
    assert worst_and_best(dataclasses.replace(run, rows=()), count=4) == ([], [])


def test_a_story_has_the_answer_and_its_pictures(run: Run) -> None:
    told = stories(run, SUITE, run.rows[:6])
    assert [story.score for story in told] == ["f1", "count"] * 3
    assert told[0].text.startswith("<points")
    assert told[0].pictures[0].caption == "image 1 · 1 of 1 found"
    assert told[4].result is None
    assert told[4].text.startswith("It is a lovely day")
    assert told[4].pictures[0].caption == "image 1 · 0 of 1 found"


def test_media_that_are_gone_leave_a_story_without_pictures(run: Run) -> None:
    (told,) = stories(run, FakeSuite(count=24, broken=(0,)), run.rows[:1])
    assert told.pictures == ()
    assert "there is no file" in told.trouble
    assert told.result is not None


def test_the_markdown_holds_every_figure(run: Run) -> None:
    text = write_reports(run, SUITE)[0].read_text("utf-8")
    assert text.startswith("# finder on fake\n")
    for figure in run.figures:
        assert f"(`{figure.name}`)" in text
    assert "48 questions about 24 files were put to the model finder." in text
    assert "In 6 of the answers nothing could be read" in text
    assert "2 could not be asked and are in none of the figures." in text
    assert "1 bad row of the dataset was left out." in text
    assert re.search(r"\(`f1`\) \|.*\| 23 \| 23 \|", text)
    assert re.search(r"\(`readable`\) \|.*\| 46 \| 23 \|", text)
    heads = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(set(heads)) == 1


def test_the_page_says_what_a_reader_asks(run: Run, page: str) -> None:
    for words in (
        "48 questions about 24 files were put to the model finder.",
        "made up for tests",
        "Where it went wrong",
        "Where it went well",
        "really there, and missed",
        "how many objects the question is about",
        "share of the picture that an object covers, %",
        "Kind of question",
        "Answers that could not be read: 6",
        "Could not be asked: 2",
        "Bad rows of the dataset, left out: 1",
        "How it was made",
    ):
        assert words in page
    assert page.count('<div class="card">') == 2
    assert page.count("<figure>") == 12


def test_the_page_is_text_whatever_the_model_wrote(page: str) -> None:
    assert "<yellow>" not in page
    assert "the &lt;yellow&gt; square" in page
    assert "row &lt;9&gt;" in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "default-src 'none'" in page


@pytest.mark.slow
def test_the_same_run_gives_the_same_reports(run: Run) -> None:
    first = [path.read_bytes() for path in write_reports(run, SUITE)]
    assert [path.read_bytes() for path in write_reports(run, SUITE)] == first


def test_a_run_in_which_nothing_could_be_asked_still_has_a_report(tmp_path: Path) -> None:
    suite = FakeSuite(count=2, broken=(0, 1))
    run = evaluate(suite, finder(), tmp_path)
    words, page = write_reports(run, suite)
    assert run.figures == ()
    assert "4 could not be asked" in words.read_text("utf-8")
    assert "Could not be asked: 4" in page.read_text("utf-8")


def test_published_numbers_stand_beside_the_run_s_own(run: Run) -> None:
    bench = dataclasses.replace(run, card=dataclasses.replace(run.card, suite="point-bench"))
    accuracy = dataclasses.replace(run.figures[0], name="accuracy", value=0.5)
    bench = dataclasses.replace(bench, figures=(accuracy,))
    words, page = write_reports(bench, SUITE)
    lines = [line for line in words.read_text("utf-8").splitlines() if "Molmo2-8B" in line]
    assert [re.sub(r"\s", " ", line).split(" | ")[2:4] for line in lines] == [["72.7 %", "50.0 %"]]
    assert "Published numbers beside it" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("suite", "score", "printed"),
    [
        pytest.param("video-track", "A difference, no score", "+6.3 points against Molmo2", id="difference"),
        pytest.param("video-point", "A preference, no score", "people in 59.1 % of pairs", id="preference"),
    ],
)
def test_what_is_no_score_never_stands_beside_one(run: Run, suite: str, score: str, printed: str) -> None:
    card = dataclasses.replace(run.card, suite=suite)
    own = [dataclasses.replace(run.figures[0], name=name, value=0.5) for name in ("f1", "overall")]
    words, page = write_reports(dataclasses.replace(run, card=card, figures=tuple(own)), SUITE)
    (line,) = [line for line in words.read_text("utf-8").splitlines() if "| MolmoPoint |" in line]
    cells = re.sub(r"[^\S\n]", " ", line).split(" | ")
    assert cells[0] == f"| {score}"
    assert printed in cells[2]
    assert cells[3] == "nothing to compare"
    assert score in page.read_text("utf-8")

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from molmo2_ground.errors import CheckpointError, SourceError
from molmo2_ground.eval.candidate import Candidate
from molmo2_ground.eval.example import Problem, Settings
from molmo2_ground.eval.record import PREDICTIONS, SCORES, read_run
from molmo2_ground.eval.runner import evaluate
from molmo2_ground.grounder import Grounder
from tests.fake_suite import NONSENSE, FakeSuite, finder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").touch()
    return tmp_path / "log"


def asked(log: Path) -> int:
    return len(log.read_text().splitlines())


def no_model(settings: Settings) -> Grounder:
    raise CheckpointError("there is no model")


NO_MODEL = Candidate(name="nothing", identity=finder().identity, load=no_model)


def test_each_example_is_asked_once_and_scored(tmp_path: Path, log: Path) -> None:
    run = evaluate(FakeSuite(count=4), finder(log=log), tmp_path / "out")
    assert asked(log) == 8
    assert [(row.key, row.status) for row in run.rows[:6]] == [
        ("000-point", "answered"),
        ("000-count", "answered"),
        ("001-point", "answered"),
        ("001-count", "answered"),
        ("002-point", "unreadable"),
        ("002-count", "unreadable"),
    ]
    assert run.rows[0].scores == {"f1": 1.0, "readable": 1.0}
    assert run.rows[4].scores == {"f1": 0.0, "readable": 0.0}
    assert "lovely day" in run.rows[4].reason
    assert [row.index for row in run.rows] == list(range(8))
    assert read_run(tmp_path / "out") == run
    assert sorted(os.listdir(tmp_path / "out")) == ["predictions.jsonl", "run.json", "scores.jsonl"]


def test_what_is_kept_is_not_asked_again_and_needs_no_model(tmp_path: Path, log: Path) -> None:
    out, suite = tmp_path / "out", FakeSuite(count=10)
    first = evaluate(suite, finder(log=log), out, limit=16)
    assert (asked(log), len(first.rows)) == (16, 16)
    whole = evaluate(suite, finder(log=log), out)
    assert (asked(log), len(whole.rows)) == (20, 20)
    again = evaluate(suite, NO_MODEL, out)
    assert again.rows == whole.rows


def test_a_group_that_was_not_finished_is_asked_again_and_its_kept_answers_count(
    tmp_path: Path, log: Path
) -> None:
    out, suite = tmp_path / "out", FakeSuite(count=10)
    evaluate(suite, finder(log=log), out, limit=18)
    before = (out / PREDICTIONS).read_bytes()
    evaluate(suite, finder(log=log), out)
    assert asked(log) == 18 + 4
    after = (out / PREDICTIONS).read_bytes()
    assert after.startswith(before)
    assert len(after.splitlines()) == 20


def test_another_model_is_asked_for_itself(tmp_path: Path, log: Path) -> None:
    out, suite = tmp_path / "out", FakeSuite(count=4)
    evaluate(suite, finder(log=log), out)
    other = evaluate(suite, finder(log=log, squints=True), out)
    assert asked(log) == 16
    assert other.rows != evaluate(suite, NO_MODEL, out).rows


def test_a_lost_last_line_is_asked_again(tmp_path: Path, log: Path) -> None:
    out, suite = tmp_path / "out", FakeSuite(count=3)
    run = evaluate(suite, finder(log=log), out)
    scores = (out / SCORES).read_bytes()
    with (out / PREDICTIONS).open("rb+") as file:
        file.truncate((out / PREDICTIONS).stat().st_size - 5)
    assert evaluate(suite, finder(log=log), out).rows == run.rows
    assert asked(log) == 12  # the group is asked as a whole
    assert (out / SCORES).read_bytes() == scores


def test_an_example_that_cannot_be_asked_is_told_and_tried_again(tmp_path: Path, log: Path) -> None:
    out = tmp_path / "out"
    run = evaluate(FakeSuite(count=3, broken=(1,)), finder(log=log), out)
    failed = [row for row in run.rows if row.status == "failed"]
    assert [row.key for row in failed] == ["001-point", "001-count"]
    assert failed[0].reason == "SourceError: there is no file 001.png"
    assert failed[0].scores == {}
    assert len(run.scored) == 4
    mended = evaluate(FakeSuite(count=3), finder(log=log), out)
    assert asked(log) == 4 + 6
    assert {row.status for row in mended.rows} == {"answered", "unreadable"}


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    suite = FakeSuite(count=5, broken=(3,))
    told: list[tuple[int, int, float | None]] = []
    alone = evaluate(suite, finder(), tmp_path / "one")
    shared = evaluate(suite, finder(), tmp_path / "two", workers=2, on_progress=lambda *t: told.append(t))
    assert shared.rows == alone.rows
    assert (tmp_path / "two" / SCORES).read_bytes() == (tmp_path / "one" / SCORES).read_bytes()
    assert sorted(os.listdir(tmp_path / "two")) == ["predictions.jsonl", "run.json", "scores.jsonl"]
    assert [(done, total) for done, total, _ in told] == [(i, 10) for i in range(1, 11)]
    assert told[0][2] is None
    assert told[-1][2] == 0.0


@pytest.mark.slow
def test_a_worker_s_error_is_the_caller_s(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no model"):
        evaluate(FakeSuite(count=2), NO_MODEL, tmp_path / "out", workers=2)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def start_another(*progress: object) -> None:
        evaluate(FakeSuite(count=1), finder(), out)

    with pytest.raises(SourceError, match="another evaluation"):
        evaluate(FakeSuite(count=1), finder(), out, on_progress=start_another)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"workers": 0}, id="no-workers"),
        pytest.param({"threads": 0}, id="no-threads"),
        pytest.param({"limit": 0}, id="nothing-to-ask"),
    ],
)
def test_a_run_of_nothing_is_refused(options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        evaluate(FakeSuite(), finder(), tmp_path / "out", **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_card_says_how_the_run_was_made(tmp_path: Path) -> None:
    bad = Problem(row="7", reason="no video")
    card = evaluate(FakeSuite(count=1), finder(), tmp_path, limit=9, left_out=[bad]).card
    assert (card.suite, card.model, card.examples, card.limit, card.threads) == ("fake", "finder", 2, 9, 1)
    assert card.left_out == (bad,)
    assert card.settings.note == "made up for tests"
    assert card.answer_ms is not None
    assert {"molmo2-ground", "python", "numpy", "torch"} <= card.versions.keys()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        pytest.param("run.json", None, "run.json is missing", id="no-card"),
        pytest.param("run.json", "{}", "schema", id="another-schema"),
        pytest.param("scores.jsonl", '{"key": 1}\n', "cannot be read", id="half-a-row"),
    ],
)
def test_a_folder_without_a_run_says_so(name: str, text: str | None, words: str, tmp_path: Path) -> None:
    evaluate(FakeSuite(count=1), finder(), tmp_path)
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=words):
        read_run(tmp_path)


def test_nonsense_is_kept_as_it_was_written(tmp_path: Path) -> None:
    from molmo2_ground.eval.predictions import read_predictions

    evaluate(dataclasses.replace(FakeSuite(), count=3), finder(), tmp_path)
    assert [p.text for p in read_predictions(tmp_path / PREDICTIONS).values() if p.receipt is None] == [
        NONSENSE,
        NONSENSE,
    ]

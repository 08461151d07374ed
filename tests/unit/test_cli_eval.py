from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from molmo2_ground import _cli_eval
from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.cli import main
from molmo2_ground.clip import Clip
from molmo2_ground.eval.runner import evaluate
from molmo2_ground.eval.suites import SUITES
from molmo2_ground.grounder import Grounder
from molmo2_ground.query import Prompt
from tests import made_up_sets
from tests.fake_suite import FakeSuite, finder

MAKERS: dict[str, Callable[[Path], None]] = {
    "burst-count": made_up_sets.burst,
    "mevis": made_up_sets.mevis,
    "pixmo-count": made_up_sets.pixmo_count,
    "pixmo-points": made_up_sets.pixmo_points,
    "point-bench": made_up_sets.point_bench,
    "reason-vos": made_up_sets.reason_vos,
    "ref-davis": made_up_sets.ref_youtube_vos,
    "ref-yt-vos": made_up_sets.ref_youtube_vos,
    "video-count": made_up_sets.video_count,
    "video-point": made_up_sets.video_point,
    "video-track": made_up_sets.video_track,
}


class SaysNone(ScriptedBackend):
    """Says that there is nothing; on question number `stops_at`, someone presses Ctrl-C."""

    def __init__(self, stops_at: int | None = None) -> None:
        super().__init__(())
        self._stops_at = stops_at

    def next_answer(self, prompt: Prompt, clip: Clip) -> RawAnswer:
        self.prompts.append((prompt, clip))
        if len(self.prompts) == self._stops_at:
            raise KeyboardInterrupt
        return RawAnswer(
            text="There are none.",
            stop_reason="end",
            tokens_in=1,
            tokens_out=4,
            forwards=4,
            model_id="none",
            revision=None,
            backend="scripted",
            recipe="scripted/1",
            timings_ms={},
        )


def says_none(*_: object, **__: object) -> Grounder:
    return Grounder(SaysNone())


def toy(report: Path, *more: str) -> list[str]:
    return ["eval", "toy", "--clips", "1", "--report", str(report), *more]


@pytest.mark.slow  # asks the bundled model
def test_the_toy_street_needs_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(toy(tmp_path / "out"), loader=says_none) == 0
    out, err = capsys.readouterr()
    assert any(line.startswith("Answers read") and line.endswith("2 examples") for line in out.splitlines())
    assert err.splitlines() == [f"wrote {tmp_path / 'out' / name}" for name in ("report.md", "report.html")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "predictions.jsonl",
        "report.html",
        "report.md",
        "run.json",
        "scores.jsonl",
    ]


@pytest.mark.slow
def test_a_limit_and_quiet_are_heeded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(toy(tmp_path / "out", "--limit", "1", "--quiet"), loader=says_none) == 0
    assert capsys.readouterr().err == ""
    assert len((tmp_path / "out" / "scores.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow  # nine questions about a clip, and pictures of them
def test_every_task_of_the_toy_street_has_a_report(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["eval", "toy-tasks", "--clips", "1", "--report", str(out)], loader=says_none) == 0
    card = json.loads((out / "run.json").read_text())
    assert card["suite"] == "toy-tasks"
    page = (out / "report.html").read_text("utf-8")
    assert "<figure>" in page
    assert "No pictures" not in page
    assert "Following from a point" in page
    compared = ["eval", "compare", str(out), str(out), "--report", str(tmp_path / "compare.html")]
    assert main(compared) == 0
    assert "No pictures" not in (tmp_path / "compare.html").read_text("utf-8")


def test_the_names_on_the_command_line_are_the_suites() -> None:
    assert dict.fromkeys(sorted(SUITES)) == dict.fromkeys(_cli_eval.DATASETS)
    assert MAKERS.keys() == SUITES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_every_set_is_asked_scored_and_shown(name: str, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    MAKERS[name](data)
    assert main(["eval", name, "--data", str(data), "--report", str(out)], loader=says_none) == 0
    card = json.loads((out / "run.json").read_text())
    assert card["suite"] == name
    assert {figure["name"] for figure in card["figures"]} >= set(card["headline"])
    assert all(0 <= figure["value"] <= 1 for figure in card["figures"])
    page = (out / "report.html").read_text("utf-8")
    assert "<figure>" in page
    assert "No pictures" not in page


def spoiled(rows: Any) -> None:
    rows.append(dict(rows[0], image_url="b", image="images/gone.png"))


def test_bad_rows_are_told_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up_sets.pixmo_count(tmp_path, spoiled)
    arguments = ["eval", "pixmo-count", "--data", str(tmp_path), "--report", str(tmp_path / "out")]
    assert main(arguments, loader=says_none) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "gone" in err.splitlines()[0]
    assert err.splitlines()[0].startswith("bad row ")
    assert err.splitlines()[-1].startswith("nothing was asked")
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--skip-bad"], loader=says_none) == 0
    assert "1 bad row of the dataset was left out." in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.slow
def test_ctrl_c_leaves_what_was_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(toy(out), loader=lambda *_, **__: Grounder(SaysNone(stops_at=2))) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["predictions.jsonl"]
    kept = (out / "predictions.jsonl").read_text("utf-8")
    assert len(kept.splitlines()) == 1
    backend = SaysNone()
    assert main(toy(out), loader=lambda *_, **__: Grounder(backend)) == 0
    assert len(backend.prompts) == 2  # a group that was not finished is asked again, all of it
    assert (out / "predictions.jsonl").read_text("utf-8").startswith(kept)


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        pytest.param(["eval"], "SUITE", 2, id="no-suite"),
        pytest.param(["eval", "nothing"], "invalid choice", 2, id="unknown-suite"),
        pytest.param(["eval", "mevis"], "--data", 2, id="no-data"),
        pytest.param(["eval", "mevis", "--data", "nowhere"], "there is no folder nowhere", 1, id="data-gone"),
        pytest.param(["eval", "toy", "--clips", "0"], "at least one clip", 2, id="no-clips"),
        pytest.param(["eval", "toy", "--clips", "1", "--workers", "0"], "1 or more", 2, id="no-workers"),
        pytest.param(["eval", "compare", "a", "b"], "a holds no finished run", 1, id="no-run"),
    ],
)
def test_bad_usage_is_told_in_a_line(
    arguments: list[str], words: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, loader=says_none) == code
    assert words in capsys.readouterr().err


def test_a_report_goes_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    for place in (tmp_path / "taken", tmp_path / "taken" / "below"):
        assert main(toy(place), loader=says_none) == 1
        assert f"{tmp_path / 'taken'} is a file; expected a folder" in capsys.readouterr().err


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.md").write_text("mine")
    assert main(toy(tmp_path), loader=says_none) == 1
    assert "holds other things than a run" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_a_run_of_another_suite_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(FakeSuite(count=2), finder(), tmp_path)
    card = (tmp_path / "run.json").read_bytes()
    assert main(toy(tmp_path), loader=says_none) == 1
    assert "holds a run of the suite" in capsys.readouterr().err
    assert (tmp_path / "run.json").read_bytes() == card


@pytest.mark.slow
@pytest.mark.parametrize("name", ["video-point", "mevis"])
def test_data_of_something_else_is_told_when_runs_are_compared(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, other, out = tmp_path / "data", tmp_path / "other", tmp_path / "out"
    for folder in (data, other):
        folder.mkdir()
        MAKERS[name](folder)
    assert main(["eval", name, "--data", str(data), "--report", str(out)], loader=says_none) == 0
    assert main(["eval", "compare", str(out), str(out), "--data", str(data)]) == 0
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    renamed = [json.dumps(row | {"key": f"x{row['key']}"}) for row in rows]
    (out / "scores.jsonl").write_text("\n".join(renamed))
    capsys.readouterr()
    assert main(["eval", "compare", str(out), str(out), "--data", str(other)]) == 1
    said = capsys.readouterr().err
    assert f"--data {other} is not what {out} was asked about" in said
    assert len(said.splitlines()) == 1
    assert main(["eval", "compare", str(out), str(out), "--data", str(tmp_path / "gone")]) == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = FakeSuite(count=8)
    for name, squints in (("a", True), ("b", False)):
        evaluate(suite, finder(squints=squints), tmp_path / name)
    page = tmp_path / "page.html"
    assert main(["eval", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--report", str(page)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("| score | squinting | finder |")
    assert "no pictures" in err
    assert err.endswith(f"wrote {page}\n")
    assert "examples that changed" in page.read_text("utf-8")


@pytest.mark.slow  # asks the bundled model
def test_two_toy_runs_are_compared_with_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main([*toy(tmp_path / name), "--quiet"], loader=says_none) == 0
    rows = [json.loads(line) for line in (tmp_path / "b" / "scores.jsonl").read_text().splitlines()]
    for row in rows:
        row["scores"] = {score: 1 - value for score, value in row["scores"].items()}
    (tmp_path / "b" / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = tmp_path / "page.html"
    assert main(["eval", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--report", str(page)]) == 0
    assert "<figure>" in page.read_text("utf-8")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.slow
def test_the_check_of_the_data_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    made_up_sets.video_count(tmp_path / "data")
    arguments = ["eval", "video-count", "--data", str(tmp_path / "data"), "--report", str(tmp_path / "out")]
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(arguments, loader=says_none) == 0
    shown = [text.rstrip() for text in terminal.getvalue().split("\r")]
    assert "checking   [############............]  50% 1 of 2" in shown
    assert "checking   [########################] 100% 2 of 2, 0 s left" in shown
    assert "checking" not in pipe.getvalue()


@pytest.mark.slow
def test_progress_says_how_long_it_will_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(toy(tmp_path / "out"), loader=says_none) == 0
    shown = [text.rstrip() for text in terminal.getvalue().split("\r")]
    assert "asking     [############............]  50% 1 of 2" in shown
    assert "asking     [########################] 100% 2 of 2, 0 s left" in shown


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89.0, "89 s"), (600.0, "10 min"), (9000.0, "2.5 h")]
)
def test_durations_are_short(seconds: float, words: str) -> None:
    assert _cli_eval._duration(seconds) == words

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground import __version__
from molmo2_ground._cli_doctor import extras, libraries
from molmo2_ground._cli_output import Bar, one_line
from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.cli import main
from molmo2_ground.clip import Clip
from molmo2_ground.export import read_result
from molmo2_ground.grounder import MODEL_VARIABLE, Grounder
from molmo2_ground.query import Prompt
from molmo2_ground.results import Count, Tracks
from tests.media import Shelf, constant_rate

TRACKS = '<tracks coords="0.0 1 500 250;0.5 1 600 250;1.0 1 700 250 2 100 100">the red car</tracks>'
POINTS = '<points coords="1 1 100 200 2 500 600">mugs</points>'
COUNT = f"Counting the {POINTS} shows a total of 2."


class Model:
    """A loader of recorded answers that keeps how it was called."""

    def __init__(self, *answers: str | RawAnswer) -> None:
        self._answers = answers
        self.calls: list[tuple[str, str, str, str]] = []

    def __call__(self, model: str, *, device: str, dtype: str, vision: str) -> Grounder:
        self.calls.append((model, device, dtype, vision))
        return Grounder(ScriptedBackend(self._answers))


class Broken:
    """A loader of a model that fails with the given error when it is asked."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self, model: str, *, device: str, dtype: str, vision: str) -> Grounder:
        error = self._error

        class Failing(ScriptedBackend):
            def next_answer(self, prompt: Prompt, clip: Clip) -> RawAnswer:
                raise error

        return Grounder(Failing([]))


@pytest.fixture
def video(media: Shelf) -> str:
    return str(media(constant_rate))


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "shelf.png"
    Image.fromarray(np.full((50, 80, 3), 200, np.uint8)).save(path)
    return str(path)


# What is printed


def test_track_prints_one_line_an_object(video: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", video, "the red car"], loader=Model(TRACKS)) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "#1 the red car: 0.0 s (48, 16) to 1.0 s (67, 16), 3 samples",
        "#2 the red car: 1.0 s (10, 6) to 1.0 s (10, 6), 1 sample",
    ]
    assert err == ""


def test_point_count_and_ask_print_for_people(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["point", image, "mugs"], loader=Model(POINTS)) == 0
    mugs = ["#1 mugs: image 1 (8, 10)", "#2 mugs: image 1 (40, 30)"]
    assert capsys.readouterr().out.splitlines() == mugs
    assert main(["count", image, "mugs"], loader=Model(COUNT)) == 0
    assert capsys.readouterr().out.splitlines() == ["2", *mugs]
    assert main(["ask", image, "Where?"], loader=Model(f"Here: {POINTS}")) == 0
    assert capsys.readouterr().out.splitlines() == [f"Here: {POINTS}", *mugs]


def test_several_images_are_one_question(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = '<points coords="2 1 500 500">mugs</points>'
    assert main(["point", image, image, "mugs"], loader=Model(answer)) == 0
    assert capsys.readouterr().out == "#1 mugs: image 2 (40, 25)\n"


@pytest.mark.parametrize(
    ("task", "answer", "remark"),
    [
        pytest.param("point", "There are none.", "none found; the model wrote: 'There are none.'", id="none"),
        pytest.param(
            "count", COUNT.replace("2.", "3."), "the model wrote 3 and pointed to 2", id="disagrees"
        ),
        pytest.param("point", POINTS.replace("500 600", "5000 600"), "left out", id="rejected"),
        pytest.param("point", POINTS[:30], "cut off at the token limit", id="truncated"),
    ],
)
def test_what_a_reader_should_know_goes_to_stderr(
    image: str, capsys: pytest.CaptureFixture[str], task: str, answer: str, remark: str
) -> None:
    assert main([task, image, "mugs"], loader=Model(answer)) == 0
    assert remark in capsys.readouterr().err
    assert main([task, image, "mugs", "--quiet"], loader=Model(answer)) == 0
    assert capsys.readouterr().err == ""


def test_json_on_stdout_is_alone_there(video: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", video, "the red car", "--json", "-"], loader=Model(TRACKS)) == 0
    out, _ = capsys.readouterr()
    assert out.startswith('{"schema": "molmo2-ground/tracks/1",\n')
    assert [track["object_id"] for track in json.loads(out)["tracks"]] == [1, 2]


def test_files_are_written_and_named(video: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, annotated = tmp_path / "tracks.json", tmp_path / "annotated.mp4"
    arguments = ["track", video, "the red car", "--json", str(result), "-o", str(annotated)]
    assert main(arguments, loader=Model(TRACKS)) == 0
    out, err = capsys.readouterr()
    assert out.startswith("#1 the red car")
    assert err.splitlines() == [f"wrote {result}", f"wrote {annotated}"]
    assert isinstance(read_result(result), Tracks)
    assert annotated.read_bytes()[4:8] == b"ftyp"
    assert sorted(os.listdir(tmp_path)) == ["annotated.mp4", "tracks.json"]


def test_an_annotated_picture(image: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jpg"
    assert (
        main(
            ["count", image, "mugs", "-o", str(out), "--json", str(tmp_path / "c.json")], loader=Model(COUNT)
        )
        == 0
    )
    with Image.open(out) as picture:
        assert picture.size == (80, 50)
    assert isinstance(read_result(tmp_path / "c.json"), Count)


def test_options_reach_the_query(video: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["track", video, "the red car", "--fps", "5", "--max-objects", "1", "--at", "0.4,48,32"]
    assert main([*arguments, "--json", "-"], loader=Model(TRACKS)) == 0
    receipt = json.loads(capsys.readouterr().out)["receipt"]
    assert receipt["prompt"].endswith('Track <points coords="0.4 1 500 500">the red car</points> in 5 FPS.')
    assert receipt["max_objects"] == 1
    assert receipt["shown_times_s"][1] == 0.2
    assert main([*arguments, "--show-fps", "10", "--json", "-"], loader=Model(TRACKS)) == 0
    receipt = json.loads(capsys.readouterr().out)["receipt"]
    assert receipt["prompt"].endswith("in 5 FPS.")
    assert receipt["shown_times_s"][:3] == [0.0, 0.1, 0.2]


def test_the_model_is_the_named_one_else_the_environments(
    image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, "from/environment")
    model = Model(POINTS)
    assert main(["point", image, "mugs"], loader=model) == 0
    named = ["--model", "b", "--device", "cpu", "--dtype", "float32", "--vision", "onnx-cpu"]
    assert main(["point", image, "mugs", *named], loader=model) == 0
    assert model.calls == [
        ("from/environment", "auto", "auto", "torch"),
        ("b", "cpu", "float32", "onnx-cpu"),
    ]


def test_letters_that_the_terminal_lacks_do_not_end_the_run(
    image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = POINTS.replace("mugs", "чашки")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["point", image, "mugs"], loader=Model(answer)) == 0
    assert raw.getvalue().startswith(b"#1 ?????: image 1")
    assert main(["point", image, "mugs", "--json", "-"], loader=Model(answer)) == 0
    assert "чашки".encode() in raw.getvalue()


# How it ends


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nothing"),
        pytest.param(["follow"], id="no-such-command"),
        pytest.param(["track", "VIDEO"], id="no-query"),
        pytest.param(["track", "VIDEO", ""], id="empty-phrase"),
        pytest.param(["point", "VIDEO", "  "], id="blank-phrase"),
        pytest.param(["track", "VIDEO", "a", "--fps", "fast"], id="fps-no-number"),
        pytest.param(["track", "VIDEO", "a", "--fps", "0"], id="fps-zero"),
        pytest.param(["track", "VIDEO", "a", "--fps", "nan"], id="fps-nan"),
        pytest.param(["track", "VIDEO", "a", "--show-fps", "1"], id="shown-less-than-asked"),
        pytest.param(["count", "VIDEO", "a", "--show-fps", "5"], id="show-fps-for-count"),
        pytest.param(["track", "VIDEO", "a", "--max-objects", "0"], id="no-objects"),
        pytest.param(["track", "VIDEO", "a", "--max-new-tokens", "0"], id="no-tokens"),
        pytest.param(["track", "VIDEO", "a", "--at", "1,2"], id="at-two-numbers"),
        pytest.param(["track", "VIDEO", "a", "--at", "99,2,3"], id="at-after-the-end"),
        pytest.param(["track", "VIDEO", "a", "--at", "0,9999,3"], id="at-outside-the-picture"),
        pytest.param(["point", "VIDEO", "a", "--at", "0,1,1"], id="at-for-point"),
        pytest.param(["count", "VIDEO", "a", "--max-objects", "1"], id="max-objects-for-count"),
        pytest.param(["track", "VIDEO", "a", "-o", "no/such/folder/a.mp4"], id="no-folder"),
        pytest.param(["track", "VIDEO", "a", "-o", "a.avi"], id="no-such-format"),
        pytest.param(["track", "VIDEO", "a", "--json", "/"], id="json-is-a-folder"),
        pytest.param(["track", "VIDEO", "a", "--json", "VIDEO"], id="json-over-the-source"),
        pytest.param(["track", "VIDEO", "a", "-o", "a.mp4", "--json", "./a.mp4"], id="one-name-for-two"),
        pytest.param(["replay"], id="replay-nothing"),
    ],
)
def test_bad_usage_exits_2_in_words(
    arguments: list[str],
    video: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = Path(video).read_bytes()
    assert main([video if word == "VIDEO" else word for word in arguments], loader=Model(TRACKS)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert os.listdir(tmp_path) == []
    assert Path(video).read_bytes() == before


def test_a_picture_is_not_written_as_a_video(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["point", image, "a", "-o", str(Path(image).with_name("a.mp4"))], loader=Model(POINTS)) == 2
    assert "images are not written as a video" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(
            RuntimeError("a b\nc"), "unexpected RuntimeError: a b c (--debug shows where)", id="bug"
        ),
        pytest.param(KeyError(), "unexpected KeyError: KeyError", id="without-words"),
        pytest.param(
            UnicodeDecodeError("utf-8", b"x", 0, 1, "odd"), "unexpected UnicodeDecodeError", id="value"
        ),
        pytest.param(OSError(28, "No space left on device"), "No space left on device", id="disk-full"),
        pytest.param(MemoryError("too large"), "unexpected MemoryError: too large", id="memory"),
    ],
)
def test_what_fails_exits_1_with_one_line(
    error: Exception, words: str, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["point", image, "mugs"], loader=Broken(error)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert words in err


def test_debug_shows_where_it_failed(image: str) -> None:
    with pytest.raises(RuntimeError, match="deep"):
        main(["point", image, "mugs", "--debug"], loader=Broken(RuntimeError("deep")))


def test_an_unreadable_answer_exits_1(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["point", image, "mugs"], loader=Model("I see mugs.")) == 1
    said = capsys.readouterr().err
    assert "'I see mugs.'" in said
    assert "err." not in said


def test_a_bad_file_is_told_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model(TRACKS)
    assert main(["track", str(tmp_path / "missing.mp4"), "a"], loader=model) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert model.calls == []


def test_ctrl_c_exits_130_and_leaves_nothing(
    video: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.mp4")]
    assert main(["track", video, "a", *files], loader=Broken(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.strip() == "molmo2-ground: interrupted"
    assert os.listdir(tmp_path) == []


def test_a_polite_kill_unwinds_the_stack(image: str) -> None:
    unwound = []

    class Killed(ScriptedBackend):
        def next_answer(self, prompt: Prompt, clip: Clip) -> RawAnswer:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                unwound.append(True)
            return super().next_answer(prompt, clip)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        main(["point", image, "mugs"], loader=lambda *_, **__: Grounder(Killed([POINTS])))
    assert caught.value.code == 143
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_exit_0(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    out = capsys.readouterr().out
    assert __version__ in out or "track" in out


# Replay


@pytest.fixture
def result_file(video: str, tmp_path: Path) -> Path:
    path = tmp_path / "tracks.json"
    assert main(["track", video, "the red car", "--json", str(path), "--quiet"], loader=Model(TRACKS)) == 0
    return path


def test_replay_of_an_untouched_file_exits_0(result_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["replay", str(result_file)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("#1 the red car: 0.0 s (48, 16)")
    assert err == "the receipt gives the same objects as the file\n"


def test_replay_of_a_changed_file_exits_1(result_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = result_file.read_text()
    assert '"x_px": 48.0' in text
    result_file.write_text(text.replace('"x_px": 48.0', '"x_px": 47.0'))
    assert main(["replay", str(result_file)]) == 1
    assert "object 1 sample 1 x_px is 47.0 in the file and 48.0 from the receipt" in capsys.readouterr().err


def test_replay_of_an_emptied_file_says_the_first_differences_and_how_many(
    result_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(result_file.read_text())
    result_file.write_text(json.dumps({**document, "tracks": []}))
    capsys.readouterr()
    assert main(["replay", str(result_file)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 11
    assert said[0] == "differs: object 1 label is not in the file, and the receipt gives it"
    assert said[-1].endswith("more differences like these")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(lambda path: path.write_text("{}"), id="no-result"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:100]), id="cut"),
        pytest.param(
            lambda path: path.write_text(
                path.read_text().replace('"shown_times_s": [0.0, ', '"shown_times_s": [')
            ),
            id="lists-of-unequal-length",
        ),
        pytest.param(
            lambda path: path.write_text(path.read_text().replace('"task": "track"', '"task": "guess"')),
            id="task",
        ),
    ],
)
def test_replay_of_what_is_no_result_exits_1_with_one_line(
    change: Callable[[Path], object], result_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    change(result_file)
    assert main(["replay", str(result_file)]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)


# The page


def test_a_page_shows_the_result_and_names_the_video(video: str, tmp_path: Path) -> None:
    files = ["-o", str(tmp_path / "annotated.mp4"), "--html", str(tmp_path / "page.html")]
    assert main(["track", video, "the red car", *files, "--quiet"], loader=Model(TRACKS)) == 0
    page = (tmp_path / "page.html").read_text()
    assert "the red car" in page
    assert "annotated.mp4" in page


def test_view_writes_the_page_where_it_is_told(
    result_file: Path, video: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    page = result_file.with_suffix(".html")
    assert main(["view", str(result_file), video, "--out", str(page)]) == 0
    assert capsys.readouterr() == (f"{page}\n", "")
    with_pictures = page.stat().st_size
    before = result_file.read_bytes()
    assert main(["view", str(result_file), video, "--out", str(result_file)]) == 2
    assert "is one of the files to read" in capsys.readouterr().err
    assert result_file.read_bytes() == before
    assert main(["view", str(result_file), "--out", str(page)]) == 0
    assert "is not here, so the page has no pictures" in capsys.readouterr().err
    assert page.stat().st_size < with_pictures


def test_view_finds_the_source_beside_the_result(
    result_file: Path, video: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(video, result_file.parent)
    capsys.readouterr()
    assert main(["view", str(result_file), "--out", str(result_file.with_suffix(".html"))]) == 0
    assert capsys.readouterr().err == ""


# Doctor


def test_doctor_names_what_breaks_and_how_to_get_it() -> None:
    lines = ["numpy<3,>=2.0", "no-such-library>=1; python_version > '3'", 'pyzmq; extra == "live"']
    found = {finding.what: finding for finding in libraries(lines)}
    assert found["numpy"].state == "ok"
    assert found["no-such-library"].state == "failed"
    assert found["no-such-library"].words.endswith("get it with: pip install 'no-such-library'")
    assert "pyzmq" not in found


def test_doctor_names_missing_extras_and_how_to_get_them() -> None:
    lines = ["numpy", 'no-such-library; extra == "live"', "numpy<3; extra == 'table'", 'ruff; extra == "dev"']
    assert [str(finding) for finding in extras(lines)] == [
        "missing extra live                without no-such-library; "
        "get it with: pip install 'molmo2-ground[live]'",
        "ok      extra table               numpy",
    ]


def test_doctor_without_an_installation_says_so() -> None:
    assert [finding.state for finding in libraries([])] == ["missing"]


@pytest.mark.slow  # imports every library
def test_doctor_goes_on_when_the_model_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", str(tmp_path / "nothing")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok      molmo2-ground")
    assert [line for line in lines if line.startswith("failed  model")]
    assert [line for line in lines if line.startswith("ok      encoders")]


# The bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = Bar()
    bar.tell("reading", 0.5)
    bar.tell("reading", 0.5)
    assert terminal.getvalue() == "\rreading    [############............]  50%"
    bar.clear()
    assert terminal.getvalue().endswith("\r" + " " * 42 + "\r")
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    Bar().tell("reading", 0.5)
    assert pipe.getvalue() == ""


def test_a_quiet_run_draws_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    Bar(quiet=True).tell("reading", 0.5)
    assert terminal.getvalue() == ""


def test_a_message_of_many_lines_becomes_one() -> None:
    assert one_line(ValueError("a\n  b\tc")) == "a b c"
    assert one_line(ValueError()) == "ValueError"

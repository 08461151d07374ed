from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground._cli_batch import jobs_of
from molmo2_ground._cli_origins import ORIGINS_FILE
from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.cli import main
from molmo2_ground.clip import Clip
from molmo2_ground.export import read_result
from molmo2_ground.grounder import Grounder
from molmo2_ground.query import Prompt
from molmo2_ground.results import Count, Points, Tracks
from tests.media import Shelf, constant_rate, write_video

TRACKS = '<tracks coords="0.0 1 500 250;0.5 1 600 250">the red car</tracks>'
COUNT = 'Counting the <points coords="0.0 1 100 200 2 500 600">mugs</points> shows a total of 2.'


class Recorded(ScriptedBackend):
    """One answer for whatever is asked; on question `stops_at` someone presses Ctrl-C."""

    def __init__(self, answer: str, *, stops_at: int = -1) -> None:
        super().__init__([answer] * 100)
        self._stops_at = stops_at
        self.loaded = 0

    def next_answer(self, prompt: Prompt, clip: Clip) -> RawAnswer:
        if len(self.prompts) == self._stops_at:
            raise KeyboardInterrupt
        return super().next_answer(prompt, clip)

    def __call__(self, model: str, *, device: str, dtype: str) -> Grounder:
        self.loaded += 1
        return Grounder(self)


@pytest.fixture
def folder(media: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three videos and a file that is none, and the place to be."""
    for name in ("one.mp4", "two.mp4", "three.mp4"):
        shutil.copy(media(constant_rate), tmp_path / name)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_clip_of_a_list_gets_a_result_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "clips.txt").write_text("# street\none.mp4\n\n  two.mp4  \n")
    assert main(["batch", "clips.txt", "the red car", "--out", "found"], loader=Recorded(TRACKS)) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["one.mp4: 1 found, found/one.json", "two.mp4: 1 found, found/two.json"]
    assert err.splitlines() == ["2 clips: 2 done, 0 there before, 0 failed; found"]
    found = read_result(folder / "found" / "one.json")
    assert isinstance(found, Tracks)
    assert found.receipt.source == "one.mp4"


@pytest.mark.parametrize("out", ["one.mp4", "one.mp4/found"])
def test_a_file_where_the_results_would_go_is_told_before_a_model_is_loaded(
    out: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Recorded(TRACKS)
    assert main(["batch", "two.mp4", "the red car", "--out", out], loader=model) == 1
    expected = "one.mp4 is a file; expected a folder, new or of an earlier run"
    assert capsys.readouterr().err == f"molmo2-ground: --out {out}: {expected}\n"
    assert model.loaded == 0


@pytest.mark.slow
def test_a_clip_that_fails_is_named_and_the_others_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = ["one.mp4", "broken.mp4", "missing.mp4", "two.mp4"]
    assert main(["batch", *clips, "the red car", "--out", "found"], loader=Recorded(TRACKS)) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith("broken.mp4: ")
    assert err[1] == "missing.mp4: there is no file missing.mp4"
    assert err[2] == "4 clips: 2 done, 0 there before, 2 failed; found"
    assert sorted(path.name for path in (folder / "found").glob("*.json")) == ["one.json", "two.json"]


def test_what_is_there_is_not_asked_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "one.mp4", "the red car", "--out", "found"], loader=Recorded(TRACKS)) == 0
    before = (folder / "found" / "one.json").stat().st_mtime_ns
    capsys.readouterr()
    model = Recorded(TRACKS)
    again = ["batch", "one.mp4", "two.mp4", "the red car", "--out", "found"]
    assert main(again, loader=model) == 0
    assert [clip.source for _, clip in model.prompts] == ["two.mp4"]
    assert (folder / "found" / "one.json").stat().st_mtime_ns == before
    assert capsys.readouterr().err.splitlines() == [
        "one.mp4: found/one.json is there, by scripted; not asked again",
        "2 clips: 1 done, 1 there before, 0 failed; found",
    ]
    idle = Recorded(TRACKS)
    assert main(again, loader=idle) == 0
    assert idle.loaded == 0  # nothing to ask, so no model


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(["the blue car"], id="other-words"),
        pytest.param(["the red car", "--task", "point"], id="other-task"),
    ],
)
def test_an_answer_to_another_question_is_neither_kept_nor_written_over(
    other: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["batch", "one.mp4", "the red car", "--out", "found"], loader=Recorded(TRACKS))
    before = (folder / "found" / "one.json").read_bytes()
    capsys.readouterr()
    assert main(["batch", "one.mp4", *other, "--out", "found"], loader=Recorded(TRACKS)) == 1
    assert "answers another question (track 'the red car'); move it away" in capsys.readouterr().err
    assert (folder / "found" / "one.json").read_bytes() == before


def test_a_file_that_is_no_result_is_not_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "found").mkdir()
    (folder / "found" / "one.json").write_text(json.dumps({"my": "notes"}))
    assert main(["batch", "one.mp4", "the red car", "--out", "found"], loader=Recorded(TRACKS)) == 1
    assert "is there and is no result" in capsys.readouterr().err
    assert json.loads((folder / "found" / "one.json").read_text()) == {"my": "notes"}


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["batch", "one.mp4", "two.mp4", "three.mp4", "the red car", "--out", "found"]
    assert main(command, loader=Recorded(TRACKS, stops_at=2)) == 130
    err = capsys.readouterr().err
    assert "results in found: 2 of 3; the same command goes on" in err
    assert sorted(path.name for path in (folder / "found").glob("*.json")) == ["one.json", "two.json"]
    model = Recorded(TRACKS)
    assert main(command, loader=model) == 0
    assert [clip.source for _, clip in model.prompts] == ["three.mp4"]


def test_patterns_and_folders_of_images_name_clips(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "shelf").mkdir()
    Image.fromarray(np.full((50, 80, 3), 200, np.uint8)).save(folder / "shelf" / "1.png")
    command = ["batch", "t*.mp4", "shelf", "mugs", "--task", "count", "--out", "found", "--quiet"]
    assert main(command, loader=Recorded(COUNT)) == 0
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["three.mp4", "two.mp4", "shelf"]
    assert err == ""
    assert isinstance(read_result(folder / "found" / "two.json"), Count)


def test_the_task_and_its_options_reach_the_question(folder: Path) -> None:
    points = '<points coords="0.0 1 100 200 2 500 600">cars</points>'
    command = ["batch", "one.mp4", "cars", "--task", "point", "--max-objects", "1", "--out", "found"]
    assert main(command, loader=Recorded(points)) == 0
    found = read_result(folder / "found" / "one.json")
    assert isinstance(found, Points)
    assert len(found) == 1


def test_a_list_may_lie_beside_its_clips(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "clips.txt").write_text("one.mp4\n")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    command = ["batch", str(folder / "clips.txt"), "the red car", "--out", "found"]
    assert main(command, loader=Recorded(TRACKS)) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["none*.mp4", "cars"], "no file matches none*.mp4", id="pattern"),
        pytest.param(["empty.txt", "cars"], "names no clip", id="empty-list"),
        pytest.param(["missing.txt", "cars"], "there is no list missing.txt", id="missing-list"),
        pytest.param(["pixels.txt", "cars"], "no text in UTF-8", id="no-text"),
        pytest.param(["one.mp4", "cars", "--fps", "0"], "fps", id="option"),
        pytest.param(["one.mp4", "cars", "--task", "dance"], "dance", id="task"),
    ],
)
def test_bad_usage_exits_2_before_anything_is_loaded(
    arguments: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.txt").write_text("# nothing\n")
    (folder / "pixels.txt").write_bytes(b"\xff\xfe\xfd")
    model = Recorded(TRACKS)
    assert main(["batch", *arguments], loader=model) == 2
    assert says in capsys.readouterr().err
    assert model.loaded == 0
    assert not (folder / "molmo2-ground-batch").exists()


def test_an_out_that_is_a_file_exits_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["batch", "one.mp4", "cars", "--out", "two.mp4"]
    assert main(command, loader=Recorded(TRACKS)) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


# The same name, another video


def _days(folder: Path) -> None:
    for day, frame_count in (("mon", 12), ("tue", 20)):
        (folder / day).mkdir()
        write_video(folder / day / "cam1.mp4", frame_count=frame_count)


@pytest.mark.slow
@pytest.mark.parametrize("noted", [True, False], ids=["noted", "of-an-earlier-version"])
def test_another_video_of_the_same_name_is_not_taken_for_it(
    noted: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _days(folder)
    if not noted:  # what the result itself holds must tell them apart
        write_video(folder / "tue" / "cam1.mp4", frame_count=20, fps=25)
    ask = [*("batch", "mon/cam1.mp4", "the red car"), "--out", "found"]
    assert main(ask, loader=Recorded(TRACKS)) == 0
    before = (folder / "found" / "cam1.json").read_bytes()
    if not noted:
        (folder / "found" / ORIGINS_FILE).unlink()
    capsys.readouterr()
    tuesday = ["batch", "tue/cam1.mp4", "two.mp4", "the red car", "--out", "found"]
    assert main(tuesday, loader=Recorded(TRACKS)) == 1
    out, err = capsys.readouterr()
    assert out == "two.mp4: 1 found, found/two.json\n"
    why = f"was made from another file, {folder}/mon/cam1.mp4" if noted else "is about other media: "
    first, summary = err.splitlines()
    assert first.startswith(f"tue/cam1.mp4: found/cam1.json is there and {why}")
    assert first.endswith("; move it away, or choose another --out")
    assert summary == "2 clips: 1 done, 0 there before, 1 failed; found"
    assert (folder / "found" / "cam1.json").read_bytes() == before
    idle = Recorded(TRACKS)
    assert main(ask, loader=idle) == 0
    assert idle.loaded == 0
    assert (folder / "found" / ORIGINS_FILE).read_text().count("cam1.json") == 1


def test_a_clip_that_has_gone_keeps_its_result(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["batch", "one.mp4", "the red car", "--out", "found"]
    assert main(ask, loader=Recorded(TRACKS)) == 0
    (folder / "one.mp4").unlink()
    assert main(ask, loader=Recorded(TRACKS)) == 0
    assert "one.mp4: found/one.json is there, by scripted; not asked again" in capsys.readouterr().err


@pytest.mark.slow
def test_a_clip_keeps_its_name_when_another_of_the_name_joins(folder: Path) -> None:
    _days(folder)
    (folder / "tue").rename(folder / "later")
    ask = ["batch", "[mt]*/*.mp4", "the red car", "--out", "found"]
    assert main(ask, loader=Recorded(TRACKS)) == 0
    (folder / "later").rename(folder / "tue")
    model = Recorded(TRACKS)
    assert main(ask, loader=model) == 0
    assert len(model.prompts) == 1
    names = sorted(path.name for path in (folder / "found").glob("*.json"))
    assert names == ["cam1.json", "tue__cam1.mp4.json"]
    # And it keeps it when it is named alone again.
    idle = Recorded(TRACKS)
    assert main(["batch", "tue/cam1.mp4", "the red car", "--out", "found"], loader=idle) == 0
    assert idle.loaded == 0


# Folders


@pytest.mark.slow
def test_a_folder_of_videos_is_each_of_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "clips").mkdir()
    for name in ("one.mp4", "two.mp4"):
        (folder / name).rename(folder / "clips" / name)
    (folder / "clips" / "notes.md").touch()
    command = ["batch", "clips", "three.mp4", "the red car", "--out", "found", "--quiet"]
    assert main(command, loader=Recorded(TRACKS)) == 0
    out = capsys.readouterr().out
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "clips/one.mp4",
        "clips/two.mp4",
        "three.mp4",
    ]
    Image.fromarray(np.zeros((5, 8, 3), np.uint8)).save(folder / "clips" / "1.png")
    assert main(command, loader=Recorded(TRACKS)) == 2
    expected = (
        "the folder clips holds videos and pictures; name the videos, such as 'clips/*.mp4', or a folder"
    )
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        pytest.param(["one.mp4", "two.mp4"], ["one", "two"], id="by-name"),
        pytest.param(["one.mp4", "one.mov"], ["one.mp4", "one.mov"], id="two-kinds"),
        pytest.param(["/a/one.mp4", "/b/one.mp4"], ["a__one.mp4", "b__one.mp4"], id="two-folders"),
        pytest.param(
            ["/a/c/one.mp4", "/b/c/one.mp4", "/b/d/one.mp4"],
            ["a__c__one.mp4", "b__c__one.mp4", "d__one.mp4"],
            id="two-deep",
        ),
        pytest.param(["/a/one.mp4", "/a/one.mp4"], ["one"], id="twice"),
        pytest.param(
            ["/a/one.mp4", "/b/one.mp4", "/c/a__one.mp4.mp4"],
            ["x__a__one.mp4", "b__one.mp4", "a__one.mp4"],
            id="a-name-that-looks-like-folders",
        ),
    ],
)
def test_results_are_named_for_their_clips(paths: list[str], names: list[str]) -> None:
    # A folder above all of them, so that there is one more word to tell them apart by.
    jobs = jobs_of([Path(f"/x{path}") if path.startswith("/") else Path(path) for path in paths], Path("out"))
    assert [job.result for job in jobs] == [Path("out") / f"{name}.json" for name in names]

"""What the commands refuse to write: a stream where a file is expected, and a file over its own source."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from molmo2_ground._cli_output import check_folder, check_written, named_path
from molmo2_ground.cli import main
from molmo2_ground.errors import SourceError
from molmo2_ground.export import write_result
from tests.made_marks import receipt, tracks
from tests.media import Shelf, constant_rate


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["track", "VIDEO", "a", "-o", "-"], "cannot go to stdout", id="video"),
        pytest.param(["track", "VIDEO", "a", "--html", "-"], "cannot go to stdout", id="page"),
        pytest.param(
            ["point", "VIDEO", "a", "--masks", "--masks-json", "-"], "cannot go to stdout", id="masks"
        ),
        pytest.param(["batch", "VIDEO", "a", "--out", "-"], "cannot go to stdout", id="batch"),
        pytest.param(["demo", "--out", "-"], "cannot go to stdout", id="demo"),
        pytest.param(["view", "VIDEO", "--out", "-"], "cannot go to stdout", id="view"),
        pytest.param(["eval", "toy", "--report", "-"], "cannot go to stdout", id="eval"),
        pytest.param(["eval", "compare", "a", "b", "--report", "-"], "cannot go to stdout", id="compare"),
        pytest.param(["export", "vision", "tiny", "-o", "-"], "cannot go to stdout", id="vision"),
        pytest.param(
            ["plan", "VIDEO", "a", "--json", "VIDEO"], "one of the files to read", id="plan-over-the-source"
        ),
    ],
)
def test_what_cannot_be_written_gives_one_line(
    arguments: list[str],
    message: str,
    media: Shelf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    video = media(constant_rate)
    before = video.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert main([str(video) if word == "VIDEO" else word for word in arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert message in err
    assert os.listdir(tmp_path) == []
    assert video.read_bytes() == before


def test_a_receipt_whose_windows_were_emptied_cannot_be_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"frame_times_s": (), "shown_times_s": (), "frame_source_indices": ()}
    window = receipt(raw_text="There are none.", **times)
    write_result(
        tracks().model_copy(update={"receipt": receipt(windows=(window, window))}), tmp_path / "a.json"
    )
    assert main(["replay", str(tmp_path / "a.json")]) == 1
    said = capsys.readouterr().err
    assert "cannot be replayed: its receipt's lists do not fit each other" in said
    assert len(said.splitlines()) == 1


def test_a_demo_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("mine")
    assert main(["demo", "--out", str(tmp_path / "taken")]) == 1
    assert "is a file; expected a folder" in capsys.readouterr().err


def test_a_file_may_be_called_as_stdout_is() -> None:
    assert named_path("./-") == Path("-")


def test_files_that_can_be_written_pass(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("old")
    check_written((tmp_path / "new", tmp_path / "there", None), (tmp_path / "gone", None))
    check_folder("--out", tmp_path / "new" / "below")
    with pytest.raises(SourceError, match="is a file"):
        check_folder("--out", tmp_path / "there" / "below")
    with pytest.raises(ValueError, match="two outputs have the same name"):
        check_written((tmp_path / "new", tmp_path / "new"), ())

from __future__ import annotations

import errno
import os
from pathlib import Path

import av
import pytest

from molmo2_ground._atomic import atomic_folder, atomic_path
from molmo2_ground._cli_output import one_line


def test_the_file_appears_with_its_content(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    with atomic_path(target) as unfinished:
        unfinished.write_text("whole")
        assert not target.exists()
        assert unfinished.parent == tmp_path
        assert unfinished.suffix == ".json"
    assert target.read_text() == "whole"
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(RuntimeError("broken"), id="error"),
        pytest.param(KeyboardInterrupt(), id="ctrl-c"),
        pytest.param(SystemExit(3), id="exit"),
    ],
)
@pytest.mark.parametrize(
    "written", [pytest.param(True, id="half-written"), pytest.param(False, id="not-begun")]
)
def test_what_stood_there_stays_when_the_block_fails(
    tmp_path: Path, error: BaseException, written: bool
) -> None:
    target = tmp_path / "out.mp4"
    target.write_text("before")

    def write() -> None:
        with atomic_path(target) as unfinished:
            if written:
                unfinished.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match="no/such does not exist"),
        atomic_path(tmp_path / "no/such/a.png"),
    ):
        pass


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"), atomic_path(tmp_path):
        pass


def test_a_link_keeps_pointing_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    with atomic_path(link) as unfinished:
        unfinished.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_pipe_is_written_in_place(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with atomic_path(pipe) as unfinished:
        assert unfinished == pipe
    assert pipe.is_fifo()


def test_a_name_at_the_limit_of_the_file_system_works(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250 + ".txt")
    with atomic_path(target) as unfinished:
        unfinished.write_text("long")
    assert target.read_text() == "long"


def test_a_folder_appears_with_its_files(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as unfinished:
        (unfinished / "a.txt").write_text("whole")
        assert not (tmp_path / "out").exists()
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a.txt").read_text() == "whole"


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_half_a_folder_goes(tmp_path: Path, error: BaseException) -> None:
    def write() -> None:
        with atomic_folder(tmp_path / "out") as unfinished:
            (unfinished / "a.txt").write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert os.listdir(tmp_path) == []


def test_an_empty_folder_makes_way_and_a_full_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as unfinished:
        (unfinished / "a.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another folder"), atomic_folder(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path / "out") == ["a.txt"]


def test_a_folder_that_fills_up_meanwhile_stays(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_folder(tmp_path / "out") as unfinished:
            (unfinished / "a.txt").write_text("late")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs.txt").write_text("first")

    with pytest.raises(FileExistsError):
        write()
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["theirs.txt"]


def test_a_folder_needs_one_to_lie_in(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="create it"), atomic_folder(tmp_path / "no" / "out"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "file"):
        pass


@pytest.mark.parametrize("names", [True, False], ids=["names the temporary file", "names none"])
def test_a_full_disk_is_told_with_the_files_own_name(tmp_path: Path, names: bool) -> None:
    with pytest.raises(OSError, match="No space left") as caught, atomic_path(tmp_path / "a.json") as path:
        raise OSError(errno.ENOSPC, "No space left on device", *([str(path)] if names else []))
    assert one_line(caught.value) == f"{tmp_path / 'a.json'}: No space left on device"


def test_a_full_disk_that_pyav_tells_of_is_told_with_the_files_own_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, atomic_path(tmp_path / "a.mp4") as path:
        av.error.err_check(-errno.ENOSPC, str(path))
    assert one_line(caught.value) == f"{tmp_path / 'a.mp4'}: No space left on device"
    assert os.listdir(tmp_path) == []


def test_what_is_not_about_the_disk_keeps_its_words(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="refused") as caught, atomic_path(tmp_path / "a.json"):
        raise OSError(errno.ECONNREFUSED, "Connection refused")
    assert one_line(caught.value) == "Connection refused"

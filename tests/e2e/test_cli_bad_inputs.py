"""Bad input through the command line: exit 1, one line, no traceback, nothing written, no model loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from molmo2_ground.cli import main
from molmo2_ground.grounder import Grounder
from tests.media import (
    Shelf,
    audio_only,
    damaged_middle,
    empty,
    gigantic,
    gigantic_avi,
    gigantic_gif,
    playlist,
    renamed_text,
    text,
    truncated_no_header,
    zero_frames,
)

BAD = [audio_only, empty, gigantic, gigantic_avi, gigantic_gif, playlist, renamed_text, text]
BAD += [truncated_no_header, zero_frames]

NOBODY = 65534  # the user without rights, on Linux


def no_model(*_: object, **__: object) -> Grounder:
    raise AssertionError("a model was loaded for a file that cannot be read")


@contextmanager
def without_superpowers() -> Iterator[None]:
    """Give up the superuser's right to read every file, in containers where tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def assert_one_line(code: int, out: str, err: str) -> None:
    assert code == 1
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("molmo2-ground: ")
    assert "Traceback" not in err
    assert "unexpected" not in err


@pytest.mark.parametrize("writer", BAD, ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("task", ["track", "count"])
def test_a_bad_file(
    task: str, writer: Callable[..., None], media: Shelf, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.mp4")]
    code = main([task, str(media(writer)), "the red car", *files], loader=no_model)
    assert_one_line(code, *capfd.readouterr())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("missing.mp4", id="missing"),
        pytest.param("", id="no-name"),
        pytest.param(".", id="folder-without-images"),
        pytest.param("a\0b.mp4", id="nul-in-the-name"),
        pytest.param("n" * 5000, id="name-too-long"),
        pytest.param("rtsp://127.0.0.1/camera", id="an-address"),
    ],
)
def test_a_bad_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(["track", name, "the red car"], loader=no_model)
    assert_one_line(code, *capfd.readouterr())


def test_a_file_that_may_not_be_read(media: Shelf, capfd: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "secret.mp4"
        path.write_bytes(media(damaged_middle).read_bytes())
        path.chmod(0)
        with without_superpowers():
            code = main(["track", str(path), "a"], loader=no_model)
    out, err = capfd.readouterr()
    assert_one_line(code, out, err)
    assert "permission denied" in err


@pytest.mark.slow
def test_the_command_itself_says_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "molmo2_ground", "track", "missing.mp4", "the red car"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert_one_line(done.returncode, done.stdout, done.stderr)

from __future__ import annotations

import resource
import threading
from pathlib import Path

import pytest

from molmo2_ground.integrations.piped_file import PipedFile


@pytest.mark.parametrize("size", [0, 1, 1 << 16, 3_000_001])
def test_what_goes_into_the_pipe_is_in_the_file(tmp_path: Path, size: int) -> None:
    sent = bytes(range(256)) * (size // 256 + 1)
    done = threading.Event()

    def write(pipe: Path) -> None:
        stream = pipe.open("wb")

        def pour() -> None:
            with stream:
                stream.write(sent[:size])
            done.set()

        threading.Thread(target=pour).start()

    file = PipedFile(tmp_path / "run", write)
    file.end()
    assert done.is_set()
    assert (tmp_path / "run").read_bytes() == sent[:size]


def test_nothing_is_left_when_the_library_cannot_open_it(tmp_path: Path) -> None:
    def refuse(pipe: Path) -> None:
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        PipedFile(tmp_path / "run", refuse)
    assert not [*tmp_path.iterdir()]


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileExistsError):
        PipedFile(tmp_path / "run", lambda pipe: None)
    assert (tmp_path / "run").read_text() == "mine"


def test_the_pipe_is_emptied_to_its_end_when_the_disk_is_full(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    streams = []
    file = PipedFile(tmp_path / "run", lambda pipe: streams.append(pipe.open("wb")))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with streams[0] as stream:
            stream.write(bytes(1_000_000))  # does not wait for ever
        with pytest.raises(OSError, match="File too large"):
            file.end()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with pytest.raises(OSError, match="File too large"):
        file.check()
    assert (tmp_path / "run").stat().st_size == 100_000

"""`view` and the video that it takes its pictures from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.cli import main
from molmo2_ground.export import write_result
from tests.found import track, tracks
from tests.media import SIZE_PX, write_video


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A result about street.mp4, which is not there yet, and the place to be."""
    seen = track({0.0: (10.0, 60.0), 0.5: (30.0, 60.0)}, size_px=SIZE_PX)
    file = tmp_path / "found" / "cars.json"
    file.parent.mkdir()
    write_result(tracks(seen, looked_s=[0.0, 0.5, 1.0], size_px=SIZE_PX, fps=10.0), file)
    monkeypatch.chdir(tmp_path)
    return file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "says"),
    [
        pytest.param({"size_px": (64, 96)}, "has 64 x 96 pixels, and the result is of 96 x 64", id="shape"),
        pytest.param({"fps": 30, "frame_count": 40}, "shows frame 15 at 0.50 s, and the result", id="rate"),
        pytest.param({"frame_count": 6}, "lasts 0.60 s, and the result goes up to 1.00 s", id="short"),
    ],
)
def test_another_video_is_refused_when_named_and_left_alone_when_found(
    other: dict[str, Any], says: str, result: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(Path("street.mp4"), **other)
    assert main(["view", str(result), "street.mp4", "--out", "page.html"]) == 2
    assert capsys.readouterr().err.startswith(f"molmo2-ground: street.mp4 {says}")
    assert not Path("page.html").exists()
    assert main(["view", str(result), "--out", "page.html"]) == 0
    said = capsys.readouterr().err
    assert (said.startswith(f"the page has no pictures: street.mp4 {says}"), said.count("\n")) == (True, 1)
    bare = Path("page.html").stat().st_size
    # The right one lies beside the result.
    write_video(result.parent / "street.mp4")
    assert main(["view", str(result), "--out", "page.html"]) == 0
    assert capsys.readouterr().err == ""
    assert Path("page.html").stat().st_size > bare


def test_a_picture_is_no_video(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((64, 96, 3), dtype=np.uint8)).save("one.png")
    assert main(["view", str(result), "one.png", "--out", "page.html"]) == 2
    expected = "one.png holds still pictures, and the result is about a video; name the video"
    assert capsys.readouterr().err == f"molmo2-ground: {expected}\n"

from __future__ import annotations

from pathlib import Path

import pytest

from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.cli import main
from molmo2_ground.grounder import Grounder
from molmo2_ground.model.limits import ModelLimits
from tests.media import Shelf, constant_rate

TRACKS = '<tracks coords="0.0 1 500 250;0.5 1 600 250">the red car</tracks>'


def recorded(*answers: str, max_frames: int) -> Grounder:
    limits = ModelLimits(max_frames=max_frames, max_fps=2.0, max_crops=8, context_tokens=36864)
    return Grounder(ScriptedBackend(answers, limits=limits))


def test_a_short_video_takes_its_one_look_whatever_the_deadline(media: Shelf) -> None:
    arguments = ["track", str(media(constant_rate)), "the red car", "--deadline", "0.000001"]
    assert main(arguments, loader=lambda *_, **__: recorded(TRACKS, max_frames=384)) == 0


def test_a_deadline_that_passes_before_anything_exits_1_with_one_line(
    media: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = str(media(constant_rate, frame_count=60))
    arguments = ["track", video, "the red car", "--deadline", "0.000001", "--json", str(tmp_path / "a.json")]
    assert main(arguments, loader=lambda *_, **__: recorded(max_frames=6)) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "passed before any window of the video was read" in said[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["track", "a.mp4", "cars", "--deadline", "0"], id="no-time"),
        pytest.param(["track", "a.mp4", "cars", "--deadline", "soon"], id="no-number"),
        pytest.param(["point", "a.png", "cars", "--deadline", "9"], id="nothing-long"),
    ],
)
def test_a_deadline_that_makes_no_sense_is_bad_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, loader=lambda *_, **__: recorded(max_frames=6)) == 2
    assert "deadline" in capsys.readouterr().err

from __future__ import annotations

import json
from pathlib import Path

import pytest

from molmo2_ground._cli_plan import lines
from molmo2_ground.cli import main
from molmo2_ground.planning import Plan, PlannedFrames, PlannedMemory, PlannedTime, PlannedTokens
from tests.media import Shelf, constant_rate

WINDOWED = Plan(
    task="track",
    query="the red car",
    source="street.mp4",
    model_id="tiny",
    frames=PlannedFrames(
        count=240,
        fps=2.0,
        windows=3,
        window_frames=120,
        overlap_frames=15,
        together=2,
        sampling="grid-2fps/1",
    ),
    tokens=PlannedTokens(prompts=(9000, 9000, 4000), answers=300, answers_basis="one object"),
    memory=PlannedMemory(
        device="cpu",
        dtype="float32",
        weights_bytes=2_000_000_000,
        keys_values_bytes=300_000_000,
        features_bytes=0,
        pixels_bytes=1_500_000,
        working_bytes=80_000_000,
        free_bytes=2_000_000_000,
    ),
    time=PlannedTime(reading_s=1.0, vision_s=120.0, prefill_s=30.0, runs=100, run_s=0.1),
    problem="street.mp4: 2.4 GB of memory are needed. It would fit with fps=1.",
)


def test_a_plan_is_read_by_a_person() -> None:
    assert list(lines(WINDOWED)) == [
        "frames   240 of street.mp4, 2 a second, in 3 windows of 120 that share 15, 2 asked together",
        "prompt   22,000 tokens, at most 9,000 a window",
        "answer   about 300 tokens, for one object",
        "memory   about 2.4 GB on cpu as float32: weights 2.0 GB, keys and values 300.0 MB, pixels 1.5 MB, "
        "working room 80.0 MB; 2.0 GB free",
        "time     about 2.7 min: reading 1.0 s, pictures 2.0 min, prompt 30.0 s, answer 10.0 s",
        "it does not fit",
    ]


def test_the_command_prints_the_plan(media: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    video = str(media(constant_rate))
    assert main(["plan", video, "the red car", "--device", "cpu", "--no-calibrate"]) == 0
    out, err = capsys.readouterr()
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["frames", "prompt", "answer", "memory", "it"]
    assert err == "note: time: not measured, the model was not run\n"


@pytest.mark.slow
def test_json_goes_to_stdout_or_a_file(
    media: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, file = str(media(constant_rate)), tmp_path / "plan.json"
    words = ["plan", video, "cars", "--task", "count", "--device", "cpu", "--no-calibrate", "--json"]
    assert main([*words, "-"]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith('{"schema": "molmo2-ground/plan/1",\n')
    assert json.loads(out)["tokens"]["exact"] is True
    assert main([*words, str(file)]) == 0
    assert json.loads(file.read_text())["frames"] == json.loads(out)["frames"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(["nosuch.mp4", "cars"], 1, "there is no file nosuch.mp4", id="no-file"),
        pytest.param(["docs/street.png", "cars"], 1, "tracking needs a video", id="no-video"),
        pytest.param(["docs/street.png", "cars", "--task", "count", "--fps", "1"], 2, "--fps goes", id="fps"),
        pytest.param(["docs/street.png", "", "--task", "count"], 2, "say in words", id="no-words"),
        pytest.param(
            ["docs/street.png", "car " * 9000, "--task", "count"], 1, "The question alone", id="too-long"
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["plan", *words, "--device", "cpu", "--no-calibrate", "--quiet"]) == code
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1

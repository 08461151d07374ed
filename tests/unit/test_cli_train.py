from __future__ import annotations

import logging
import re
import signal
from pathlib import Path

import pytest
from PIL import Image

from molmo2_ground import _cli_train
from molmo2_ground.cli import main
from molmo2_ground.model.random_checkpoint import write_random_checkpoint
from molmo2_ground.train.parts import PART_NAMES
from molmo2_ground.train.rows import Annotation, Moment, Row
from tests.made_up_rows import box, row_folder, track_row
from tests.media import Shelf, picture

SMALL = ["--steps", "4", "--rows-a-step", "2", "--tokens", "400"]


@pytest.fixture
def rows(media: Shelf, tmp_path: Path) -> Path:
    return row_folder(media, tmp_path / "rows", *(track_row(f"walk {number}") for number in range(4)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_random_checkpoint(tmp_path / "model", kind="qwen")


def test_the_parts_on_the_command_line_are_the_recipe_s() -> None:
    assert _cli_train.PARTS == PART_NAMES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "STAGE"),
        (["finetune", "rows"], "--out"),
        (["finetune", "rows", "--out", "x", "--freeze", "vit,head"], "vit, connector, llm"),
        (["finetune", "rows", "--out", "x", "--freeze", "vit,connector,llm"], "one or two"),
        (["finetune", "rows", "--out", "x", "--rates", "a"], "expected numbers such as 2,1"),
        (["finetune", "rows", "--out", "x", "--rates", "nan"], "expected numbers such as 2,1; got 'nan'"),
        (
            ["finetune", "rows", "--out", "x", "--seed", "-1"],
            "expected a whole number of 0 or more; got '-1'",
        ),
        (["stage4", "data", "--out", "x"], "stage4"),
        (["validate"], "folder"),
        (["plan", "--model", "9B"], "9B"),
        (["plan", "--utilisation", "2"], "--utilisation must be over 0"),
        (["validate", "rows", "--workers", "0"], "--workers: expected a whole number of 1 or more; got '0'"),
        (["preview", "rows", "--frames", "-1"], "--frames: expected a whole number of 1 or more"),
        (["preview", "rows", "--rows", "0"], "--rows: expected a whole number of 1 or more; got '0'"),
        (["preview", "rows", "--seed", "x"], "--seed: expected a whole number of 0 or more; got 'x'"),
        (["convert-boxes", "boxes.csv"], "required: --media, --out"),
        (["convert", "yolo", "file", "--media", "m", "--out", "o"], "invalid choice: 'yolo'"),
    ],
)
def test_wrong_usage_is_told_and_exits_with_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert line.endswith(" --help")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["finetune", "nowhere", "--out", "x"], 1, "there is no folder nowhere"),
        (["finetune", "rows", "--out", "x", "--model", "no such"], 1, "no checkpoint 'no such'"),
        (["finetune", "rows", "--out", "x", "--rates", "1,2"], 2, "a rate for each folder, 1 in all"),
        (["finetune", "rows", "--out", "x", "--steps", "0"], 2, "steps and tokens are 1 or more"),
        (["finetune", "rows", "--out", "x", "--workers", "-1"], 2, "--workers is 0 or more"),
        (["finetune", "rows", "--out", "x", "--tokens", "0"], 2, "steps and tokens are 1 or more"),
        (
            ["finetune", "rows", "--out", "x", "--rows-a-step", "0"],
            2,
            "--rows-a-step: expected a whole number of 1",
        ),
        (
            ["finetune", "rows", "--out", "x", "--rows-at-once", "0"],
            2,
            "--rows-at-once: expected a whole number",
        ),
        (["finetune", "rows", "--out", "x", "--work", "x"], 2, "outside the checkpoint's; got x for x"),
        (["finetune", "rows", "--out", "x", "--work", "x/run"], 2, "outside the checkpoint's"),
        (["finetune", "rows", "--out", "rows"], 1, "holds other things"),
        (
            ["finetune", "rows", "--out", "x", "--lr", "inf"],
            2,
            "the learning rate is a number over 0; got inf",
        ),
        (
            ["finetune", "rows", "--out", "x", "--lr", "nan"],
            2,
            "the learning rate is a number over 0; got nan",
        ),
        (["finetune", "rows", "--out", "x", "--work", "rows/clip.mp4"], 1, "clip.mp4 is a file; expected a"),
        (["finetune", "rows", "--out", "x", "--device", "foo"], 2, "device must be 'auto'"),
        (
            ["finetune", "rows", "--out", "x", "--device", "cuda:99"],
            2,
            "device must be 'auto' or one that is here: cpu",
        ),
        (["stage1", "rows", "--out", "x"], 1, "none of the"),
        (["stage2", "rows", "--out", "x", "--steps", "0"], 2, "steps"),
    ],
)
def test_bad_input_is_one_line(
    rows: Path,
    tmp_path: Path,
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words, "--quiet"]) == code
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_bad_rows_are_told_before_anything_is_trained(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (rows / "rows.jsonl").read_text()
    (rows / "rows.jsonl").write_text(text + text.splitlines()[0].replace("clip.mp4", "gone.mp4"))
    assert main(["train", "finetune", str(rows), "--out", str(tmp_path / "x"), *SMALL]) == 1
    err = capsys.readouterr().err
    assert "rows.jsonl line 5" in err
    assert "train validate" in err.splitlines()[-1]
    assert not (tmp_path / "x-work").exists()


@pytest.mark.slow
def test_what_goes_before_training_has_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in _cli_train.DOORS:
        assert main(["train", name, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: molmo2-ground train {name} ")


def test_the_doors_lead_to_the_commands(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "validate", "--no-media", str(rows)]) == 0
    assert "4 rows" in capsys.readouterr().out
    assert main(["train", "plan", "--model", "4B"]) == 0
    assert "H100 hours" in capsys.readouterr().out


class StopsAt(logging.Handler):
    """Presses Ctrl-C when training tells that it has begun."""

    def emit(self, record: logging.LogRecord) -> None:
        if re.match(r"10/\d+ ", record.getMessage()):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(
    rows: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [
        "train",
        "finetune",
        str(rows),
        "--model",
        str(model),
        "--out",
        str(out),
        *SMALL,
        "--steps",
        "12",
    ]
    stops = StopsAt()
    logging.getLogger("molmo2_ground").addHandler(stops)
    try:
        assert main(words) == 130
    finally:
        logging.getLogger("molmo2_ground").removeHandler(stops)
    assert f"the same command goes on from {tmp_path / 'out-work'}" in capsys.readouterr().err
    assert not out.exists()
    assert main(words) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert {path.name for path in out.iterdir()} > {"config.json", "model.safetensors", "curves.png"}
    # Once more finds the run finished, and writes the same.
    weights = (out / "model.safetensors").read_bytes()
    assert main(words) == 0
    assert (out / "model.safetensors").read_bytes() == weights
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_rows_that_cannot_be_used_are_left_out_when_asked(
    rows: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = (rows / "rows.jsonl").read_text()
    (rows / "rows.jsonl").write_text(text + text.splitlines()[0].replace("clip.mp4", "gone.mp4"))
    out = tmp_path / "out"
    words = ["train", "finetune", str(rows), "--model", str(model), "--out", str(out), *SMALL, "--skip-bad"]
    assert main(words) == 0
    err = capsys.readouterr().err.splitlines()
    named = [text for text in caplog.messages if text.startswith("left out: example 4 of rows, row walk 0")]
    assert len(named) == 1  # though every epoch brings it
    assert "rows: 1 row left out" in err


@pytest.mark.slow
def test_the_three_stages_train_one_after_another_on_what_is_there(
    media: Shelf, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for name in ("mevis_track", "minmax_0_5"):
        row_folder(media, data / name, track_row(name), track_row(f"{name} again"))
    dogs = Annotation(
        task=("point",), label="the dogs", moments=(Moment(image=0, places=(box(1), box(2, 50))),)
    )
    still = Row(row_id="still", kind="image", media=("still.png",), annotations=(dogs,))
    folder = row_folder(media, data / "pixmo_count_train", still)
    Image.fromarray(picture(3)).save(folder / "still.png")
    trained = model
    for stage in ("stage1", "stage2", "stage3"):
        out = tmp_path / stage
        words = ["train", stage, str(data), "--model", str(trained), "--out", str(out)]
        assert main([*words, "--steps", "2", "--rows-a-step", "1", "--tokens", "600"]) == 0
        first = capsys.readouterr().err.splitlines()[0]
        assert "pixmo_count_train 1" in first
        assert "tulu4_max_" in first.split("not here, left out: ")[1]
        assert ("mevis_track 2" in first) == (stage != "stage1")
        trained = out

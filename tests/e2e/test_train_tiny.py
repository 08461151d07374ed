"""The command that makes the bundled checkpoint, shortened to a few small steps a stage."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from molmo2_ground.model import load_checkpoint
from molmo2_ground.train import tiny
from molmo2_ground.train.curves import CURVES_FILE
from molmo2_ground.train.logbook import LOG_FILE, read_lines
from molmo2_ground.train.snapshot import SnapshotStore
from molmo2_ground.train.toy.street import make_scene
from tests import small_tiny

NAMES = [stage.name for stage in tiny.STAGES]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    assert small_tiny.main("--work", folder / "work", "--out", folder / "out", "--uses", 2) == 0
    return folder


def weights(folder: Path) -> bytes:
    return (folder / "out" / "model.safetensors").read_bytes()


def killed_in_the_second_stage(folder: Path) -> None:
    """Run the command in a process of its own until it says that it made step 3 of 4 of stage 1."""
    script = "import sys; from tests.small_tiny import main; sys.exit(main(*sys.argv[1:]))"
    root = Path(__file__).parents[2]
    options = ["--work", folder / "work", "--out", folder / "out", "--uses", "2", "--save-every", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, options)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " 3/4 " in line:
                process.kill()
                break
        assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_every_stage_leaves_its_weights_its_log_and_its_curves(straight: Path) -> None:
    work = straight / "work"
    for name in NAMES:
        steps = 4 if name == "1-pictures" else 2
        assert [line["step"] for line in read_lines(work / name / LOG_FILE)] == list(range(1, steps + 1))
        assert (work / name / CURVES_FILE).is_file()
        assert (work / f"{name}.safetensors").is_file()
    assert len(weights(straight)) < 12e6
    model = load_checkpoint(straight / "out", device="cpu")
    rgb, _ = make_scene(3, duration_s=1.0).render(0.0)
    answer = model.generate(model.build_inputs([rgb], "Point to the car."), max_new_tokens=5)
    assert 1 <= len(answer.token_ids) <= 5


@pytest.mark.slow
def test_a_run_killed_inside_a_stage_ends_it_with_the_same_weights(straight: Path, tmp_path: Path) -> None:
    # A finished stage is taken from its weights, without a snapshot or a log of it.
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(straight / "work" / "0-vision.safetensors", work)
    killed_in_the_second_stage(tmp_path)
    snapshot = SnapshotStore(work / "1-pictures" / "snapshots").latest()
    assert snapshot is not None
    assert snapshot.step in (2, 3)
    assert not (work / "1-pictures.safetensors").exists()
    assert small_tiny.main("--work", work, "--out", tmp_path / "out", "--uses", 2, stages=2) == 0
    name = "1-pictures.safetensors"
    assert (work / name).read_bytes() == (straight / "work" / name).read_bytes()
    assert not (work / "0-vision").exists()


@pytest.mark.slow
def test_a_run_that_is_given_little_time_ends_and_a_finished_stage_is_not_trained_again(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name in NAMES[:-1]:
        shutil.copy(straight / "work" / f"{name}.safetensors", work)
    options = ("--work", work, "--out", tmp_path / "out", "--minutes", 0.0001, "--every", 0.0001)
    assert small_tiny.main(*options) == 0
    lines = read_lines(work / NAMES[-1] / LOG_FILE)
    assert [line["step"] for line in lines] == [1, 1], "one step and one look"
    assert "along" in lines[0]
    assert lines[1]["evaluation"] == "held out"
    assert "loss" in lines[1]["scores"]
    assert [path.name for path in work.glob("every-*")] == [f"every-{NAMES[-1]}-000.safetensors"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished stage was trained again")

    monkeypatch.setattr(tiny, "stage_trainer", never)
    first = weights(tmp_path)
    assert small_tiny.main("--work", work, "--out", tmp_path / "out") == 0
    assert weights(tmp_path) == first


@pytest.mark.slow
def test_a_finished_model_is_trained_on_by_the_last_stage_alone(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    options = ("--work", work, "--out", tmp_path / "out", "--start", straight / "out")
    assert small_tiny.main(*options) == 0
    assert {path.name for path in work.iterdir()} == {
        NAMES[-1],
        *(f"{name}.safetensors" for name in NAMES[-2:]),
    }
    begun = load_file(work / f"{NAMES[-2]}.safetensors")
    # A checkpoint holds half precision: what the run began with, and went on from.
    finished = load_file(straight / "out" / "model.safetensors")
    norm = begun["model.language_model.norm.weight"]
    assert torch.equal(norm, finished["model.transformer.ln_f.weight"].float())
    assert weights(tmp_path) != weights(straight)
    first = weights(tmp_path)
    assert small_tiny.main(*options) == 0, "the same command again takes what is there"
    assert weights(tmp_path) == first
    # What began with another model would be taken for what began with this one.
    with pytest.raises(SystemExit) as ended:
        small_tiny.main(*options[:4], "--start", "tiny")
    assert ended.value.code == 2
    assert "holds the weights of another model; name another work folder" in capsys.readouterr().err


def test_a_start_that_is_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        tiny.main(["--start", str(tmp_path / "none"), "--work", str(tmp_path / "work")])
    assert ended.value.code == 2
    assert "--start: " in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--scale=0", "--scale must be above 0; got 0.0"),
        ("--minutes=nan", "--minutes must be above 0; got nan"),
        ("--every=0", "--every must be above 0; got 0.0"),
        ("--threads=0", "argument --threads: expected a whole number of 1 or more; got '0'"),
        ("--threads=-1", "argument --threads: expected a whole number of 1 or more; got '-1'"),
        ("--workers=-1", "argument --workers: expected a whole number of 0 or more; got '-1'"),
        ("--save-every=0", "argument --save-every: expected a whole number of 1 or more; got '0'"),
        ("--uses=0", "argument --uses: expected a whole number of 1 or more; got '0'"),
        ("--seed=-1", "argument --seed: expected a whole number of 0 or more; got '-1'"),
        ("--device=foo", "--device must be 'auto' or one that is here: cpu"),
    ],
)
def test_options_that_make_no_sense_are_one_line(
    option: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        tiny.main([option, f"--work={tmp_path / 'work'}"])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "work").exists()

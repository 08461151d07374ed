"""The command that makes the bundled checkpoint, shortened to a few steps a stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from molmo2_ground.model import load_checkpoint
from molmo2_ground.train import tiny
from molmo2_ground.train.toy.street import make_scene


@pytest.mark.slow
def test_every_stage_runs_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, out = tmp_path / "work", tmp_path / "checkpoint"
    arguments = [
        "--work",
        str(work),
        "--out",
        str(out),
        "--scale",
        "0.0007",
        "--workers",
        "0",
        "--threads",
        "1",
    ]
    assert tiny.main(arguments) == 0
    assert [path.name for path in sorted(work.iterdir())] == [
        f"{number}-{stage.name}.pt" for number, stage in enumerate(tiny.STAGES, start=1)
    ]
    weights = (out / "model.safetensors").read_bytes()
    assert len(weights) < 12e6

    # A run that is started again takes finished stages from their snapshots and gives the same model.
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished stage was trained again")

    monkeypatch.setattr(tiny, "run_steps", never)
    assert tiny.main(arguments) == 0
    assert (out / "model.safetensors").read_bytes() == weights

    model = load_checkpoint(out, device="cpu")
    rgb, _ = make_scene(3, duration_s=1.0).render(0.0)
    answer = model.generate(model.build_inputs([rgb], "Point to the car."), max_new_tokens=5)
    assert 1 <= len(answer.token_ids) <= 5


def test_a_scale_that_leaves_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tiny.main(["--scale", "0"])
    assert "--scale must be above 0" in capsys.readouterr().err

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.errors import SourceError
from molmo2_ground.eval.candidate import Candidate, checkpoint_candidate
from molmo2_ground.eval.example import Settings
from molmo2_ground.grounder import Grounder
from molmo2_ground.train.quality_plot import (
    SHOWN,
    Moment,
    curves_of,
    draw_quality,
    main,
    measure,
    read_moments,
    weights_checkpoint,
)
from molmo2_ground.train.tiny_model import new_model
from molmo2_ground.train.tiny_text import Text
from molmo2_ground.train.tiny_trainer import save_weights
from molmo2_ground.train.toy_score import CARD, CARD_TASKS, SuiteName


def _says_none(answers: Sequence[str], settings: Settings) -> Grounder:
    return Grounder(ScriptedBackend(answers))


def _candidate(name: str) -> Candidate:
    load = functools.partial(_says_none, ["There are none."] * 4)
    return Candidate(name=name, identity=name, load=load)


def _open(name: str, scratch: Path) -> Candidate:
    return _candidate(name)


def _unwilling(name: str) -> Candidate:
    def load(settings: Settings) -> Grounder:
        pytest.fail("what is kept is not asked again")

    return Candidate(name=name, identity=name, load=load)


def _moment(name: str, suite: SuiteName = "toy", **figures: float | None) -> Moment:
    return Moment(identity=name, suite=suite, clips=4, figures=figures)


def test_what_is_drawn_are_figures_of_the_card() -> None:
    assert SHOWN["toy"].keys() <= CARD.keys()
    assert SHOWN["toy-tasks"].keys() <= CARD_TASKS.keys()


def test_curves_run_in_order_of_time_and_leave_out_what_nobody_was_asked() -> None:
    moments = [_moment("b", track_f1=0.5, point_f1=None), _moment("a", track_f1=0.2, point_f1=None, none=1.0)]
    found = {curve.name: curve.points for curve in curves_of([20.0, 10.0], moments)}
    assert found == {"track_f1": ((10.0, 0.2), (20.0, 0.5)), "none": ((10.0, 1.0),)}


def test_suites_have_curves_of_their_own() -> None:
    moments = [_moment("a", track_f1=0.2), _moment("a", "toy-tasks", track_f1_8=0.3, identity=1.0)]
    found = [(curve.suite, curve.name) for curve in curves_of([1.0, 1.0], moments)]
    assert found == [("toy", "track_f1"), ("toy-tasks", "track_f1_8")]


@pytest.mark.slow
def test_the_picture_has_a_panel_a_suite(tmp_path: Path) -> None:
    plain = [_moment("a", track_f1=0.2), _moment("b", track_f1=0.9)]
    tasks = [_moment("a", "toy-tasks", follow_f1=0.2), _moment("b", "toy-tasks", follow_f1=0.9)]
    sizes = []
    for name, moments in (("one", plain), ("two", plain + tasks)):
        times = [1.0, 2.0] * (len(moments) // 2)
        target = draw_quality(curves_of(times, moments), tmp_path / f"{name}.png", unit="steps", title="t")
        with Image.open(target) as picture:
            sizes.append(picture.size)
            assert np.asarray(picture.convert("L")).min() < 128
    assert sizes[0][1] < sizes[1][1]
    with pytest.raises(ValueError, match="no figure to draw"):
        draw_quality((), tmp_path / "none.png", unit="steps", title="t")


@pytest.mark.slow
def test_what_is_kept_is_not_asked_again(tmp_path: Path) -> None:
    kept = tmp_path / "quality.json"
    first = measure([_candidate("a")], suites=["toy"], clips=1, kept=kept)
    assert first[0].figures["none"] == 1.0
    assert read_moments(kept) == first
    again = measure([_unwilling("a"), _candidate("b")], suites=["toy"], clips=1, kept=kept)
    assert [one.identity for one in again] == ["a", "b"]
    assert again[0] == first[0]
    assert len(read_moments(kept)) == 2


@pytest.mark.parametrize(
    "text", [pytest.param("no json", id="prose"), pytest.param('{"schema": "another"}', id="another file")]
)
def test_another_file_is_not_taken_for_kept_scores(text: str, tmp_path: Path) -> None:
    kept = tmp_path / "quality.json"
    kept.write_text(text)
    with pytest.raises(SourceError, match="choose another --out"):
        read_moments(kept)


@pytest.mark.slow
def test_the_command_draws_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "quality.png"
    arguments = ["a", "b", "--at", "10,20", "--out", str(out), "--clips", "1", "--suite", "toy"]
    assert main(arguments, open_candidate=_open) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(out)
    assert out.stat().st_size > 0
    assert ["toy", "none", "1.000", "1.000"] in [line.split() for line in lines]


@pytest.mark.parametrize(
    ("at", "says"),
    [
        pytest.param("10", "one time for each checkpoint, 2; got 1", id="too few"),
        pytest.param("10,soon", "numbers with commas", id="no number"),
    ],
)
def test_wrong_times_are_said(at: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a", "b", "--at", at, "--out", str(tmp_path / "q.png")], open_candidate=_open) == 2
    assert says in capsys.readouterr().err


def test_a_checkpoint_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "gone"), "--out", str(tmp_path / "q.png")]) == 2
    assert "gone" in capsys.readouterr().err


@pytest.mark.slow
def test_weights_alone_become_the_same_checkpoint_each_time(tmp_path: Path) -> None:
    text = Text.build()
    save_weights(
        new_model(text.tokenizer, seed=3, device=torch.device("cpu")), tmp_path / "every-002.safetensors"
    )
    identities = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        folder = weights_checkpoint(tmp_path / "every-002.safetensors", tmp_path / name / "every-002")
        identities.append(checkpoint_candidate(folder).identity)
    assert identities[0] == identities[1]
    assert identities[0].startswith("every-002; ")


@pytest.mark.slow
def test_other_weights_are_not_taken_for_those_of_the_tiny_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    assert main([str(tmp_path / "other.safetensors"), "--out", str(tmp_path / "q.png")]) == 2
    assert "no weights of the tiny model" in capsys.readouterr().err

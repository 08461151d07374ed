from __future__ import annotations

import json
import logging
import sys
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.errors import MissingExtraError, TrainingError
from molmo2_ground.train import curves
from molmo2_ground.train.curves import smoothed
from molmo2_ground.train.feed import Json
from molmo2_ground.train.guard import GuardRule, LossGuard
from molmo2_ground.train.logbook import LOG_FILE, Logbook, read_lines


def book(folder: Path, *, bar: bool = False) -> Logbook:
    seconds = count()
    return Logbook(folder, steps=40, bar=bar, clock=lambda: float(next(seconds)))


def test_a_log_that_is_rewound_holds_each_step_once(tmp_path: Path) -> None:
    first = book(tmp_path)
    first.rewind(0)
    first.add({"step": step, "loss": step / 3} for step in range(1, 8))
    with first.path.open("a") as file:
        file.write('{"step": 8, "lo')
    second = book(tmp_path)
    second.rewind(5)
    second.add([{"step": 6, "loss": 9.0}])
    lines = read_lines(tmp_path / LOG_FILE)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[4]["loss"] == 5 / 3


def test_the_bar_and_the_lines_say_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    line: dict[str, Json] = {"step": 10, "loss": 1.25, "norm": {"vit": 2.0}, "seconds": 0.5}
    shown = book(tmp_path, bar=True)
    shown.rewind(0)
    shown.tell(line)
    bar = capsys.readouterr().err
    assert "██████░" in bar
    assert "10/40  loss 1.25" in bar
    assert "vit" not in bar
    plain = book(tmp_path)
    plain.rewind(0)
    with caplog.at_level(logging.INFO):
        plain.tell(line)
    assert "10/40  loss 1.25" in caplog.text
    assert capsys.readouterr().err == ""


def test_tensorboard_is_named_when_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(MissingExtraError, match=r"molmo2-ground\[train\]"):
        Logbook(tmp_path, steps=1, tensorboard=True)


def test_curves_of_nothing_are_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curves.main([str(tmp_path)]) == 1
    assert "has no step yet" in capsys.readouterr().out


@pytest.mark.slow
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.integers(1, 12))
def test_smoothing_is_the_mean_of_the_last_few(values: list[float], over: int) -> None:
    wanted = [
        sum(values[max(0, place - over + 1) : place + 1]) / min(over, place + 1)
        for place in range(len(values))
    ]
    assert smoothed(values, over=over) == pytest.approx(wanted, abs=1e-6)


RULE = GuardRule(sigmas=6.0, window=8, after=4)


@pytest.mark.parametrize(
    ("losses", "last", "told"),
    [
        pytest.param([1.0, 1.1, 0.9, 1.0], 1.25, None, id="within"),
        pytest.param([1.0, 1.1, 0.9, 1.0], 1.5, "the loss jumped to 1.5", id="jump"),
        pytest.param([1.0, 1.1, 0.9], 50.0, None, id="too-early"),
        pytest.param([1.0, 1.1, 0.9, 1.0], 0.0, None, id="a-fall-is-no-fault"),
        pytest.param([1.0] * 8, 1.2, None, id="losses-that-hardly-differ"),
        pytest.param([9.0] * 4 + [1.0] * 8, 9.0, "had a mean of 1,", id="old-ones-are-forgotten"),
        pytest.param([1.0], float("nan"), "the loss is nan", id="nan"),
        pytest.param([1.0], float("inf"), "the loss is inf", id="inf"),
    ],
)
def test_the_guard(losses: list[float], last: float, told: str | None) -> None:
    guard = LossGuard(RULE)
    for loss in losses:
        assert guard.fault(loss, {"vit": 1.0}) is None
    again = LossGuard(RULE)
    again.restore(json.loads(json.dumps(guard.state())))
    for one in (guard, again):
        found = one.fault(last, {"vit": 1.0})
        assert (found is None) if told is None else (found is not None and told in found)


def test_a_gradient_that_is_no_number_is_named_with_its_part() -> None:
    found = LossGuard(RULE).fault(1.0, {"vit": 1.0, "llm": float("inf")})
    assert found == "the norm of the gradient of llm is inf"


def test_damaged_or_senseless_guards_are_refused() -> None:
    with pytest.raises(TrainingError, match="saved losses are damaged"):
        LossGuard(RULE).restore(["high"])
    with pytest.raises(ValueError, match="sigmas must be above 0"):
        GuardRule(sigmas=0.0)
    with pytest.raises(ValueError, match="after must be from 2"):
        GuardRule(after=9, window=8)

"""Runs that are interrupted at every place, and runs that go wrong."""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from molmo2_ground.errors import TrainingError
from molmo2_ground.train.feed import Json, KeyedBatch, PrefetchedLoader
from molmo2_ground.train.guard import GuardRule
from molmo2_ground.train.logbook import LOG_FILE, read_lines
from molmo2_ground.train.snapshot import SnapshotStore
from molmo2_ground.train.step import StepOutcome, StepPlace
from molmo2_ground.train.trainer import STOPPED_FILE, RunPlan
from tests.small_run import (
    PLAN,
    STEPS,
    PackedLoader,
    Rows,
    SmallModel,
    loss_of,
    outcome,
    small_trainer,
)


class Killed(BaseException):
    """Ends a run as a kill does: nothing that handles errors handles this one."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    work = tmp_path_factory.mktemp("straight")
    end = small_trainer(work).run()
    assert end.finished
    assert end.step == STEPS
    return outcome(work)


def test_a_run_learns_and_leaves_a_line_for_each_step(straight: dict[str, Any]) -> None:
    losses = [line["loss"] for line in straight["lines"]]
    assert [line["step"] for line in straight["lines"]] == list(range(1, STEPS + 1))
    assert losses[-1] < 0.95 * losses[0]
    assert straight["lines"][1]["rate"] == pytest.approx({"table": 3e-2, "rest": 1e-2})
    assert all(norm > 0 for line in straight["lines"] for norm in line["norm"].values())


@pytest.mark.slow
def test_the_same_run_again_is_the_same_to_the_bit(tmp_path: Path, straight: dict[str, Any]) -> None:
    small_trainer(tmp_path).run()
    assert outcome(tmp_path) == straight


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 3, 4, 5, 8, 11, 12])
def test_killed_in_a_step_the_run_ends_the_same(at: int, tmp_path: Path, straight: dict[str, Any]) -> None:
    model = SmallModel()
    inner = loss_of(model)

    def kills(batch: KeyedBatch[Rows], place: StepPlace) -> StepOutcome:
        if (place.step, place.part) == (at, 1):
            raise Killed
        return inner(batch, place)

    with pytest.raises(Killed):
        small_trainer(tmp_path, model=model, loss_of=kills).run()
    small_trainer(tmp_path).run()
    assert outcome(tmp_path) == straight


@pytest.mark.slow
@pytest.mark.parametrize("file", [0, 1, 2, 3])
@pytest.mark.parametrize("torn", [False, True])
def test_killed_while_a_snapshot_is_written_the_run_ends_the_same(
    file: int, torn: bool, tmp_path: Path, straight: dict[str, Any]
) -> None:
    written = 0

    def kills(tensors: dict[str, Tensor], path: Path) -> None:
        nonlocal written
        if written == 3 + file:  # in the second snapshot
            if torn:
                path.write_bytes(b"\0" * 100)
            raise Killed
        written += 1
        save_file(tensors, path)

    with pytest.raises(Killed):
        small_trainer(tmp_path, store=SnapshotStore(tmp_path / "snapshots", write=kills)).run()
    assert any(name.startswith(".step-") for name in os.listdir(tmp_path / "snapshots"))
    small_trainer(tmp_path).run()
    assert sorted(os.listdir(tmp_path / "snapshots")) == ["step-00000008", "step-00000012"]
    assert outcome(tmp_path) == straight


@pytest.mark.slow
def test_a_line_that_a_kill_tore_is_cut(tmp_path: Path, straight: dict[str, Any]) -> None:
    small_trainer(tmp_path, plan=replace(PLAN, seconds=0.0)).run()
    with (tmp_path / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    small_trainer(tmp_path).run()
    assert outcome(tmp_path) == straight


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_finish_and_is_told_how_to_go_on(
    number: signal.Signals, tmp_path: Path, straight: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = SmallModel()
    inner = loss_of(model)

    def signals(batch: KeyedBatch[Rows], place: StepPlace) -> StepOutcome:
        if (place.step, place.part) == (6, 0):
            signal.raise_signal(number)
        return inner(batch, place)

    before = signal.getsignal(number)
    with caplog.at_level(logging.WARNING):
        end = small_trainer(tmp_path, model=model, loss_of=signals).run()
    assert (end.step, end.finished, end.interrupted) == (6, False, True)
    assert f"stopped by {number.name} after step 6 of {STEPS}" in caplog.text
    assert "run the same again to go on" in caplog.text
    assert signal.getsignal(number) is before
    assert small_trainer(tmp_path).run().finished
    assert outcome(tmp_path) == straight


def test_a_second_ctrl_c_ends_the_run_at_once(tmp_path: Path) -> None:
    def signals(batch: KeyedBatch[Rows], place: StepPlace) -> StepOutcome:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    # Whoever starts the tests in the background may have turned Ctrl-C off.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            small_trainer(tmp_path, loss_of=signals).run()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(tmp_path: Path, straight: dict[str, Any]) -> None:
    small_trainer(tmp_path).run()

    def never(batch: KeyedBatch[Rows], place: StepPlace) -> StepOutcome:
        raise AssertionError("a finished run was trained again")

    assert small_trainer(tmp_path, loss_of=never).run().finished
    assert outcome(tmp_path) == straight


@pytest.mark.slow
def test_time_that_is_up_stops_the_run_with_a_snapshot(tmp_path: Path, straight: dict[str, Any]) -> None:
    seconds = iter(range(10_000))
    end = small_trainer(tmp_path, plan=replace(PLAN, seconds=12.0), clock=lambda: float(next(seconds))).run()
    assert 0 < end.step < STEPS
    assert small_trainer(tmp_path).run().finished
    assert outcome(tmp_path) == straight


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param({"plan": replace(PLAN, seed=4)}, "seed was 3, is 4", id="seed"),
        pytest.param({"plan": replace(PLAN, accumulate=1)}, "accumulate was 2, is 1", id="accumulate"),
        pytest.param({"identity": {"stage": "two"}}, 'stage was not set, is "two"', id="stage"),
        pytest.param(
            {
                "identity": {
                    f"set{i}": {"rows": "f" * 64, "names": ["a", "b", "c", "d"] * 9} for i in range(6)
                }
            },
            r"run: set0 was not set, is a list of 2; .*set3 was not set, is a list of 2; and 2 more\. Go on",
            id="large-values",
        ),
        pytest.param(
            {"peak_rate": 2e-2},
            r"groups.rest.peak_rate was 0.01, is 0.00\d+; optimizer.groups.table.peak_rate was 0.03",
            id="rates",
        ),
        pytest.param({"loader": PackedLoader(seed=8)}, "other seed", id="data"),
    ],
)
def test_a_run_does_not_go_on_under_other_settings(
    options: dict[str, Any], named: str, tmp_path: Path
) -> None:
    small_trainer(tmp_path, plan=replace(PLAN, seconds=0.0)).run()
    with pytest.raises((TrainingError, ValueError), match=named):
        small_trainer(tmp_path, **options).run()


def test_a_run_does_not_go_on_with_another_model(tmp_path: Path) -> None:
    small_trainer(tmp_path, plan=replace(PLAN, seconds=0.0)).run()
    wider = SmallModel()
    wider.register_buffer("more", torch.zeros(2))
    with pytest.raises(TrainingError, match=r"saved model is of another model.*more is missing"):
        small_trainer(tmp_path, model=wider).run()


@pytest.mark.slow
def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    # The system's lock is between processes.
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match="another process trains in"):
            small_trainer(tmp_path).run()
        other.communicate("")
    assert small_trainer(tmp_path).run().finished


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_what_is_no_number_stops_the_run_with_the_keys(value: float, place: str, tmp_path: Path) -> None:
    model = SmallModel()
    inner = loss_of(model)
    keys: dict[int, list[str]] = {}

    def breaks(batch: KeyedBatch[Rows], at: StepPlace) -> StepOutcome:
        keys.setdefault(at.step, []).extend(batch.keys)
        made = inner(batch, at)
        if (at.step, at.part) != (10, 0):
            return made
        if place == "loss":
            return StepOutcome(loss=made.loss * value)
        made.loss.register_hook(lambda gradient: gradient * value)
        return made

    with pytest.raises(TrainingError, match=r"step 10 went wrong: the .* is (nan|inf)") as caught:
        small_trainer(tmp_path, model=model, loss_of=breaks).run()
    told = json.loads((tmp_path / STOPPED_FILE).read_text())
    assert (told["step"], told["keys"]) == (10, keys[10])
    assert keys[10][0] in str(caught.value)
    # Looked at every 3 steps, so steps 11 and 12 were made with broken weights: nothing of them is kept.
    assert [one["step"] for one in told["steps_since_the_last_look"]] == [10, 11, 12]
    assert [line["step"] for line in read_lines(tmp_path / LOG_FILE)] == list(range(1, 10))
    latest = SnapshotStore(tmp_path / "snapshots").latest()
    assert latest is not None
    assert latest.step == 8
    assert all(tensor.isfinite().all() for tensor in latest.tensors("model").values())


@pytest.mark.slow
def test_a_jump_of_the_loss_stops_the_run(tmp_path: Path) -> None:
    model = SmallModel()
    inner = loss_of(model)

    def jumps(batch: KeyedBatch[Rows], at: StepPlace) -> StepOutcome:
        made = inner(batch, at)
        return StepOutcome(loss=made.loss * 30) if at.step == 11 else made

    plan = replace(PLAN, guard=GuardRule(after=6, window=8))
    with pytest.raises(TrainingError, match="step 11 went wrong: the loss jumped to"):
        small_trainer(tmp_path, model=model, loss_of=jumps, plan=plan).run()
    relaxed = replace(PLAN, guard=GuardRule(sigmas=None))
    assert small_trainer(tmp_path, plan=relaxed).run().finished


@pytest.mark.slow
def test_a_full_disk_is_one_clear_error_and_the_last_snapshot_stays(
    tmp_path: Path, straight: dict[str, Any]
) -> None:
    saves = 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write(tensors: dict[str, Tensor], path: Path) -> None:
        nonlocal saves
        saves += 1
        if saves == 5:  # of the second snapshot
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        save_file(tensors, path)

    try:
        with pytest.raises(
            TrainingError, match=r"snapshot of step 8 could not be written.*goes on from step-00000004"
        ):
            small_trainer(tmp_path, store=SnapshotStore(tmp_path / "snapshots", write=write)).run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path / "snapshots") == ["step-00000004"]
    small_trainer(tmp_path).run()
    assert outcome(tmp_path) == straight


def test_a_log_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    inner = trainer.loss_of

    def fills(batch: KeyedBatch[Rows], at: StepPlace) -> StepOutcome:
        if at.step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        return inner(batch, at)

    trainer.loss_of = fills
    try:
        with pytest.raises(TrainingError, match=r"the run stopped after step 3.*see to the disk"):
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_loader_that_ends_early_is_named(tmp_path: Path) -> None:
    class Short(PackedLoader):
        left = 5

        def __next__(self) -> KeyedBatch[Rows]:
            if not self.left:
                raise StopIteration
            self.left -= 1
            return super().__next__()

    with pytest.raises(TrainingError, match="the loader ended at part 1 of step 3; expected 2"):
        small_trainer(tmp_path, loader=Short()).run()


def test_numbers_of_a_loss_stand_in_the_log_as_means_and_nothing_when_there_were_none(tmp_path: Path) -> None:
    model = SmallModel()
    inner = loss_of(model)

    def tells(batch: KeyedBatch[Rows], at: StepPlace) -> StepOutcome:
        hits: dict[str, float | Tensor] = {
            "part": torch.tensor(float(at.part)),
            "place": math.nan if at.step == 2 else 0.5,
        }
        return StepOutcome(loss=inner(batch, at).loss, numbers=hits)

    small_trainer(tmp_path, model=model, loss_of=tells, plan=replace(PLAN, steps=3)).run()
    lines = read_lines(tmp_path / LOG_FILE)
    assert [(line["part"], line.get("place")) for line in lines] == [(0.5, 0.5), (0.5, None), (0.5, 0.5)]
    with pytest.raises(ValueError, match="a number called loss already"):
        StepOutcome(loss=torch.zeros(()), numbers={"loss": 1.0})


@pytest.mark.slow
def test_a_loader_that_runs_ahead_changes_nothing(tmp_path: Path, straight: dict[str, Any]) -> None:
    for seconds in (0.0, None):
        loader = PrefetchedLoader(PackedLoader(), depth=3)
        small_trainer(tmp_path, loader=loader, plan=replace(PLAN, seconds=seconds)).run()
        loader.close()
    assert outcome(tmp_path) == straight


@pytest.mark.slow
def test_invariant_11_a_common_factor_on_all_weights_changes_nothing(tmp_path: Path) -> None:
    class Heavier(PackedLoader):
        def __next__(self) -> KeyedBatch[Rows]:
            batch = super().__next__()
            return KeyedBatch(data=batch.data, keys=batch.keys, weight_sum=4 * batch.weight_sum)

    model = SmallModel()
    inner = loss_of(model)

    def heavier(batch: KeyedBatch[Rows], at: StepPlace) -> StepOutcome:
        return StepOutcome(loss=4 * inner(batch, at).loss)

    small_trainer(tmp_path / "one").run()
    small_trainer(tmp_path / "four", model=model, loader=Heavier(), loss_of=heavier).run()
    one, four = (read_lines(tmp_path / name / LOG_FILE) for name in ("one", "four"))
    # A power of two: not a bit differs.
    assert [(line["loss"], line["norm"]) for line in one] == [(line["loss"], line["norm"]) for line in four]


@pytest.mark.slow
def test_evaluations_by_the_clock_change_nothing(tmp_path: Path, straight: dict[str, Any]) -> None:
    now = [0.0]
    model = SmallModel()
    inner = loss_of(model)

    def slow(batch: KeyedBatch[Rows], place: StepPlace) -> StepOutcome:
        now[0] += 1.0  # two parts: a step takes two seconds
        return inner(batch, place)

    plan = replace(PLAN, evaluate_seconds=7.0)
    small_trainer(
        tmp_path,
        model=model,
        loss_of=slow,
        plan=plan,
        evaluations={"street": lambda: {"chance": float(torch.rand(()))}},
        clock=lambda: now[0],
    ).run()
    found = outcome(tmp_path)
    assert [line["step"] for line in found["lines"] if "scores" in line] == [4, 8, 12]
    found["lines"] = [line for line in found["lines"] if "scores" not in line]
    assert found == straight


def test_evaluations_are_written_and_change_nothing(tmp_path: Path, straight: dict[str, Any]) -> None:
    model = SmallModel()

    def score() -> dict[str, float]:
        assert not model.training
        return {"f1": float(torch.rand(()))}

    plan = replace(PLAN, evaluate_every=5)
    small_trainer(tmp_path, model=model, plan=plan, evaluations={"street": score}).run()
    found = outcome(tmp_path)
    scored = [line for line in found["lines"] if "scores" in line]
    assert [(line["step"], line["evaluation"]) for line in scored] == [
        (5, "street"),
        (10, "street"),
        (12, "street"),
    ]
    found["lines"] = [line for line in found["lines"] if "scores" not in line]
    assert found == straight


def test_a_score_that_is_no_number_is_left_out_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = replace(PLAN, evaluate_every=5)
    evaluations = {"street": lambda: {"f1": 0.5, "cars": math.nan}}
    with caplog.at_level(logging.WARNING):
        assert small_trainer(tmp_path, plan=plan, evaluations=evaluations).run().finished
    scored = [line["scores"] for line in outcome(tmp_path)["lines"] if "scores" in line]
    assert scored == 3 * [{"f1": 0.5}]
    assert "step 5: street: cars is nan, which is left out of the log" in caplog.text


@pytest.mark.slow  # the first picture of a process takes seconds
def test_a_run_draws_its_curves(tmp_path: Path) -> None:
    plan = RunPlan(steps=4, accumulate=1, seed=3, evaluate_every=2, bar=False)
    small_trainer(tmp_path, plan=plan, evaluations={"street": lambda: {"f1": 0.5}}).run()
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (900, 840)


@pytest.mark.parametrize("name", ["steps", "accumulate", "log_every", "save_every", "keep"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
        RunPlan(**{"steps": 5, name: 0})  # type: ignore[arg-type]  # a name that is not known before


def test_invariant_10_a_step_is_the_same_however_it_is_split(tmp_path: Path) -> None:
    """One micro-batch of all rows against several: the same loss and gradient, by the weights of the step."""

    class Joined(PackedLoader):
        def __next__(self) -> KeyedBatch[Rows]:
            parts = [super(Joined, self).__next__() for _ in range(4)]
            return KeyedBatch(
                data=[row for part in parts for row in part.data],
                keys=tuple(key for part in parts for key in part.keys),
                weight_sum=sum(part.weight_sum for part in parts),
            )

    found: list[tuple[list[float], Mapping[str, Json]]] = []
    for name, loader, parts in (("one", Joined(), 1), ("four", PackedLoader(), 4)):
        work = tmp_path / name
        model = SmallModel()
        inner = loss_of(model)

        def without_dropout(
            batch: KeyedBatch[Rows], at: StepPlace, model: SmallModel = model, inner: Any = inner
        ) -> StepOutcome:
            model.eval()
            made: StepOutcome = inner(batch, at)
            return made

        plan = replace(PLAN, steps=3, accumulate=parts)
        small_trainer(work, model=model, loader=loader, loss_of=without_dropout, plan=plan).run()
        lines = read_lines(work / LOG_FILE)
        found.append(([line["loss"] for line in lines], lines[-1]["norm"]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)

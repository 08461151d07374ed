"""The trainer on a GPU: it goes on after a stop, and waits for the device between lines of the log never."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from molmo2_ground.train.feed import KeyedBatch
from molmo2_ground.train.logbook import LOG_FILE, read_lines
from molmo2_ground.train.snapshot import SnapshotStore
from molmo2_ground.train.step import StepOutcome, StepPlace
from tests.small_run import PLAN, STEPS, Rows, SmallModel, loss_of, small_trainer

pytestmark = pytest.mark.gpu


def losses(work: Path) -> list[float]:
    return [line["loss"] for line in read_lines(work / LOG_FILE)]


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    assert small_trainer(tmp_path / "one", model=SmallModel().cuda()).run().finished
    for seconds in (0.0, None):
        plan = replace(PLAN, seconds=seconds)
        end = small_trainer(tmp_path / "two", model=SmallModel().cuda(), plan=plan).run()
    assert end.step == STEPS
    # Sums of gradients of a table have no fixed order on a GPU.
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    cpu = SmallModel()
    snapshot = SnapshotStore(tmp_path / "two" / "snapshots").latest()
    assert snapshot is not None
    assert snapshot.tensors("model").keys() == cpu.state_dict().keys()


def test_steps_between_lines_of_the_log_do_not_wait_for_the_device(tmp_path: Path) -> None:
    model = SmallModel().cuda()
    inner = loss_of(model)

    def watched(batch: KeyedBatch[Rows], place: StepPlace) -> StepOutcome:
        # From the second step on, and off again before the log and the snapshot, which may wait.
        strict = 2 <= place.step < 11
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
        return inner(batch, place)

    plan = replace(PLAN, log_every=STEPS, save_every=STEPS)
    try:
        assert small_trainer(tmp_path, model=model, loss_of=watched, plan=plan).run().finished
    finally:
        torch.cuda.set_sync_debug_mode("default")

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.train.parts import PART_NAMES, PartName
from molmo2_ground.train.schedule import CosineSchedule, LevelSchedule
from molmo2_ground.train.stages import StageConfig, stage1_images, stage2_joint, stage3_long


@pytest.mark.parametrize("stage", [stage1_images(), stage2_joint(), stage3_long()], ids=lambda s: s.name)
@pytest.mark.parametrize("part", PART_NAMES)
def test_invariant_25_rates_at_the_start_the_peak_and_the_end(stage: StageConfig, part: PartName) -> None:
    schedule = stage.schedule(part)
    assert schedule.at(0) == 0.0
    assert schedule.at(schedule.warmup) == 1.0
    assert schedule.at(schedule.warmup // 2) == pytest.approx(0.5)
    halfway = schedule.warmup + (stage.steps - schedule.warmup) // 2
    assert schedule.at(halfway) == pytest.approx(0.55, abs=1e-3)
    assert schedule.at(stage.steps) == schedule.at(stage.steps + 7) == 0.1


@pytest.mark.slow
@given(st.integers(2, 5000), st.data())
def test_invariant_25_the_rate_is_the_closed_form(steps: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, steps - 1))
    step = data.draw(st.integers(1, steps - 1))
    schedule = CosineSchedule(steps=steps, warmup=warmup)
    fall = 0.1 + 0.9 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
    assert schedule.at(step) == pytest.approx(step / warmup if step < warmup else fall, abs=1e-12)
    assert 0.0 < schedule.at(step) <= 1.0


def test_a_run_that_stops_at_a_tenth_of_its_horizon_has_hardly_lowered_its_rates() -> None:
    released = stage2_joint(values="released").schedule("llm")
    assert released.at(30_000) == pytest.approx(0.978, abs=1e-3)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        pytest.param(1, 0.1, id="first"),
        pytest.param(10, 1.0, id="end-of-the-rise"),
        pytest.param(60, 1.0, id="level"),
        pytest.param(61, 1.0, id="start-of-the-fall"),
        pytest.param(81, 0.51, id="half-way-down"),
        pytest.param(100, 1.0 - 0.98 * 39 / 40, id="last"),
        pytest.param(500, 0.02, id="beyond"),
    ],
)
def test_the_level_schedule_rises_stays_and_falls(step: int, factor: float) -> None:
    assert LevelSchedule(steps=100, warmup=10).at(step) == pytest.approx(factor)


@pytest.mark.parametrize(("warmup", "floor"), [(10, 0.1), (-1, 0.1), (3, 1.5)])
def test_senseless_schedules_are_refused(warmup: int, floor: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        CosineSchedule(steps=10, warmup=warmup, floor=floor)

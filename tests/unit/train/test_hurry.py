from __future__ import annotations

import pytest

from molmo2_ground.train.hurry import HurriedSchedule
from molmo2_ground.train.schedule import LevelSchedule

INNER = LevelSchedule(steps=100, warmup=10, decay_from=0.5, floor=0.1)


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_fast_steps_follow_the_schedule_and_slow_ones_the_clock() -> None:
    clock = Clock()
    hurried = HurriedSchedule(INNER, seconds=20.0, clock=clock)
    assert [hurried.at(step) for step in range(1, 31)] == [INNER.at(step) for step in range(1, 31)]
    clock.now += 15.0
    assert hurried.along(31) == 75.0
    assert hurried.at(31) == INNER.at(76)
    clock.now += 15.0
    assert hurried.along(32) == 100.0
    assert hurried.at(32) == INNER.at(100)
    assert hurried.at(31) == INNER.at(76), "what was settled stays, for the log"


def test_a_run_that_goes_on_does_not_go_back() -> None:
    clock = Clock()
    hurried = HurriedSchedule(INNER, seconds=10.0, begun=60.0, clock=clock)
    assert hurried.along(20) == 60.0
    clock.now += 5.0
    assert hurried.along(21) == 80.0


def test_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds must be above 0"):
        HurriedSchedule(INNER, seconds=0.0)

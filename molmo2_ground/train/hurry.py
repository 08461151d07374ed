"""`HurriedSchedule`: a schedule that the clock hurries along, so that it is through when time is up.

It gives up exactness: what the rates are depends on how fast the steps were.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from molmo2_ground.train.feed import Json
    from molmo2_ground.train.schedule import Schedule


class HurriedSchedule:
    """Another schedule, its place taken from the step or from the clock, whichever is further.

    schedule  what is hurried along.
    seconds   from now until it is to be through.
    begun     how far along it was before, in updates, when a run goes on.
    clock     seconds that only ever rise.

    The place of a step is settled when it is asked for first, and stays.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        seconds: float,
        begun: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds must be above 0, got {seconds}")
        self._schedule, self._seconds, self._begun, self._clock = schedule, seconds, begun, clock
        self._started = clock()
        self._along: dict[int, float] = {}

    @property
    def steps(self) -> int:
        """Updates of the whole run, if it is fast enough for them."""
        return self._schedule.steps

    def along(self, step: int) -> float:
        """How much of the schedule lies before update `step`, in updates."""
        if step not in self._along:
            share = (self._clock() - self._started) / self._seconds
            hurried = self._begun + (self.steps - self._begun) * share
            self._along[step] = min(float(self.steps), max(float(step - 1), hurried))
        return self._along[step]

    def at(self, step: int) -> float:
        """The factor at update `step`, counted from 1."""
        return self._schedule.at(min(self.steps, int(self.along(step)) + 1))

    def describe(self) -> dict[str, Json]:
        """All numbers of it but the clock's, for the identity of a run."""
        return {"kind": "hurried", "schedule": self._schedule.describe()}

"""`Occupancy`: how many objects were in a zone at which time."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from molmo2_ground.analytics.event import CountChanged, ZoneEntered, ZoneLeft
from molmo2_ground.analytics.visit import Visit
from molmo2_ground.sightings import SAME_TIME_S


class Occupancy(BaseModel):
    """One number a moment, for moments at which something was looked at or carried.

    times_s  seconds, rising; counts, one a time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    zone: str
    times_s: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def most(self) -> int:
        """The highest count; 0 when nothing was looked at."""
        return max(self.counts, default=0)


def occupancy_of(zone: str, visits: Sequence[Visit], times_s: Sequence[float]) -> Occupancy:
    """How many of these visits to one zone are going on at each time (seconds, rising).

    A visit goes on from its first sample inside to its last, hidden times in between included.
    """
    starts = sorted(visit.first_s - SAME_TIME_S for visit in visits)
    ends = sorted(visit.last_s + SAME_TIME_S for visit in visits)
    counts = tuple(bisect_right(starts, time_s) - bisect_left(ends, time_s) for time_s in times_s)
    return Occupancy(zone=zone, times_s=tuple(times_s), counts=counts)


class Turnstile:
    """Counts who is in one zone, in order of the estimated times of coming in and going out."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, int, int, ZoneEntered | ZoneLeft]] = []
        self._told = self._count = 0

    def add(self, move: ZoneEntered | ZoneLeft, *, entered_s: float | None = None) -> None:
        """One more move. entered_s: of one who goes out, the estimated time of coming in, seconds."""
        rank = 1
        if isinstance(move, ZoneLeft):
            # At one and the same time those who leave go first, so that a change of shift is no crowd; but
            # who was seen only once, and comes and goes at that time, comes first.
            rank = 0 if entered_s is None or move.time_s > entered_s else 2
        self._told += 1
        heapq.heappush(self._waiting, (move.time_s, rank, move.object_id, self._told, move))

    def release(self, before_s: float = math.inf) -> Iterator[tuple[ZoneEntered | ZoneLeft, CountChanged]]:
        """Those that came about before a time (seconds) and were not released yet, each with the new count.

        Nothing may be added later that came about before it.
        """
        while self._waiting and self._waiting[0][0] < before_s:
            move = heapq.heappop(self._waiting)[-1]
            before, self._count = self._count, self._count + (1 if isinstance(move, ZoneEntered) else -1)
            shared = move.model_dump(exclude={"kind", "reason", "judged_by"})
            yield move, CountChanged(count_before=before, count_after=self._count, **shared)


def zone_events(visits: Sequence[Visit]) -> Iterator[ZoneEntered | ZoneLeft | CountChanged]:
    """Everything that happened in one zone, in order of its estimated time; after each move the new count."""
    turnstile = Turnstile()
    for visit in visits:
        turnstile.add(visit.entered)
        if visit.left is not None:
            turnstile.add(visit.left, entered_s=visit.entered.time_s)
    for move, count in turnstile.release():
        yield move
        yield count

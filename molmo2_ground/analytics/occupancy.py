"""`Occupancy`: how many objects were in a zone at which time."""

from __future__ import annotations

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


def zone_events(visits: Sequence[Visit]) -> Iterator[ZoneEntered | ZoneLeft | CountChanged]:
    """Everything that happened in one zone, in order of its estimated time; after each move the new count."""
    moves: list[tuple[float, int, int, ZoneEntered | ZoneLeft]] = []
    for visit in visits:
        moves.append((visit.entered.time_s, 1, visit.object_id, visit.entered))
        if visit.left is not None:
            # At one and the same time those who leave go first, so that a change of shift is no crowd; but
            # who was seen only once, and comes and goes at that time, comes first.
            rank = 0 if visit.left.time_s > visit.entered.time_s else 2
            moves.append((visit.left.time_s, rank, visit.object_id, visit.left))
    count = 0
    for *_, move in sorted(moves, key=lambda entry: entry[:3]):
        before, count = count, count + (1 if isinstance(move, ZoneEntered) else -1)
        yield move
        shared = move.model_dump(exclude={"kind", "reason", "judged_by"})
        yield CountChanged(count_before=before, count_after=count, **shared)

"""`Moment`: a time at which something happens in a result, and which of them tell the most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from molmo2_ground.render.trajectory import Timeline
from molmo2_ground.sightings import SAME_TIME_S

# What happens, in the order told, and how much it says. What is hidden and comes back says most: it is what
# a reader doubts first.
_WEIGHTS = {
    "first seen": 3.0,
    "seen again": 3.0,
    "hidden": 3.0,
    "no longer seen": 1.5,
    "last seen": 2.0,
    "pointed at": 2.0,
}
_COUNT_CHANGE = 1.0
_NOTHING_NEW = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A time, seconds, and what happens to which objects: `("first seen", (1, 2))`, in the order told."""

    time_s: float
    events: tuple[tuple[str, tuple[int, ...]], ...]
    weight: float


@dataclass(slots=True, kw_only=True)
class _Found:
    """What happens at one time, being gathered."""

    time_s: float
    ids: dict[str, list[int]] = field(default_factory=dict)
    more: float = 0.0

    def moment(self) -> Moment:
        events = tuple((what, tuple(sorted(self.ids[what]))) for what in _WEIGHTS if what in self.ids)
        weight = self.more + sum(_WEIGHTS[what] * len(ids) for what, ids in events)
        return Moment(time_s=self.time_s, events=events, weight=max(weight, _NOTHING_NEW))


def moments(timeline: Timeline, most: int) -> list[Moment]:
    """At most `most` times at which the model looked, rising: those at which the most happens, spread out.

    The first and the last sighting of anything are always among them when `most` is two or more.
    """
    if most < 1:
        raise ValueError(f"most is 1 or more; got {most}")
    candidates = _all(timeline)
    if len(candidates) <= most:
        return candidates
    sighted = [
        moment for moment in candidates if any(what != "no longer seen" for what, _ in moment.events)
    ] or candidates
    chosen = [sighted[0], sighted[-1]][:most] if sighted[0] is not sighted[-1] else [sighted[0]]
    apart_s = (candidates[-1].time_s - candidates[0].time_s) / most
    left = [moment for moment in candidates if moment not in chosen]
    while len(chosen) < most:
        best = max(left, key=lambda moment: (_worth(moment, chosen, apart_s), -moment.time_s))
        chosen.append(best)
        left.remove(best)
    return sorted(chosen, key=lambda moment: moment.time_s)


def _worth(moment: Moment, chosen: Sequence[Moment], apart_s: float) -> float:
    """Its weight, less when one that was chosen is near: two pictures of one moment say no more than one."""
    nearest_s = min(abs(moment.time_s - other.time_s) for other in chosen)
    return moment.weight * (0.4 + 0.6 * min(1.0, nearest_s / apart_s))


def _all(timeline: Timeline) -> list[Moment]:
    """Every time at which the model looked, with what happens then."""
    times_s = sorted({round(t, 6) for leg in timeline.legs for t in leg.times_s} | set(timeline.looked_s))
    found = {time_s: _Found(time_s=time_s) for time_s in _distinct(times_s)}

    def note(time_s: float, what: str, object_id: int) -> None:
        nearest = min(found, key=lambda other: abs(other - time_s))
        ids = found[nearest].ids.setdefault(what, [])
        if object_id not in ids:
            ids.append(object_id)

    legs_of: dict[int, list[list[float]]] = {}
    for leg in timeline.legs:
        legs_of.setdefault(leg.object_id, []).append(leg.times_s)
    for object_id, spans in legs_of.items():
        first_s, last_s = min(span[0] for span in spans), max(span[-1] for span in spans)
        if first_s == last_s:
            note(first_s, "pointed at" if len(timeline.looked_s) != 1 else "first seen", object_id)
        else:
            note(first_s, "first seen", object_id)
            note(last_s, "last seen", object_id)
    for gap in timeline.gaps:
        note(gap.start_s, "hidden" if gap.returns else "no longer seen", gap.object_id)
        if gap.returns:
            note(gap.end_s, "seen again", gap.object_id)
    seen = {time_s: len(timeline.at(time_s, trail_s=0).marks) for time_s in found}
    for earlier, later in pairwise(found):
        found[later].more += _COUNT_CHANGE * (seen[later] != seen[earlier])
    return [found[time_s].moment() for time_s in sorted(found)]


def _distinct(times_s: Sequence[float]) -> list[float]:
    """Rising times without those that are another one but for rounding."""
    kept: list[float] = []
    for time_s in times_s:
        if not kept or time_s > kept[-1] + SAME_TIME_S:
            kept.append(time_s)
    return kept

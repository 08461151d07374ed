"""`Visit`: an object in a zone, from coming in to going out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from molmo2_ground.analytics.event import ZoneEntered, ZoneLeft
from molmo2_ground.analytics.presence import Presence, ZoneJudge
from molmo2_ground.analytics.spell import Spell
from molmo2_ground.results import Sample


class Visit(BaseModel):
    """One stay of one object in one zone.

    left      None when the object was still there at its last sample, and the model did not look again.
    first_s, last_s  the first and the last sample inside, seconds.
    dwell_s   from coming in to going out as estimated; to `last_s` when it did not go out.
    hidden_s  how much of the time between the first and the last sample it was hidden or missed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    zone: str
    object_id: int
    label: str
    entered: ZoneEntered
    left: ZoneLeft | None
    first_s: float
    last_s: float
    dwell_s: float
    hidden_s: float

    @property
    def least_s(self) -> float:
        """How long it was inside at least: between the first and the last sample inside."""
        return self.last_s - self.first_s


def visits_of(spell: Spell, judge: ZoneJudge) -> Iterator[Visit]:
    """The visits of one object to one zone during one spell, in order of time.

    An object is inside from one sample to the next when it is at both. That it went in and out again between
    two samples, or out and in, is not seen and not guessed.
    """
    presences = [judge.at(spell.object_id, sample) for sample in spell.samples]
    for first, last in _runs(presences):
        entered = _entered(spell, judge, presences, first)
        left = _left(spell, judge, presences, last)
        last_s = spell.samples[last].time_s
        yield Visit(
            zone=judge.zone.name,
            object_id=spell.object_id,
            label=spell.label,
            entered=entered,
            left=left,
            first_s=spell.samples[first].time_s,
            last_s=last_s,
            dwell_s=(last_s if left is None else left.time_s) - entered.time_s,
            hidden_s=spell.hidden_s(first, last),
        )


def _runs(presences: Sequence[Presence]) -> Iterator[tuple[int, int]]:
    """The numbers of the first and the last sample of each time inside."""
    start: int | None = None
    for number, presence in enumerate(presences):
        if presence.inside and start is None:
            start = number
        elif not presence.inside and start is not None:
            yield start, number - 1
            start = None
    if start is not None:
        yield start, len(presences) - 1


def _entered(spell: Spell, judge: ZoneJudge, presences: Sequence[Presence], first: int) -> ZoneEntered:
    sample = spell.samples[first]
    if first:
        return ZoneEntered(reason="moved", **_moved(spell, judge, presences, first))
    return ZoneEntered(
        reason="appeared",
        after_s=spell.not_before_s,
        before_s=sample.time_s,
        **_at(spell, judge, sample, presences[first]),
    )


def _left(spell: Spell, judge: ZoneJudge, presences: Sequence[Presence], last: int) -> ZoneLeft | None:
    if last + 1 < len(presences):
        return ZoneLeft(reason="moved", **_moved(spell, judge, presences, last + 1))
    if spell.gone_by_s is None:
        return None
    sample = spell.samples[last]
    return ZoneLeft(
        reason="disappeared",
        after_s=sample.time_s,
        before_s=spell.gone_by_s,
        **_at(spell, judge, sample, presences[last]),
    )


def _moved(spell: Spell, judge: ZoneJudge, presences: Sequence[Presence], after: int) -> dict[str, Any]:
    """What an event says of the step to sample `after`, which is on the other side than the one before it."""
    before, now = spell.samples[after - 1], spell.samples[after]
    was, is_ = presences[after - 1], presences[after]
    change = judge.change(before, now, was, is_)
    return {
        "zone": judge.zone.name,
        "time_s": change.time_s,
        "after_s": before.time_s,
        "before_s": now.time_s,
        "timing": change.timing,
        "source_index": now.source_index,
        "object_id": spell.object_id,
        "label": spell.label,
        "x_px": change.x_px,
        "y_px": change.y_px,
        "states": (before.state, now.state),
        "hidden": spell.hidden[after - 1],
        "judged_by": is_.by,
    }


def _at(spell: Spell, judge: ZoneJudge, sample: Sample, presence: Presence) -> dict[str, Any]:
    """What an event says that is known by one sample."""
    return {
        "zone": judge.zone.name,
        "time_s": sample.time_s,
        "timing": "sample",
        "source_index": sample.source_index,
        "object_id": spell.object_id,
        "label": spell.label,
        "x_px": sample.x_px,
        "y_px": sample.y_px,
        "states": (sample.state,),
        "judged_by": presence.by,
    }

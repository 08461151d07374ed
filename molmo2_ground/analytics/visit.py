"""`Visit`: an object in a zone, from coming in to going out."""

from __future__ import annotations

from collections.abc import Iterator
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


class Visitor:
    """One object and one zone during one spell, fed sample after sample; memory is constant.

    not_before_s  as of `Spell`.
    """

    def __init__(
        self, judge: ZoneJudge, *, object_id: int, label: str, not_before_s: float | None = None
    ) -> None:
        self._judge, self._object_id, self._label = judge, object_id, label
        self._not_before_s = not_before_s
        self._last: tuple[Sample, Presence] | None = None

    @property
    def inside(self) -> bool:
        """Whether it was inside at the last sample."""
        return self._last is not None and self._last[1].inside

    def step(self, sample: Sample, presence: Presence, *, hidden: bool) -> ZoneEntered | ZoneLeft | None:
        """The next sample, in order of time; hidden: whether the way to it passes over a gap.

        Returns how it came in or went out.
        """
        last, self._last = self._last, (sample, presence)
        if last is None:
            if not presence.inside:
                return None
            return ZoneEntered(
                reason="appeared",
                after_s=self._not_before_s,
                before_s=sample.time_s,
                **self._at(sample, presence),
            )
        if last[1].inside == presence.inside:
            return None
        moved = self._moved(*last, sample, presence, hidden=hidden)
        if presence.inside:
            return ZoneEntered(reason="moved", **moved)
        return ZoneLeft(reason="moved", **moved)

    def end(self, gone_by_s: float | None) -> ZoneLeft | None:
        """The spell is over: how it went out, when it was inside and the model looked again (seconds)."""
        if self._last is None or not self.inside or gone_by_s is None:
            return None
        sample, presence = self._last
        return ZoneLeft(
            reason="disappeared",
            after_s=sample.time_s,
            before_s=gone_by_s,
            **self._at(sample, presence),
        )

    def _moved(
        self, before: Sample, was: Presence, now: Sample, is_: Presence, *, hidden: bool
    ) -> dict[str, Any]:
        """What an event says of the step to a sample on the other side than the one before it."""
        change = self._judge.change(before, now, was, is_)
        return {
            "zone": self._judge.zone.name,
            "time_s": change.time_s,
            "after_s": before.time_s,
            "before_s": now.time_s,
            "timing": change.timing,
            "source_index": now.source_index,
            "object_id": self._object_id,
            "label": self._label,
            "x_px": change.x_px,
            "y_px": change.y_px,
            "states": (before.state, now.state),
            "hidden": hidden,
            "judged_by": is_.by,
        }

    def _at(self, sample: Sample, presence: Presence) -> dict[str, Any]:
        """What an event says that is known by one sample."""
        return {
            "zone": self._judge.zone.name,
            "time_s": sample.time_s,
            "timing": "sample",
            "source_index": sample.source_index,
            "object_id": self._object_id,
            "label": self._label,
            "x_px": sample.x_px,
            "y_px": sample.y_px,
            "states": (sample.state,),
            "judged_by": presence.by,
        }


def visits_of(spell: Spell, judge: ZoneJudge) -> Iterator[Visit]:
    """The visits of one object to one zone during one spell, in order of time.

    An object is inside from one sample to the next when it is at both. That it went in and out again between
    two samples, or out and in, is not seen and not guessed.
    """
    visitor = Visitor(judge, object_id=spell.object_id, label=spell.label, not_before_s=spell.not_before_s)
    entered: ZoneEntered | None = None
    first = 0
    for number, (sample, hidden) in enumerate(spell.steps):
        event = visitor.step(sample, judge.at(spell.object_id, sample), hidden=hidden)
        if isinstance(event, ZoneEntered):
            entered, first = event, number
        elif entered is not None and event is not None:
            yield _visit(spell, entered, event, first, number - 1)
            entered = None
    if entered is not None:
        yield _visit(spell, entered, visitor.end(spell.gone_by_s), first, len(spell.samples) - 1)


def _visit(spell: Spell, entered: ZoneEntered, left: ZoneLeft | None, first: int, last: int) -> Visit:
    last_s = spell.samples[last].time_s
    return Visit(
        zone=entered.zone,
        object_id=spell.object_id,
        label=spell.label,
        entered=entered,
        left=left,
        first_s=spell.samples[first].time_s,
        last_s=last_s,
        dwell_s=(last_s if left is None else left.time_s) - entered.time_s,
        hidden_s=spell.hidden_s(first, last),
    )

"""`find_events`: tracks, zones and lines -> `Events`, everything that happened and what it adds up to."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Literal, overload

from pydantic import BaseModel, ConfigDict

from molmo2_ground._wanted import Wanted
from molmo2_ground.analytics.crossing import crossings_of
from molmo2_ground.analytics.event import Appeared, CountChanged, Disappeared, Event, LineCrossed
from molmo2_ground.analytics.homography import Homography
from molmo2_ground.analytics.line import Line
from molmo2_ground.analytics.occupancy import Occupancy, occupancy_of, zone_events
from molmo2_ground.analytics.presence import ZoneJudge
from molmo2_ground.analytics.rules import Rules
from molmo2_ground.analytics.speed import Speed, Unit, speeds_of
from molmo2_ground.analytics.spell import Spell, appeared, disappeared, looks_of, spells_of
from molmo2_ground.analytics.summary import ObjectSummary, Summary, line_summary, object_summary, zone_summary
from molmo2_ground.analytics.visit import Visit, visits_of
from molmo2_ground.analytics.zone import Zone
from molmo2_ground.results import MASKS, TRACKS, Masks, Tracks

SCHEMA = "molmo2-ground/events/1"

CSV_COLUMNS = (
    "time_s", "kind", "object_id", "label", "where", "detail", "x_px", "y_px", "after_s", "before_s",
    "timing", "source_index", "states", "hidden",
)  # fmt: skip

_ZONE, _LINE = Wanted("a Zone", (Zone,)), Wanted("a Line", (Line,))
_RULES = Wanted("a Rules", (Rules,), or_none=True)

At = Literal["looks", "frames"]


class Events(BaseModel):
    """What happened, in order of time; a sequence of events.

    visits       one a stay in a zone, in order of coming in.
    occupancies  one a zone, in the zones' order.
    source       what the tracks were found in, in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str
    rules: Rules
    zones: tuple[Zone, ...]
    lines: tuple[Line, ...]
    ground: Homography | None = None
    events: tuple[Event, ...]
    visits: tuple[Visit, ...]
    occupancies: tuple[Occupancy, ...]
    summary: Summary

    def json_text(self) -> str:
        """One JSON object, its schema first, one member a line; no line end after it."""
        document = {"schema": SCHEMA, **self.model_dump(mode="json")}
        members = (f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in document.items())
        return "{" + ",\n ".join(members) + "}"

    def csv_text(self) -> str:
        """One row an event, after a row of names."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for event in self.events:
            where, detail = where_and_what(event)
            values = {**event.model_dump(), "where": where, "detail": detail}
            values["states"] = " ".join(event.states)
            writer.writerow(["" if values[name] is None else values[name] for name in CSV_COLUMNS])
        return text.getvalue()

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:  # type: ignore[override]  # a sequence of events, not of fields
        return iter(self.events)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...
    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        return self.events[index]


def where_and_what(event: Event) -> tuple[str, str]:
    """The name of the zone or line, and what the kind alone does not say; empty where there is none."""
    if isinstance(event, LineCrossed):
        return event.line, event.direction
    if isinstance(event, CountChanged):
        return event.zone, f"{event.count_before} to {event.count_after}"
    if isinstance(event, Appeared | Disappeared):
        return "", ""
    return event.zone, event.reason


def what_happened(event: Event) -> str:
    """`entered the yard`, as a sentence goes on after who it was."""
    match event.kind:
        case "appeared":
            return "appeared"
        case "disappeared":
            return "disappeared"
        case "line_crossed":
            return f"crossed {event.line} {event.direction}"
        case "zone_entered":
            return f"entered {event.zone}" if event.reason == "moved" else f"appeared in {event.zone}"
        case "zone_left":
            return f"left {event.zone}" if event.reason == "moved" else f"disappeared in {event.zone}"
        case "count_changed":
            return f"changed the count in {event.zone} from {event.count_before} to {event.count_after}"


def find_events(
    tracks: Tracks,
    *,
    zones: Sequence[Zone] = (),
    lines: Sequence[Line] = (),
    rules: Rules | None = None,
    masks: Masks | None = None,
    ground: Homography | None = None,
    at: At = "looks",
) -> Events:
    """Everything that happened to the objects of these tracks.

    zones, lines: in pixels of the source picture. masks: of these tracks, for `Rules(by="mask")`. ground: the
    plane that speeds are measured on; pixels a second without it. at: count objects in zones whenever the
    model looked, or in every frame in which any object has a sample (`molmo2_ground.masks.carry` gives one a
    frame). Raises `ValueError` for two zones or lines of one name, another `at`, and `by="mask"` without
    masks.
    """
    TRACKS.check("tracks", tracks)
    rules = _given(rules)
    _check(zones, lines, rules, masks, at)
    looked_s = looks_of(tracks)
    spells = [spells_of(track, looked_s, grace_s=rules.grace_s) for track in tracks]
    every = [spell for parts in spells for spell in parts]
    times_s = looked_s if at == "looks" else _frame_times_s(tracks)
    in_zones = [_in_zone(zone, every, rules, masks, times_s) for zone in zones]
    at_lines = [_at_line(line, every, rules) for line in lines]
    events: list[Event] = [*_begun(every)]
    for of_one, _ in in_zones:
        events += zone_events(of_one)
    for crossings in at_lines:
        events += crossings
    events += _ended(every)
    visits = [visit for of_one, _ in in_zones for visit in of_one]
    return Events(
        source=tracks.receipt.source,
        rules=rules,
        zones=tuple(zones),
        lines=tuple(lines),
        ground=ground,
        # Sorting is stable: of one moment first who appeared, then zones, lines, and who disappeared.
        events=tuple(sorted(events, key=lambda event: event.time_s)),
        visits=tuple(sorted(visits, key=lambda visit: (visit.entered.time_s, visit.object_id))),
        occupancies=tuple(occupancy for _, occupancy in in_zones),
        summary=Summary(
            zones=tuple(zone_summary(*found) for found in in_zones),
            lines=tuple(map(line_summary, lines, at_lines)),
            objects=tuple(_object_row(parts, rules, ground) for parts in spells if parts),
        ),
    )


def find_speeds(
    tracks: Tracks, *, rules: Rules | None = None, ground: Homography | None = None
) -> dict[int, tuple[Speed, ...]]:
    """Every object's speed at each sample at which one can be had, by object id; see `speeds_of`."""
    TRACKS.check("tracks", tracks)
    rules, looked_s = _given(rules), looks_of(tracks)
    return {
        track.object_id: _speeds(spells_of(track, looked_s, grace_s=rules.grace_s), rules, ground)
        for track in tracks
    }


def _speeds(spells: Sequence[Spell], rules: Rules, ground: Homography | None) -> tuple[Speed, ...]:
    return tuple(s for spell in spells for s in speeds_of(spell, window_s=rules.window_s, ground=ground))


def _frame_times_s(tracks: Tracks) -> tuple[float, ...]:
    times = {sample.source_index: sample.time_s for track in tracks for sample in track.samples}
    return tuple(sorted(times.values()))


def _object_row(spells: Sequence[Spell], rules: Rules, ground: Homography | None) -> ObjectSummary:
    unit: Unit = "px/s" if ground is None else "m/s"
    return object_summary(spells, _speeds(spells, rules, ground), unit)


def _in_zone(
    zone: Zone, spells: Sequence[Spell], rules: Rules, masks: Masks | None, times_s: Sequence[float]
) -> tuple[list[Visit], Occupancy]:
    judge = ZoneJudge(zone, rules=rules, masks=masks)
    visits = [visit for spell in spells for visit in visits_of(spell, judge)]
    return visits, occupancy_of(zone.name, visits, times_s)


def _at_line(line: Line, spells: Sequence[Spell], rules: Rules) -> list[LineCrossed]:
    return [
        crossing for spell in spells for crossing in crossings_of(spell, line, min_step_px=rules.min_step_px)
    ]


def _begun(spells: Sequence[Spell]) -> Iterator[Appeared]:
    for spell in spells:
        yield appeared(spell.object_id, spell.label, spell.samples[0], spell.not_before_s)


def _ended(spells: Sequence[Spell]) -> Iterator[Disappeared]:
    for spell in spells:
        if spell.gone_by_s is not None:
            yield disappeared(spell.object_id, spell.label, spell.samples[-1], spell.gone_by_s)


def _given(rules: Rules | None) -> Rules:
    _RULES.check("rules", rules)
    return rules or Rules()


def _check(zones: Sequence[Zone], lines: Sequence[Line], rules: Rules, masks: Masks | None, at: str) -> None:
    if at not in ("looks", "frames"):
        raise ValueError(f"at is 'looks' or 'frames'; got {at!r}")
    MASKS.or_nothing().check("masks", masks)
    _ZONE.all_of("zones", zones)
    _LINE.all_of("lines", lines)
    for what, names in (("zones", [z.name for z in zones]), ("lines", [line.name for line in lines])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{what} have different names; got {twice[0]!r} more than once")
    if rules.by == "mask" and masks is None:
        raise ValueError("by='mask' needs masks; hand in masks=molmo2_ground.segment(media, tracks)")

"""`Summary`: the events of a video in a few numbers, as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from molmo2_ground.analytics.event import LineCrossed
from molmo2_ground.analytics.line import Line
from molmo2_ground.analytics.occupancy import Occupancy
from molmo2_ground.analytics.speed import Speed, Unit
from molmo2_ground.analytics.spell import Spell
from molmo2_ground.analytics.visit import Visit


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ZoneSummary(_Row):
    """One zone. `inside_at_end`: objects that had not left when the model looked for the last time."""

    zone: str
    visits: int
    objects: int
    most_at_once: int
    dwell_s: float
    longest_s: float
    inside_at_end: int


class LineSummary(_Row):
    """One line: crossings to the side that is "in", and back."""

    line: str
    in_count: int
    out_count: int


class ObjectSummary(_Row):
    """One object: when it was there, how long in all, and how fast. Speeds are None where none can be had."""

    object_id: int
    label: str
    first_s: float
    last_s: float
    there_s: float
    spells: int
    mean_speed: float | None
    top_speed: float | None
    unit: Unit


class Summary(_Row):
    """Rows for zones, lines and objects."""

    zones: tuple[ZoneSummary, ...]
    lines: tuple[LineSummary, ...]
    objects: tuple[ObjectSummary, ...]

    def table(self) -> Iterator[str]:
        """Lines of text with columns, a heading for each kind that is there."""
        if self.zones:
            yield from _columns(
                ("zone", "visits", "objects", "most at once", "dwell s", "longest s", "still inside"),
                [
                    (
                        row.zone,
                        str(row.visits),
                        str(row.objects),
                        str(row.most_at_once),
                        f"{row.dwell_s:.2f}",
                        f"{row.longest_s:.2f}",
                        str(row.inside_at_end),
                    )
                    for row in self.zones
                ],
            )
        if self.lines:
            yield from _columns(
                ("line", "in", "out"),
                [(row.line, str(row.in_count), str(row.out_count)) for row in self.lines],
            )
        if self.objects:
            unit = self.objects[0].unit
            yield from _columns(
                ("object", "first s", "last s", "there s", "spells", f"mean {unit}", f"top {unit}"),
                [
                    (
                        f"#{row.object_id} {row.label}",
                        f"{row.first_s:.2f}",
                        f"{row.last_s:.2f}",
                        f"{row.there_s:.2f}",
                        str(row.spells),
                        _number(row.mean_speed),
                        _number(row.top_speed),
                    )
                    for row in self.objects
                ],
            )


def zone_summary(visits: Sequence[Visit], occupancy: Occupancy) -> ZoneSummary:
    """The row of one zone, from its visits."""
    return ZoneSummary(
        zone=occupancy.zone,
        visits=len(visits),
        objects=len({visit.object_id for visit in visits}),
        most_at_once=occupancy.most,
        dwell_s=sum(visit.dwell_s for visit in visits),
        longest_s=max((visit.dwell_s for visit in visits), default=0.0),
        inside_at_end=sum(visit.left is None for visit in visits),
    )


def line_summary(line: Line, crossings: Sequence[LineCrossed]) -> LineSummary:
    """The row of one line, from its crossings."""
    inward = sum(crossing.direction == "in" for crossing in crossings)
    return LineSummary(line=line.name, in_count=inward, out_count=len(crossings) - inward)


def object_summary(spells: Sequence[Spell], speeds: Sequence[Speed], unit: Unit) -> ObjectSummary:
    """The row of one object, from its spells (at least one)."""
    values = [speed.speed for speed in speeds]
    return ObjectSummary(
        object_id=spells[0].object_id,
        label=spells[0].label,
        first_s=spells[0].samples[0].time_s,
        last_s=spells[-1].samples[-1].time_s,
        there_s=sum(spell.samples[-1].time_s - spell.samples[0].time_s for spell in spells),
        spells=len(spells),
        mean_speed=sum(values) / len(values) if values else None,
        top_speed=max(values, default=None),
        unit=unit,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _columns(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[place]) for row in (heading, *rows)) for place in range(len(heading))]
    for row in (heading, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(cells)

"""Crossings of a line, each counted once.

The path of an object is the straight way from sample to sample during one spell. It has crossed a line when
it was seen at least `min_step_px` away from it on one side and later as far away on the other, and went
between the ends of the line on the way: of the times that the path changed sides in between, those through
the line to the new side outnumber those through it back. Touching the line and turning round is no crossing,
going round its end is none either, and trembling on it is at most one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from molmo2_ground.analytics.event import LineCrossed
from molmo2_ground.analytics.line import Line
from molmo2_ground.analytics.spell import Spell
from molmo2_ground.results import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """The path changes sides of the endless line between two samples.

    share   how far along the step it is on the line. hidden: whether the step passes over a gap.
    """

    before: Sample
    after: Sample
    share: float
    hidden: bool

    @property
    def place(self) -> tuple[float, float]:
        """Where on the step the path changes sides, pixels."""
        return (
            self.before.x_px + self.share * (self.after.x_px - self.before.x_px),
            self.before.y_px + self.share * (self.after.y_px - self.before.y_px),
        )


class Crosser:
    """One object and one line during one spell, fed sample after sample; memory is constant."""

    def __init__(self, line: Line, *, object_id: int, label: str, min_step_px: float) -> None:
        self._line, self._object_id, self._label = line, object_id, label
        self._min_step_px = min_step_px
        self._confirmed = 0  # the side on which it was last seen far enough away; 0 before that
        # Of the passes through the line since then: those to the left less those to the right, and the last
        # one to each side (1 left, -1 right).
        self._net = 0
        self._through: dict[int, _Step] = {}
        self._before: tuple[Sample, float] | None = None  # the last sample and its distance
        self._off_line: float = 0.0  # the distance of the last sample that is not on the line; 0 before one

    def step(self, sample: Sample, *, hidden: bool) -> LineCrossed | None:
        """The next sample, in order of time; hidden: whether the way to it passes over a gap.

        Returns the crossing that it confirms.
        """
        distance = self._line.distance(sample.x_px, sample.y_px)
        earlier, self._before = self._before, (sample, distance)
        if distance == 0:
            return None
        side = 1 if distance > 0 else -1
        if earlier is not None and self._off_line and (self._off_line > 0) != (distance > 0):
            before, was = earlier
            # After a while on the line it goes over where it leaves it.
            share = abs(was) / (abs(was) + abs(distance))
            self._pass(_Step(before=before, after=sample, share=share, hidden=hidden), side)
        self._off_line = distance
        if abs(distance) < self._min_step_px:
            return None
        crossing = None
        if self._confirmed not in (0, side) and self._net * side > 0:
            crossing = self._crossed(self._through[side], side)
        self._confirmed, self._net, self._through = side, 0, {}
        return crossing

    def _pass(self, step: _Step, side: int) -> None:
        if 0 <= self._line.along(*step.place) < 1:
            self._net += side
            self._through[side] = step

    def _crossed(self, step: _Step, side: int) -> LineCrossed:
        before, after = step.before, step.after
        x_px, y_px = step.place
        return LineCrossed(
            line=self._line.name,
            direction=self._line.direction_to("left" if side > 0 else "right"),
            time_s=before.time_s + step.share * (after.time_s - before.time_s),
            after_s=before.time_s,
            before_s=after.time_s,
            timing="line",
            source_index=after.source_index,
            object_id=self._object_id,
            label=self._label,
            x_px=x_px,
            y_px=y_px,
            states=(before.state, after.state),
            hidden=step.hidden,
        )


def crossings_of(spell: Spell, line: Line, *, min_step_px: float) -> Iterator[LineCrossed]:
    """The crossings of one line by one object during one spell, in order of time; pixels throughout."""
    crosser = Crosser(line, object_id=spell.object_id, label=spell.label, min_step_px=min_step_px)
    for sample, hidden in spell.steps:
        crossing = crosser.step(sample, hidden=hidden)
        if crossing is not None:
            yield crossing

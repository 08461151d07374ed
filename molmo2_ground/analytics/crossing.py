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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """The path changes sides of the endless line between two samples.

    side  the new one: 1 left, -1 right. share  how far along the step it is on the line.
    """

    side: int
    before: int
    after: int
    share: float


def crossings_of(spell: Spell, line: Line, *, min_step_px: float) -> Iterator[LineCrossed]:
    """The crossings of one line by one object during one spell, in order of time; pixels throughout."""
    distances = [line.distance(sample.x_px, sample.y_px) for sample in spell.samples]
    confirmed = 0  # the side on which it was last seen far enough away; 0 before that
    passes: list[_Pass] = []
    last: int | None = None  # the last sample that is not on the line
    for number, distance in enumerate(distances):
        if distance == 0:
            continue
        side = 1 if distance > 0 else -1
        if last is not None and (distances[last] > 0) != (distance > 0):
            passes.append(_pass(distances, last, number, side))
        last = number
        if abs(distance) < min_step_px:
            continue
        if confirmed not in (0, side):
            through = [step for step in passes if 0 <= _along(spell, line, step) < 1]
            if sum(step.side for step in through) * side > 0:
                yield _crossed(spell, line, [step for step in through if step.side == side][-1])
        confirmed, passes = side, []


def _pass(distances: list[float], last: int, number: int, side: int) -> _Pass:
    if number - last > 1:
        # It was on the line for a while: it goes over where it leaves it.
        return _Pass(side=side, before=number - 1, after=number, share=0.0)
    share = abs(distances[last]) / (abs(distances[last]) + abs(distances[number]))
    return _Pass(side=side, before=last, after=number, share=share)


def _place(spell: Spell, step: _Pass) -> tuple[float, float]:
    before, after = spell.samples[step.before], spell.samples[step.after]
    return (
        before.x_px + step.share * (after.x_px - before.x_px),
        before.y_px + step.share * (after.y_px - before.y_px),
    )


def _along(spell: Spell, line: Line, step: _Pass) -> float:
    return line.along(*_place(spell, step))


def _crossed(spell: Spell, line: Line, step: _Pass) -> LineCrossed:
    before, after = spell.samples[step.before], spell.samples[step.after]
    x_px, y_px = _place(spell, step)
    return LineCrossed(
        line=line.name,
        direction=line.direction_to("left" if step.side > 0 else "right"),
        time_s=before.time_s + step.share * (after.time_s - before.time_s),
        after_s=before.time_s,
        before_s=after.time_s,
        timing="line",
        source_index=after.source_index,
        object_id=spell.object_id,
        label=spell.label,
        x_px=x_px,
        y_px=y_px,
        states=(before.state, after.state),
        hidden=spell.hidden[step.before],
    )

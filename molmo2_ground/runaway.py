"""When an answer has run away: rules that tell a model writing in circles from one that names many things.

They look at *new things* only, in the order of writing: every point of `<points>`, and of `<tracks>` the
first place of each id. A parked car may stand still in its track for an hour; eight new things in one place
may not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

# Eight new things running, each exactly where the one before was, to the thousandth: one thing, named again
# for each picture. Pictures come twice a second, so this is four seconds of a video.
SAME_PLACE = 8
# So many new things of one picture, each as far from the one before, to a thousandth: a line that marches on.
# Real rows are shorter or less even; 24 even steps across a picture are 4 % of it each.
EVEN_STEPS = 24

Place = tuple[int, int]  # thousandths


class Run(NamedTuple):
    """How the new things so far followed each other.

    same  how many stand running in the place of the last one, itself among them.
    even  how many steps running, within one picture, were like the last one.
    """

    last: Place | None = None
    same: int = 0
    step: Place | None = None
    even: int = 0

    def then(self, place: Place, *, same_picture: bool) -> Run:
        """The run with one more new thing."""
        if self.last is None:
            return Run(last=place, same=1)
        same = self.same + 1 if place == self.last else 1
        if not same_picture:
            return Run(last=place, same=same)
        step = (place[0] - self.last[0], place[1] - self.last[1])
        # The first step stays the measure, so that a curve is no line.
        if self.step is not None and max(abs(step[0] - self.step[0]), abs(step[1] - self.step[1])) <= 1:
            return Run(last=place, same=same, step=self.step, even=self.even + 1)
        return Run(last=place, same=same, step=step, even=1)

    @property
    def rule(self) -> str:
        """The rule by which the answer has run away; empty when it has not."""
        if self.same >= SAME_PLACE:
            return f"{SAME_PLACE} new things running in one place"
        if self.even >= EVEN_STEPS:
            return f"{EVEN_STEPS} even steps running in one picture"
        return ""


def repeats(things: Iterable[tuple[object, Place]]) -> dict[int, str]:
    """Which new things of an element are to be left out, counted from 0, each with the rule.

    things: the picture and the place of each, in the order of writing. Of things in one place the first is
    kept; of a line that marches on, what was written before the rule could tell.
    """
    found: dict[int, str] = {}
    run, before = Run(), None
    for number, (picture, place) in enumerate(things):
        run = run.then(place, same_picture=picture == before)
        before = picture
        if run.same >= SAME_PLACE:
            found.update(dict.fromkeys(range(number - run.same + 2, number + 1), run.rule))
        elif run.even > EVEN_STEPS:
            found[number] = run.rule
    return found

"""When an answer has run away: rules that tell a model writing in circles from one that names many things.

They look at *new things* only, in the order of writing: every point of `<points>`, and of `<tracks>` the
first place of each id. A parked car may stand still in its track for an hour; eight new things in one place
may not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

# Eight new things running of a film, each exactly where the one before was, to the thousandth: one thing,
# named again for each picture. Pictures come twice a second, so this is four seconds. Still images of one
# shelf may well show eight mugs in one place, and are not judged so.
SAME_PLACE = 8
# So many new things in places of one picture that the answer has named in this picture before. Two things may
# stand in one place to the thousandth; a model that goes through the same places again writes this many soon.
NAMED_AGAIN = 8
# So many new things of one picture, each as far from the one before, to a thousandth: a line that marches on.
# Rows are real: piano keys, fence posts. No answer in training has more than 60 points, and steps that fit
# into a picture 60 times are under 17 thousandths.
EVEN_STEPS = 60

Place = tuple[int, int]  # thousandths


class Run(NamedTuple):
    """How the new things so far followed each other.

    same   how many stand running in the place of the last one, itself among them, in a film.
    named  the places of the last one's picture; again: how many things of it are in a place named before.
    even   how many steps running, within one picture, were like the last one.
    """

    last: Place | None = None
    same: int = 0
    named: frozenset[Place] = frozenset()
    again: int = 0
    step: Place | None = None
    even: int = 0

    def then(self, place: Place, *, same_picture: bool, film: bool) -> Run:
        """The run with one more new thing. film: pictures follow each other in time."""
        same = self.same + 1 if film and place == self.last else 1
        if self.last is None or not same_picture:
            return Run(last=place, same=same, named=frozenset({place}))
        step = (place[0] - self.last[0], place[1] - self.last[1])
        going_on = self.step is not None and _alike(step, self.step)
        return Run(
            last=place,
            same=same,
            named=self.named | {place},
            again=self.again + (place in self.named),
            # The first step stays the measure, so that a curve is no line.
            step=self.step if going_on else step,
            even=self.even + 1 if going_on else 1,
        )

    @property
    def rule(self) -> str:
        """The rule by which the answer has run away; empty when it has not."""
        if self.same >= SAME_PLACE:
            return f"{SAME_PLACE} new things running in one place"
        if self.again >= NAMED_AGAIN:
            return f"{NAMED_AGAIN} places of one picture named again"
        if self.even >= EVEN_STEPS:
            return f"{EVEN_STEPS} even steps running in one picture"
        return ""


def _alike(a: Place, b: Place) -> bool:
    # Standing still is no step: several things in one place are another rule's.
    return a != (0, 0) and max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= 1


def repeats(things: Iterable[tuple[object, Place]], *, film: bool) -> dict[int, str]:
    """Which new things of an element are to be left out, counted from 0, each with the rule.

    things: the picture and the place of each, in the order of writing. film: as for `Run.then`. Of things in
    one place the first is kept, of places named again the first time; of a line that marches on, what was
    written before the rule could tell.
    """
    found: dict[int, str] = {}
    again: list[int] = []  # of this picture
    run, before = Run(), None
    for number, (picture, place) in enumerate(things):
        same_picture = picture == before
        before_again = run.again if same_picture else 0
        run = run.then(place, same_picture=same_picture, film=film)
        before = picture
        again = again if same_picture else []
        if run.again > before_again:
            again.append(number)
        if run.same == SAME_PLACE:
            found.update(dict.fromkeys(range(number - run.same + 2, number + 1), run.rule))
        elif run.same > SAME_PLACE:
            found[number] = run.rule
        elif run.again == NAMED_AGAIN:
            found.update(dict.fromkeys(again, run.rule))
        elif run.again > NAMED_AGAIN:
            if run.again > before_again:
                found[number] = run.rule
        elif run.even > EVEN_STEPS:
            found[number] = run.rule
    return found

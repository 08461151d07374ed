"""`EventFinder`: `molmo2_ground.analytics.find_events` for a stream, one moment after another.

Both are made of the same parts (`Visitor`, `Crosser`, `Turnstile`, `ends_spell`): closed at the end, the
finder has given exactly the events of the batch, field by field. Only their order differs, and what is taken
for a look where nothing says so:

- An event comes when it is certain. That something disappeared is certain after the grace time; its time is
  the earlier one, when it was last seen. The new count of a zone waits until nothing can still turn out to
  have happened before it: one moment while everything is in sight, up to the grace time while something is
  not.
- The batch, given tracks without any record of when the model looked, takes it to have looked wherever
  something has a sample. The finder is told, or it did not look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from molmo2_ground.analytics.crossing import Crosser
from molmo2_ground.analytics.event import (
    Appeared,
    CountChanged,
    Disappeared,
    Event,
    LineCrossed,
    ZoneEntered,
    ZoneLeft,
)
from molmo2_ground.analytics.line import Line
from molmo2_ground.analytics.occupancy import Turnstile
from molmo2_ground.analytics.presence import ZoneJudge
from molmo2_ground.analytics.rules import Rules
from molmo2_ground.analytics.spell import appeared, disappeared, ends_spell, look_after, look_before
from molmo2_ground.analytics.visit import Visitor
from molmo2_ground.analytics.zone import Zone
from molmo2_ground.results import Mask, Sample
from molmo2_ground.sightings import LONGEST_STEP_S, SAME_TIME_S, adjoin

LEAST_STEP_S = 1e-3  # moments follow each other by at least so much; far above what counts as one time


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Where one thing is at one moment; mask: its pixels, for `Rules(by="mask")`."""

    object_id: int
    label: str
    sample: Sample
    mask: Mask | None = None


class _Thing:
    """One thing during one spell."""

    def __init__(self, seen: Seen, finder: EventFinder, not_before_s: float | None) -> None:
        self.object_id, self.label = seen.object_id, seen.label
        self.last = seen.sample
        names = {"object_id": seen.object_id, "label": seen.label}
        self.visitors = [
            Visitor(judge, not_before_s=not_before_s, **names)  # type: ignore[arg-type]
            for judge in finder.judges
        ]
        self.entered_s: list[float] = [seen.sample.time_s] * len(self.visitors)
        self.crossers = [
            Crosser(line, min_step_px=finder.rules.min_step_px, **names)  # type: ignore[arg-type]
            for line in finder.lines
        ]


class EventFinder:
    """Finds events as they become certain.

    It remembers what is in sight and what has been out of sight for no longer than the grace time (or until
    the model looks again, when it has not); nothing else, however long it runs.

    zones, lines: pixels of the picture, names of their own. counts: whether `CountChanged` is told too. Masks
    are handed in with what is seen.
    """

    def __init__(
        self,
        *,
        zones: Sequence[Zone] = (),
        lines: Sequence[Line] = (),
        rules: Rules | None = None,
        counts: bool = True,
    ) -> None:
        self.rules = rules or Rules()
        self.zones, self.lines = tuple(zones), tuple(lines)
        self.judges = [ZoneJudge(zone, rules=self.rules) for zone in zones]
        self._turnstiles = [Turnstile() for _ in zones] if counts else []
        self._open: dict[int, _Thing] = {}
        self._over: list[_Thing] = []  # their spell has ended, and the model has not looked since
        self._looked_s: list[float] = []
        self._now_s: float | None = None
        self._cut_s: float | None = None
        self._found: _Found = _Found()

    @property
    def remembered(self) -> int:
        """How many things it holds in mind."""
        return len(self._open) + len(self._over)

    def take(self, time_s: float, seen: Iterable[Seen], *, looked: bool) -> tuple[Event, ...]:
        """What has become certain by this moment, in order of its time.

        seen    what is where now; of several places of one thing the first counts.
        looked  whether what the model says of the stream was renewed at this moment.
        Raises `ValueError` when the time (seconds) is not at least a millisecond after the moment before.
        """
        if self._now_s is not None and not time_s - self._now_s >= LEAST_STEP_S:
            raise ValueError(
                f"moments are at least {LEAST_STEP_S} s apart, in order; got {time_s} s after {self._now_s} s"
            )
        self._now_s = time_s
        if looked:
            self._looked_s.append(round(time_s, 6))  # as receipts hold it
        here: dict[int, Seen] = {}
        for one in seen:
            here.setdefault(one.object_id, one)
        for object_id in [i for i, thing in self._open.items() if i not in here and self._ended(thing)]:
            self._over.append(self._open.pop(object_id))
        for one in here.values():
            self._step(one)
        self._over = [thing for thing in self._over if not self._settle(thing)]
        self._count()
        self._forget_looks()
        return self._found.drain()

    def cut(self) -> None:
        """What comes next is not joined to what came before, as after a reconnect.

        The time between is a gap like any other: passed over when it is no longer than the grace time.
        """
        self._cut_s = self._now_s

    def close(self) -> tuple[Event, ...]:
        """What is certain because nothing comes any more; what the finder remembers is forgotten."""
        for thing in (*self._over, *self._open.values()):
            self._settle(thing)
        self._open, self._over = {}, []
        self._count(float("inf"))
        return self._found.drain()

    def _gap(self, thing: _Thing, later_s: float) -> bool:
        cut = self._cut_s is not None and thing.last.time_s <= self._cut_s
        return cut or not adjoin(thing.last.time_s, later_s, self._looked_s)

    def _ended(self, thing: _Thing) -> bool:
        """Whether its spell is over wherever it is next seen; it is not seen now."""
        assert self._now_s is not None
        away_s = self._now_s - thing.last.time_s
        cut = self._cut_s is not None and thing.last.time_s <= self._cut_s
        gap = (
            cut
            or away_s > LONGEST_STEP_S - SAME_TIME_S
            or look_after(thing.last.time_s, self._looked_s) is not None
        )
        # The next moment is at least LEAST_STEP_S away, which is more than these margins.
        return gap and away_s > self.rules.grace_s - SAME_TIME_S

    def _step(self, seen: Seen) -> None:
        thing, sample, hidden = self._open.get(seen.object_id), seen.sample, False
        if thing is not None:
            hidden = self._gap(thing, sample.time_s)
            if hidden and ends_spell(thing.last.time_s, sample.time_s, grace_s=self.rules.grace_s):
                self._over.append(thing)
                thing, hidden = None, False
        if thing is None:
            not_before_s = look_before(sample.time_s, self._looked_s)
            thing = self._open[seen.object_id] = _Thing(seen, self, not_before_s)
            self._found.appeared.append(appeared(thing.object_id, thing.label, sample, not_before_s))
        for number, (visitor, judge) in enumerate(zip(thing.visitors, self.judges, strict=True)):
            move = visitor.step(sample, judge.presence(sample, seen.mask), hidden=hidden)
            if move is not None:
                self._move(thing, number, move)
        crossings = (crosser.step(sample, hidden=hidden) for crosser in thing.crossers)
        self._found.crossed += [crossing for crossing in crossings if crossing is not None]
        thing.last = sample

    def _move(self, thing: _Thing, zone: int, move: ZoneEntered | ZoneLeft) -> None:
        self._found.moves.append(move)
        if isinstance(move, ZoneEntered):
            thing.entered_s[zone] = move.time_s
        if self._turnstiles:
            self._turnstiles[zone].add(move, entered_s=thing.entered_s[zone])

    def _settle(self, thing: _Thing) -> bool:
        """Tell that it is gone, if the model has looked since it was last seen."""
        gone_by_s = look_after(thing.last.time_s, self._looked_s)
        if gone_by_s is None:
            return False
        for number, visitor in enumerate(thing.visitors):
            left = visitor.end(gone_by_s)
            if left is not None:
                self._move(thing, number, left)
        self._found.gone.append(disappeared(thing.object_id, thing.label, thing.last, gone_by_s))
        return True

    def _count(self, before_s: float | None = None) -> None:
        """Release the counts that nothing can change any more, or those before a time (seconds)."""
        for number, turnstile in enumerate(self._turnstiles):
            horizon_s = before_s
            if horizon_s is None:
                assert self._now_s is not None
                inside = (t.last.time_s for t in self._over if t.visitors[number].inside)
                around = (thing.last.time_s for thing in self._open.values())
                horizon_s = min(chain((self._now_s,), inside, around))
            self._found.counts += [count for _, count in turnstile.release(horizon_s)]

    def _forget_looks(self) -> None:
        """Keep what the things in mind may need, and one look before."""
        assert self._now_s is not None
        things = chain(self._open.values(), self._over)
        since_s = min((thing.last.time_s for thing in things), default=self._now_s)
        older = 0
        while older + 2 < len(self._looked_s) and self._looked_s[older + 1] < since_s - SAME_TIME_S:
            older += 1
        del self._looked_s[:older]


class _Found:
    """Events of one moment, in the order in which `find_events` puts those of one time."""

    def __init__(self) -> None:
        self.appeared: list[Appeared] = []
        self.moves: list[ZoneEntered | ZoneLeft] = []
        self.counts: list[CountChanged] = []
        self.crossed: list[LineCrossed] = []
        self.gone: list[Disappeared] = []

    def _all(self) -> Iterator[Event]:
        return chain(self.appeared, self.moves, self.counts, self.crossed, self.gone)

    def drain(self) -> tuple[Event, ...]:
        """Hand them over, in order of time."""
        found = tuple(sorted(self._all(), key=lambda event: event.time_s))
        if found:
            for part in (self.appeared, self.moves, self.counts, self.crossed, self.gone):
                part.clear()
        return found

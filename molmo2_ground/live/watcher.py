"""`Watcher`: one watch at work; events of the finder go in, what is to be told comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Self

from molmo2_ground.analytics.event import (
    Appeared,
    CountChanged,
    Disappeared,
    Event,
    LineCrossed,
    ZoneEntered,
    ZoneLeft,
)
from molmo2_ground.analytics.rules import Rules
from molmo2_ground.live.event_finder import EventFinder, Seen
from molmo2_ground.live.update import LiveTrack, Update
from molmo2_ground.live.watch import Watch
from molmo2_ground.results import Sample

WHOLE_PICTURE = "the picture"  # what `CountChanged` calls its zone when a watch counts without one

Coming = ZoneEntered | Appeared
Going = ZoneLeft | Disappeared
Told = tuple[str, Event]  # the question's name, and what happened

_MOST_QUESTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What all watches need of one update: seen: by question; looked: questions that were answered."""

    time_s: float
    seen: Mapping[str, tuple[Seen, ...]]
    looked: frozenset[str]

    @classmethod
    def of(cls, update: Update, *, looked: Set[str] = frozenset()) -> Self:
        """The moment of an update: things that are only predicted are hidden. looked: by answers before."""
        seen: dict[str, list[Seen]] = {}
        for track in update.tracks:
            places = seen.setdefault(track.question, [])
            if track.state != "predicted":
                places.append(_seen(track, update))
        return cls(
            time_s=update.time_s,
            seen={question: tuple(places) for question, places in seen.items()},
            looked=frozenset(looked).union(look.question for look in update.looks if look.result is not None),
        )


def _seen(track: LiveTrack, update: Update) -> Seen:
    sample = Sample(
        time_s=update.time_s,
        source_index=update.capture.index,
        x_px=track.x_px,
        y_px=track.y_px,
        x_norm=track.x_norm,
        y_norm=track.y_norm,
        state=track.state,
    )
    return Seen(object_id=track.object_id, label=track.label, sample=sample, mask=track.mask)


@dataclass(slots=True)
class _Thing:
    """One thing that is, or was just now, there: in the zone, or in sight where there is none.

    last     how it last came or went. began: how its stay began; being out for less than the debounce time
             does not end one.
    there    whether it is there. settled: whether it is, for those who wait for the debounce time.
    told     of `stays`, whether this stay has been told.
    """

    question: str
    last: Coming | Going
    began: Coming | None
    there: bool
    settled: bool = False
    told: bool = False


class Watcher:
    """One watch, its finders (one a question: a look for one question says nothing of another's things)."""

    def __init__(self, watch: Watch, *, rules: Rules) -> None:
        self.watch = watch
        self.silenced = 0
        self._rules = rules
        self._finders: dict[str, EventFinder] = {}
        self._things: dict[int, _Thing] = {}
        self._crossed_s: dict[int, float] = {}
        self._count = 0
        self._held = False  # whether the count is as waited for, and that is told or was so from the start
        self._pending: tuple[str, CountChanged] | None = None
        self._told_s: float | None = None

    def take(self, moment: Moment) -> list[Told]:
        """What is to be told at this moment."""
        found: list[Told] = []
        moves: list[Told] = []
        here: set[int] = set()
        for question in self._questions(moment):
            seen = tuple(one for one in moment.seen.get(question, ()) if self.watch.means(one.label))
            here.update(one.object_id for one in seen)
            events = self._finders[question].take(moment.time_s, seen, looked=question in moment.looked)
            found += self._sort(question, events, moves)
        return self._finish(found, moves, moment.time_s, here)

    def close(self, time_s: float) -> list[Told]:
        """What is to be told because nothing comes any more, at the time of the last moment (seconds)."""
        found: list[Told] = []
        moves: list[Told] = []
        for question, finder in self._finders.items():
            found += self._sort(question, finder.close(), moves)
        told = self._finish(found, moves, time_s, set())
        self._finders, self._things, self._crossed_s = {}, {}, {}
        self._count, self._held, self._pending, self._told_s = 0, False, None, None
        return told

    def cut(self) -> None:
        """What comes next is another connection."""
        for finder in self._finders.values():
            finder.cut()

    def forget(self, question: str) -> None:
        """The question is not asked any more."""
        self._finders.pop(question, None)
        self._things = {i: thing for i, thing in self._things.items() if thing.question != question}
        self._count = sum(thing.there for thing in self._things.values())

    def _questions(self, moment: Moment) -> list[str]:
        """Those that this watch is about, a finder for each; of more than 64 the oldest is forgotten."""
        for question in sorted({*moment.seen, *moment.looked} - {*self._finders}):
            if self.watch.question not in (None, question):
                continue
            if len(self._finders) >= _MOST_QUESTIONS:
                self.forget(next(iter(self._finders)))
            self._finders[question] = EventFinder(
                zones=() if self.watch.zone is None else (self.watch.zone,),
                lines=() if self.watch.line is None else (self.watch.line,),
                rules=self._rules,
                counts=False,  # counted here, over all questions and without waiting for what is hidden
            )
        return list(self._finders)

    def _sort(self, question: str, events: Iterable[Event], moves: list[Told]) -> Iterator[Told]:
        """Note who came and went, in `moves` too; give what that or a crossing makes known at once."""
        in_zone = self.watch.zone is not None
        for event in events:
            if isinstance(event, LineCrossed):
                if self._is_crossing(event):
                    yield question, event
            elif isinstance(event, (ZoneEntered, ZoneLeft) if in_zone else (Appeared, Disappeared)):
                assert isinstance(event, Coming | Going)
                yield from self._moved(question, event)
                moves.append((question, event))

    def _is_crossing(self, event: LineCrossed) -> bool:
        if self.watch.direction not in (None, event.direction):
            return False
        last_s = self._crossed_s.get(event.object_id)
        if last_s is not None and event.time_s - last_s < self.watch.debounce_s:
            return False
        self._crossed_s[event.object_id] = event.time_s
        return True

    def _moved(self, question: str, event: Coming | Going) -> Iterator[Told]:
        thing = self._things.get(event.object_id)
        if thing is None:
            began = event if isinstance(event, Coming) else None
            thing = _Thing(question=question, last=event, began=began, there=began is not None)
            # What was there when the watch began is known to be there, and did not come.
            thing.settled = began is None or began.after_s is None
            self._things[event.object_id] = thing
            return
        if isinstance(event, Going) and thing.there and event.time_s < thing.last.time_s:
            # It ended a stay before the present one, and is certain only now that the model has looked.
            ends = self.watch.kind in ("leaves", "disappears")
            if ends and thing.last.time_s - event.time_s >= self.watch.debounce_s:
                yield question, event
            return
        # How it was until now may have lasted long enough, and be known only now.
        yield from self._settle(thing, event.time_s)
        if isinstance(event, Coming):
            if thing.there:
                thing.settled = False  # another stay, though the end of the one before is not certain yet
            if thing.there or event.time_s - thing.last.time_s >= self.watch.debounce_s:
                thing.began, thing.told = event, False
            thing.there, thing.settled = True, thing.settled or event.after_s is None
        else:
            thing.there = False
        thing.last = event

    def _settle(self, thing: _Thing, now_s: float) -> Iterator[Told]:
        """Tell of one thing what has lasted long enough by now (seconds)."""
        watch = self.watch
        if thing.there != thing.settled and now_s - thing.last.time_s >= watch.debounce_s:
            thing.settled = thing.there
            if watch.kind in (("enters", "appears") if thing.there else ("leaves", "disappears")):
                yield thing.question, thing.last
        if watch.kind == "stays" and thing.there and not thing.told and thing.began is not None:
            assert watch.seconds is not None
            if now_s - thing.began.time_s >= watch.seconds:
                thing.told = True
                yield thing.question, thing.began

    def _finish(self, found: list[Told], moves: list[Told], now_s: float, here: Set[int]) -> list[Told]:
        """The things that are seen now, the count, and what is over and can be forgotten."""
        for object_id, thing in list(self._things.items()):
            if not thing.there or object_id in here:
                found += self._settle(thing, now_s)
            if not thing.there and now_s - thing.last.time_s >= self.watch.debounce_s:
                del self._things[object_id]
        self._crossed_s = {
            i: at_s for i, at_s in self._crossed_s.items() if now_s - at_s < self.watch.debounce_s
        }
        if self.watch.kind in ("count_at_least", "count_at_most"):
            found += self._counted(moves, now_s)
        return [told for told in found if self._speaks(now_s)]

    def _counted(self, moves: list[Told], now_s: float) -> Iterator[Told]:
        watch = self.watch
        assert watch.number is not None
        least = watch.kind == "count_at_least"
        before, self._count = self._count, sum(thing.there for thing in self._things.values())
        if not (self._count >= watch.number if least else self._count <= watch.number):
            self._held, self._pending = False, None
            return
        if not self._held and self._pending is None:
            # Judged when all moves of the moment are in: who goes as another comes changes nothing.
            cause = [move for move in moves if isinstance(move[1], Coming if least else Going)]
            if not cause:
                self._held = True
                return
            question, event = cause[-1]
            self._pending = question, _count_changed(event, watch, before, self._count)
        if self._pending is not None and now_s - self._pending[1].time_s >= watch.debounce_s:
            self._held = True
            told, self._pending = self._pending, None
            yield told

    def _speaks(self, now_s: float) -> bool:
        """Whether an event may be told now, or falls into the time in which the watch says nothing."""
        if self._told_s is not None and now_s - self._told_s < self.watch.cooldown_s:
            self.silenced += 1
            return False
        self._told_s = now_s
        return True


def _count_changed(event: Event, watch: Watch, before: int, after: int) -> CountChanged:
    shared = event.model_dump(exclude={"kind", "zone", "reason", "judged_by"})
    zone = WHOLE_PICTURE if watch.zone is None else watch.zone.name
    return CountChanged(zone=zone, count_before=before, count_after=after, **shared)

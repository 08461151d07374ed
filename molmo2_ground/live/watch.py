"""`Watch`: what somebody wants to be told of a live stream, typed; `Watch.read` reads one from a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from molmo2_ground._wanted import NUMBER, WHOLE, WORDS, Wanted
from molmo2_ground.analytics.line import Direction, Line
from molmo2_ground.analytics.zone import Zone
from molmo2_ground.query import Query, in_sentence

WatchKind = Literal[
    "enters", "leaves", "crosses", "appears", "disappears", "stays", "count_at_least", "count_at_most"
]

_WITH_ZONE = ("enters", "leaves", "stays")
_COUNTS = ("count_at_least", "count_at_most")

_WANTED: Mapping[str, Wanted] = {
    "name": WORDS,
    "question": WORDS,
    "label": WORDS,
    "zone": Wanted("a Zone", (Zone,)),
    "line": Wanted("a Line", (Line,)),
    "number": WHOLE,
    "seconds": NUMBER,
    "debounce_s": NUMBER,
    "cooldown_s": NUMBER,
}
_ALWAYS = ("name", "debounce_s", "cooldown_s")  # of the others, None is what a kind of watch does without


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One thing to wait for, in what a stream follows; made by `Watch.enters` and its like.

    kind        what is waited for. name: what events and topics call it.
    zone, line  where, pixels of the picture; zone None counts in the whole picture.
    direction   which way over the line; None for both.
    number      how many, for counts. seconds: how long, for `stays`.
    question    name of the question whose things are meant; None for those of every question.
    label       what the things are called; None for all. `a person`, `person` and `Persons` are one.
    debounce_s  seconds for which it must hold before it is told: a thing that came in stays in, a count keeps
                up. Going out and in again within that time is not told again, and neither is the same thing
                that crosses the line again.
    cooldown_s  after an event the watch says nothing for so many seconds, whatever happens.
    """

    kind: WatchKind
    name: str
    zone: Zone | None = None
    line: Line | None = None
    direction: Direction | None = None
    number: int | None = None
    seconds: float | None = None
    question: str | None = None
    label: str | None = None
    debounce_s: float = 0.0
    cooldown_s: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(WatchKind):
            raise ValueError(f"a watch is one of {', '.join(get_args(WatchKind))}; got {self.kind!r}")
        for what, wanted in _WANTED.items():
            if (given := getattr(self, what)) is not None or what in _ALWAYS:
                wanted.check(f"a watch's {what}", given)
        if not self.name:
            raise ValueError("a watch has a name; got an empty one")
        self._check("zone", self.zone, needed=self.kind in _WITH_ZONE, allowed=self.kind in _COUNTS)
        self._check("line", self.line, needed=self.kind == "crosses")
        self._check("direction", self.direction, allowed=self.kind == "crosses")
        self._check("number", self.number, needed=self.kind in _COUNTS)
        self._check("seconds", self.seconds, needed=self.kind == "stays")
        if self.direction not in (None, "in", "out"):
            raise ValueError(f"a direction is 'in', 'out' or None for both; got {self.direction!r}")
        least = 1 if self.kind == "count_at_least" else 0
        if self.number is not None and self.number < least:
            raise ValueError(f"{self.kind} takes a number from {least}; got {self.number}")
        for what in ("seconds", "debounce_s", "cooldown_s"):
            value: float | None = getattr(self, what)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{what} is a number of seconds from 0; got {value}")

    def _check(self, what: str, value: object, *, needed: bool = False, allowed: bool = False) -> None:
        if needed and value is None:
            raise ValueError(f"a watch that waits for {self.kind!r} needs a {what}")
        if value is not None and not (needed or allowed):
            raise ValueError(f"a watch that waits for {self.kind!r} has no {what}; got {value!r}")

    def means(self, label: str) -> bool:
        """Whether things of this label are meant."""
        return self.label is None or plain(self.label) == plain(label)

    def cautions(self, questions: Mapping[str, Query], *, size_px: tuple[int, int]) -> tuple[str, ...]:
        """Why it may never be told, of a stream that asks these in pictures of (width, height) pixels."""
        said = [*self._place_cautions(size_px)]
        followed = {name: query for name, query in questions.items() if query.task == "track"}
        if self.question is not None and self.question not in questions:
            said.append(f"no question is called {self.question!r}; there are: {_names(questions)}")
        elif self.question is not None and self.question not in followed:
            said.append(
                f"the question {self.question!r} only {questions[self.question].task}s: a watch sees what is "
                "followed; track it too"
            )
        elif not followed:
            said.append("no question follows anything, and a watch sees nothing else; track what it means")
        else:
            meant = followed if self.question is None else {self.question: followed[self.question]}
            # A model calls things by the words of the question, as it learned to.
            if not any(self.means(in_sentence(query.phrase)) for query in meant.values()):
                said.append(
                    f"no question asks for {self.label!r}, and things are called as they are asked for: "
                    f"{_names(query.phrase for query in meant.values())}"
                )
        return tuple(said)

    def _place_cautions(self, size_px: tuple[int, int]) -> Iterator[str]:
        from shapely.geometry import LineString, box

        place = self.zone or self.line
        if place is None:
            return
        shape = place.shape if isinstance(place, Zone) else LineString([place.start, place.end])
        if not box(0, 0, *size_px).intersects(shape):
            what = "zone" if isinstance(place, Zone) else "line"
            yield f"the {what} {place.name!r} lies outside the picture of {size_px[0]} x {size_px[1]} pixels"

    @property
    def words(self) -> str:
        """The watch in words that `Watch.read` understands."""
        who = self.label or "someone"
        match self.kind:
            case "enters" | "leaves":
                return f"{who} {self.kind} {_name(self.zone)}"
            case "crosses":
                return f"{who} crosses {_name(self.line)}" + (f" {self.direction}" if self.direction else "")
            case "stays":
                return f"{who} stays in {_name(self.zone)} for {self.seconds:g} seconds"
            case "count_at_least" | "count_at_most":
                least = "at least" if self.kind == "count_at_least" else "at most"
                where = f" in {_name(self.zone)}" if self.zone else ""
                return f"{least} {self.number} {self.label or 'things'}{where}"
        return f"{who} {self.kind}"

    @staticmethod
    def enters(
        zone: Zone,
        *,
        name: str | None = None,
        question: str | None = None,
        label: str | None = None,
        debounce_s: float = 0.0,
        cooldown_s: float = 0.0,
    ) -> Watch:
        """Something comes into the zone: moves there, or comes into sight in it.

        What was in it when the watch began did not enter, and is not told.
        """
        return Watch(
            kind="enters",
            name=name or f"enters {_name(zone)}",
            zone=zone,
            question=question,
            label=label,
            debounce_s=debounce_s,
            cooldown_s=cooldown_s,
        )

    @staticmethod
    def leaves(
        zone: Zone,
        *,
        name: str | None = None,
        question: str | None = None,
        label: str | None = None,
        debounce_s: float = 0.0,
        cooldown_s: float = 0.0,
    ) -> Watch:
        """Something goes out of the zone: moves out, or is not seen in it for longer than the grace time."""
        return Watch(
            kind="leaves",
            name=name or f"leaves {_name(zone)}",
            zone=zone,
            question=question,
            label=label,
            debounce_s=debounce_s,
            cooldown_s=cooldown_s,
        )

    @staticmethod
    def crosses(
        line: Line,
        direction: Direction | None = None,
        *,
        name: str | None = None,
        question: str | None = None,
        label: str | None = None,
        debounce_s: float = 0.0,
        cooldown_s: float = 0.0,
    ) -> Watch:
        """Something goes over the line, one way (`in`, `out`) or either (None)."""
        return Watch(
            kind="crosses",
            name=name or f"crosses {_name(line)}" + (f" {direction}" if direction else ""),
            line=line,
            direction=direction,
            question=question,
            label=label,
            debounce_s=debounce_s,
            cooldown_s=cooldown_s,
        )

    @staticmethod
    def appears(
        *,
        name: str | None = None,
        question: str | None = None,
        label: str | None = None,
        debounce_s: float = 0.0,
        cooldown_s: float = 0.0,
    ) -> Watch:
        """Something comes into sight; what was there when the watch began is not told."""
        return Watch(
            kind="appears",
            name=name or "appears",
            question=question,
            label=label,
            debounce_s=debounce_s,
            cooldown_s=cooldown_s,
        )

    @staticmethod
    def disappears(
        *,
        name: str | None = None,
        question: str | None = None,
        label: str | None = None,
        debounce_s: float = 0.0,
        cooldown_s: float = 0.0,
    ) -> Watch:
        """Something is not seen for longer than the grace time."""
        return Watch(
            kind="disappears",
            name=name or "disappears",
            question=question,
            label=label,
            debounce_s=debounce_s,
            cooldown_s=cooldown_s,
        )

    @staticmethod
    def stays(
        zone: Zone,
        seconds: float,
        *,
        name: str | None = None,
        question: str | None = None,
        label: str | None = None,
        debounce_s: float = 0.0,
        cooldown_s: float = 0.0,
    ) -> Watch:
        """Something is in the zone for so many seconds: told once a stay, when the time is full.

        Here `debounce_s` is how long it may be out without beginning a new stay.
        """
        return Watch(
            kind="stays",
            name=name or f"stays in {_name(zone)}",
            zone=zone,
            seconds=seconds,
            question=question,
            label=label,
            debounce_s=debounce_s,
            cooldown_s=cooldown_s,
        )

    @staticmethod
    def count_at_least(
        zone: Zone | None,
        number: int,
        *,
        name: str | None = None,
        question: str | None = None,
        label: str | None = None,
        debounce_s: float = 0.0,
        cooldown_s: float = 0.0,
    ) -> Watch:
        """The number of things in the zone, or in sight without one, rises to `number` or above."""
        return Watch(
            kind="count_at_least",
            name=name or f"at least {number}" + (f" in {_name(zone)}" if zone else ""),
            zone=zone,
            number=number,
            question=question,
            label=label,
            debounce_s=debounce_s,
            cooldown_s=cooldown_s,
        )

    @staticmethod
    def count_at_most(
        zone: Zone | None,
        number: int,
        *,
        name: str | None = None,
        question: str | None = None,
        label: str | None = None,
        debounce_s: float = 0.0,
        cooldown_s: float = 0.0,
    ) -> Watch:
        """The number of things in the zone, or in sight without one, falls to `number` or below.

        That it is so low when the watch begins is no event.
        """
        return Watch(
            kind="count_at_most",
            name=name or f"at most {number}" + (f" in {_name(zone)}" if zone else ""),
            zone=zone,
            number=number,
            question=question,
            label=label,
            debounce_s=debounce_s,
            cooldown_s=cooldown_s,
        )

    @staticmethod
    def read(
        sentence: str,
        *,
        zones: Sequence[Zone] = (),
        lines: Sequence[Line] = (),
        questions: Sequence[str] = (),
        name: str | None = None,
        debounce_s: float = 0.0,
        cooldown_s: float = 0.0,
    ) -> Watch:
        """Read a sentence such as `someone enters the red zone`; see `molmo2_ground.live.watch_words`.

        A small grammar reads it and no model does. zones, lines: those that the sentence may name.
        questions: names of the stream's questions; a subject that is one of them means its things, any other
        is a label. name: without one, the sentence itself. Raises `ValueError` with the forms that are
        understood when it is none of them.
        """
        from molmo2_ground.live.watch_words import read

        return read(
            sentence,
            zones=zones,
            lines=lines,
            questions=questions,
            name=name,
            debounce_s=debounce_s,
            cooldown_s=cooldown_s,
        )


def _names(words: Iterable[str]) -> str:
    return ", ".join(map(repr, words)) or "none"


def _name(place: Zone | Line | None) -> str:
    return place.name if isinstance(place, Zone | Line) else ""  # what is no place is refused a moment later


def plain(words: str) -> str:
    """Words to compare by: lower case, single spaces, without an article and the last word's plural s."""
    parts = words.lower().split()
    if len(parts) > 1 and parts[0] in ("a", "an", "the"):
        parts = parts[1:]
    if parts and len(parts[-1]) > 3 and parts[-1].endswith("s") and not parts[-1].endswith("ss"):
        parts[-1] = parts[-1][:-1]
    return " ".join(parts)

"""The sentences that `Watch.read` understands: a grammar of a few forms, and no model.

What it does not know, it refuses.

    sentence   = ["tell me when" | "alert me when" | "when" | "if"] form ["."]
    form       = subject "enters" zone              also: enter, comes into, goes into, walks into
               | subject "leaves" zone              also: leave, goes out of, comes out of, walks out of
               | subject "crosses" line [way]       also: cross, goes over, passes
               | subject "appears"                  also: appear, comes into sight
               | subject "disappears"               also: disappear, goes out of sight, vanishes
               | subject "stays in" zone "for" time        also: stay, is, are, stands, waits; for more than
               | subject "stays for" time "in" zone
               | amount number subject ["in" zone]         also: is in, are in, inside
    subject    = "someone" | "anyone" | "somebody" | "anybody" | "something" | "anything" | "it" | "things"
               | words                              a label, or the name of a question
    zone, line = the name of one; "the" may stand before it, "zone", "area", "line" or "gate" after it
    way        = "in" | "out" | "inwards" | "outwards"
    amount     = "at least" | "at most" | "more than" | "fewer than" | "less than"
    number     = 0, 1, 2 … or in words, up to twelve
    time       = number ("seconds" | "s" | "minutes" | "min"); 1.5 is a number here

Capitals do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from molmo2_ground.analytics.line import Line
from molmo2_ground.analytics.zone import Zone
from molmo2_ground.live.watch import Watch, plain

FORMS = (
    "someone enters the red zone",
    "a person leaves the yard",
    "someone crosses the gate in",
    "a car appears",
    "a car disappears",
    "someone stays in the yard for 10 seconds",
    "at least 3 people in the yard",
    "fewer than 2 people",
)

_ANYONE = {
    "", "someone", "anyone", "somebody", "anybody", "something", "anything", "it", "thing", "object",
}  # fmt: skip
_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_PLACE_WORDS = ("zone", "area", "line", "gate")
_NUMBER = rf"(?P<number>\d+(?:\.\d+)?|{'|'.join(_NUMBERS)})"
_TIME = rf"{_NUMBER} ?(?P<unit>seconds?|secs?|s|minutes?|mins?)"
_FOR = r"for (?:more than |longer than |at least )?"
_LEAD = re.compile(r"^(?:(?:tell|alert|warn) me )?(?:when|if) |^(?:alert|warn) (?:when|if) ")
_ENTERS = r"enters?|comes? into|go(?:es)? into|walks? into"
_LEAVES = r"leaves?|go(?:es)? out of|comes? out of|walks? out of"
_STAYS = r"stays?|is|are|stands?|waits?"

Place = TypeVar("Place", Zone, Line)


def read(
    sentence: str,
    *,
    zones: Sequence[Zone],
    lines: Sequence[Line],
    questions: Sequence[str],
    name: str | None,
    debounce_s: float,
    cooldown_s: float,
) -> Watch:
    """The watch that a sentence means; see `Watch.read`."""
    if not isinstance(sentence, str):
        raise ValueError(f"a watch is read from a sentence; got {sentence!r}")
    words = " ".join(sentence.lower().split()).rstrip(".!")
    words = _LEAD.sub("", words)
    reading = _Reading(sentence, zones=zones, lines=lines, questions=questions)
    for pattern, form in _PATTERNS:
        found = re.fullmatch(pattern, words)
        if found is not None:
            fields = form(reading, found)
            subject = reading.subject(found["who"])
            return Watch(
                name=name or " ".join(sentence.split()),
                debounce_s=debounce_s,
                cooldown_s=cooldown_s,
                **fields,  # type: ignore[arg-type]
                **subject,  # type: ignore[arg-type]
            )
    raise reading.misread("expected one of these forms")


class _Reading:
    """One sentence, and what it may name."""

    def __init__(
        self, sentence: str, *, zones: Sequence[Zone], lines: Sequence[Line], questions: Sequence[str]
    ) -> None:
        self._sentence, self._zones, self._lines, self._questions = sentence, zones, lines, questions

    def misread(self, why: str) -> ValueError:
        """The one error, with the forms that are understood."""
        forms = "; ".join(f"'{form}'" for form in FORMS)
        return ValueError(f"cannot read the watch {self._sentence!r}: {why}. Understood are: {forms}")

    def subject(self, words: str) -> dict[str, str | None]:
        """Whom it is about: everything, the things of one question, or those of one label."""
        if plain(words) in _ANYONE:
            return {}
        for question in self._questions:
            if plain(question) == plain(words):
                return {"question": question}
        return {"label": words.strip()}

    def zone(self, words: str) -> Zone:
        """The zone of this name."""
        return self._place("zone", words, self._zones)

    def line(self, words: str) -> Line:
        """The line of this name."""
        return self._place("line", words, self._lines)

    def _place(self, what: str, words: str, places: Sequence[Place]) -> Place:
        wanted = _bare(words)
        for asked in (wanted, wanted.rpartition(" ")[0] if wanted.endswith(_PLACE_WORDS) else wanted):
            for place in places:
                if asked and asked in (_bare(place.name), place.name.lower()):
                    return place
        known = ", ".join(repr(place.name) for place in places) or "none"
        raise self.misread(f"there is no {what} called {words!r}; there are: {known}")

    def whole(self, words: str) -> int:
        """How many."""
        if words in _NUMBERS:
            return _NUMBERS.index(words)
        if not words.isdecimal():
            raise self.misread(f"things are counted in whole numbers; got {words}")
        return int(words)

    def seconds(self, number: str, unit: str) -> float:
        """How long."""
        value = float(_NUMBERS.index(number)) if number in _NUMBERS else float(number)
        return value * (60.0 if unit.startswith("m") else 1.0)


def _bare(name: str) -> str:
    return name.lower().strip().removeprefix("the ").strip()


Fields = dict[str, object]


def _enters(reading: _Reading, found: re.Match[str]) -> Fields:
    return {"kind": "enters", "zone": reading.zone(found["where"])}


def _leaves(reading: _Reading, found: re.Match[str]) -> Fields:
    return {"kind": "leaves", "zone": reading.zone(found["where"])}


def _crosses(reading: _Reading, found: re.Match[str]) -> Fields:
    way = found["way"]
    direction = None if way is None else way.removesuffix("wards")
    return {"kind": "crosses", "line": reading.line(found["where"]), "direction": direction}


def _appears(reading: _Reading, found: re.Match[str]) -> Fields:
    return {"kind": "appears"}


def _disappears(reading: _Reading, found: re.Match[str]) -> Fields:
    return {"kind": "disappears"}


def _stays(reading: _Reading, found: re.Match[str]) -> Fields:
    seconds = reading.seconds(found["number"], found["unit"])
    return {"kind": "stays", "zone": reading.zone(found["where"]), "seconds": seconds}


def _counts(reading: _Reading, found: re.Match[str]) -> Fields:
    amount, number = " ".join(found["amount"].split()), reading.whole(found["number"])
    number += {"more than": 1, "fewer than": -1, "less than": -1}.get(amount, 0)
    kind = "count_at_least" if amount in ("at least", "more than") else "count_at_most"
    if number < (1 if kind == "count_at_least" else 0):
        raise reading.misread(f"{amount} {found['number']} is always so, or never")
    return {"kind": kind, "number": number, "zone": reading.zone(found["where"]) if found["where"] else None}


# In the order in which they are tried: the longer ones before those that they hold.
_PATTERNS: tuple[tuple[str, Callable[[_Reading, re.Match[str]], Fields]], ...] = (
    (
        rf"(?:there are )?(?P<amount>at least|at most|more than|fewer than|less than) {_NUMBER} "
        r"(?P<who>.+?)(?: (?:(?:is |are )?(?:in|inside)) (?P<where>.+))?",
        _counts,
    ),
    (rf"(?P<who>.+?) (?:{_STAYS}) (?:in|inside) (?P<where>.+?) {_FOR}{_TIME}", _stays),
    (rf"(?P<who>.+?) (?:{_STAYS}) {_FOR}{_TIME} (?:in|inside) (?P<where>.+)", _stays),
    (r"(?P<who>.+?) (?:appears?|comes? into sight)", _appears),
    (r"(?P<who>.+?) (?:disappears?|vanish(?:es)?|go(?:es)? out of sight)", _disappears),
    (rf"(?P<who>.+?) (?:{_ENTERS}) (?P<where>.+)", _enters),
    (rf"(?P<who>.+?) (?:{_LEAVES}) (?P<where>.+)", _leaves),
    (
        r"(?P<who>.+?) (?:cross(?:es)?|go(?:es)? over|pass(?:es)?) (?P<where>.+?)"
        r"(?: (?P<way>in|out|inwards|outwards))?",
        _crosses,
    ),
)

"""The answer grammar, both ways: the model's text to nouns, and nouns to the text that it was trained on.

The trained form, with points in an element between free text (the label stands in for what was asked):

    <points coords="0.5 1 100 200 2 300 400;1.0 3 110 210">the dogs</points>
    <tracks coords="0.0 1 031 625;0.5 1 045 625 2 156 156">the dogs</tracks>
    Counting the <points coords="1 1 100 200 2 300 400">dogs</points> shows a total of 2.
    There are 2 <points coords="1 1 100 200 2 300 400">dogs</points>.
    2
    There are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import Literal

from molmo2_ground._answer_coords import CUT_OFF, Group, ParsedPoint, Rejected, Tag, read_coords, shorten
from molmo2_ground.thousandths import spell_coordinate, spell_seconds, to_thousandths

__all__ = [
    "Element",
    "Group",
    "GroupSeparator",
    "ParsedAnswer",
    "ParsedPoint",
    "RawAnswer",
    "Rejected",
    "count_answer",
    "count_first_answer",
    "format_answer",
    "none_answer",
    "number_answer",
    "parse_answer",
    "points_answer",
    "to_thousandths",
    "tracks_answer",
]

NONE_TEXT = "There are none."


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """What a model wrote, and what it took.

    stop_reason  `end`: the model ended its answer; `length`: it was stopped in the middle.
    forwards     passes through the network that wrote the answer, without the one that read the question.
    recipe       how the frames were made and the text decoded, versioned.
    notes        what a reader should know of how it was written, one line each.
    """

    text: str
    stop_reason: Literal["end", "length"]
    tokens_in: int
    tokens_out: int
    forwards: int
    model_id: str
    revision: str | None
    backend: str
    recipe: str
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element with at least one point; `start` and `end` say where it stands in the text.

    label  what the points show, in the model's words, without space at its ends.
    alt    the text of an `alt` attribute, None without one.
    groups in the order of the text; the same key may come twice, and times may go back.
    """

    tag: Tag
    label: str
    alt: str | None = None
    groups: tuple[Group, ...]
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedAnswer:
    """What could be read in an answer, and what could not.

    prose         the text before, between and after the elements: one piece more than there are elements.
                  Empty: `format_answer` words the usual sentence.
    truncated     the text ends inside an element.
    stated_count  the number that the text gives in words such as "a total of 3", None when there is none.
    says_none     the text says that there is nothing to point to, and has no element.
    """

    elements: tuple[Element, ...] = ()
    prose: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    truncated: bool = False
    stated_count: int | None = None
    says_none: bool = False


class GroupSeparator(StrEnum):
    """What stands between groups: a semicolon, or the tab of the pre-training format."""

    SEMICOLON = ";"
    TAB = "\t"


# Writing


def format_answer(parsed: ParsedAnswer, *, separator: GroupSeparator = GroupSeparator.SEMICOLON) -> str:
    """Write an answer as in training, points in the order they have; the inverse of `parse_answer`.

    Raises `ValueError` when `prose` does not have one piece more than there are elements.
    """
    written = [_format_element(element, separator) for element in parsed.elements]
    if not parsed.prose:
        return _usual_sentence(parsed, "".join(written))
    if len(parsed.prose) != len(written) + 1:
        raise ValueError(
            f"{len(written)} elements stand between {len(written) + 1} pieces of prose; "
            f"got {len(parsed.prose)}. Leave prose empty for the usual sentence."
        )
    pieces = [parsed.prose[0]]
    for element, after in zip(written, parsed.prose[1:], strict=True):
        pieces += (element, after)
    return "".join(pieces)


def _usual_sentence(parsed: ParsedAnswer, elements: str) -> str:
    if not parsed.elements:
        return NONE_TEXT if parsed.stated_count is None else str(parsed.stated_count)
    if parsed.stated_count is None:
        return elements
    return f"Counting the {elements} shows a total of {parsed.stated_count}."


def _format_element(element: Element, separator: GroupSeparator) -> str:
    alt = "" if element.alt is None else f' alt="{element.alt}"'
    groups = separator.value.join(_format_group(group) for group in element.groups)
    return f'<{element.tag}{alt} coords="{groups}">{element.label}</{element.tag}>'


def _format_group(group: Group) -> str:
    key = str(group.key) if isinstance(group.key, int) else spell_seconds(group.key)
    points = (f"{p.object_id} {spell_coordinate(p.x)} {spell_coordinate(p.y)}" for p in group.points)
    return " ".join((key, *points))


def points_answer(label: str, groups: Iterable[Group], *, alt: str | None = None) -> ParsedAnswer:
    """The trained answer to a pointing question; "There are none." without points.

    Groups come in order of key, points in order of x, then y, and ids count up through all groups; the ids
    given do not matter. Raises `ValueError` for a key that comes twice or a label that cannot be written.
    """
    return _answer("points", label, _count_up(groups), alt=alt)


def count_answer(label: str, groups: Iterable[Group]) -> ParsedAnswer:
    """The trained answer to a counting question: the points, and how many; "There are none." without points.

    Order, ids and errors as for `points_answer`.
    """
    return _answer("points", label, _count_up(groups), counted="after")


def count_first_answer(label: str, groups: Iterable[Group]) -> ParsedAnswer:
    """The trained answer that counts first and points then; "There are none." without points.

    Order, ids and errors as for `points_answer`.
    """
    return _answer("points", label, _count_up(groups), counted="before")


def number_answer(count: int) -> ParsedAnswer:
    """The trained answer that counts and does not point: the number alone; "There are none." for 0."""
    if count < 0:
        raise ValueError(f"a count is 0 or more; got {count}")
    return parse_answer(str(count)) if count else none_answer()


def tracks_answer(label: str, groups: Iterable[Group]) -> ParsedAnswer:
    """The trained answer to a tracking question; "There are none." without points.

    The ids given say which points are one object. Groups come in order of time; objects are numbered as they
    appear, those of one frame in order of x, then y, and stand in the order of these numbers. Raises
    `ValueError` for a time or, within one, an object that comes twice, or a label that cannot be written.
    """
    numbers: dict[int, int] = {}
    ordered = []
    for group in _in_order(groups):
        for point in _by_place(group):
            numbers.setdefault(point.object_id, len(numbers) + 1)
        renamed = (replace(point, object_id=numbers[point.object_id]) for point in group.points)
        ordered.append(Group(key=group.key, points=tuple(sorted(renamed, key=lambda p: p.object_id))))
    return _answer("tracks", label, ordered)


def none_answer() -> ParsedAnswer:
    """The trained answer when nothing matches the question."""
    return parse_answer(NONE_TEXT)


def _in_order(groups: Iterable[Group]) -> list[Group]:
    ordered = sorted((group for group in groups if group.points), key=lambda group: group.key)
    for before, after in pairwise(ordered):
        if before.key == after.key:
            raise ValueError(f"one group for each time or image is expected; {after.key} comes twice")
    return ordered


def _by_place(group: Group) -> list[ParsedPoint]:
    return sorted(group.points, key=lambda point: (point.x, point.y))


def _count_up(groups: Iterable[Group]) -> list[Group]:
    ordered, count = [], 0
    for group in _in_order(groups):
        points = tuple(replace(p, object_id=count + i) for i, p in enumerate(_by_place(group), start=1))
        count += len(points)
        ordered.append(Group(key=group.key, points=points))
    return ordered


def _answer(
    tag: Tag,
    label: str,
    groups: list[Group],
    *,
    alt: str | None = None,
    counted: Literal["after", "before"] | None = None,
) -> ParsedAnswer:
    if not groups:
        return none_answer()
    count = sum(len(group.points) for group in groups)
    element = Element(tag=tag, label=label.strip(), alt=alt, groups=tuple(groups))
    prose = (f"There are {count} ", ".") if counted == "before" else ()
    stated = count if counted else None
    written = format_answer(ParsedAnswer(elements=(element,), prose=prose, stated_count=stated))
    parsed = parse_answer(written)
    # Times are rounded to tenths in writing, so places are compared without their keys.
    read = [(e.label, e.alt, [group.points for group in e.groups]) for e in parsed.elements]
    if parsed.rejected or read != [(element.label, alt, [group.points for group in groups])]:
        why = parsed.rejected[0].reason if parsed.rejected else "its label or alt text reads as markup"
        raise ValueError(f"this answer cannot be written so that it reads the same: {why}. Got {written!r}")
    return parsed


# Reading


# Repeats are possessive (`*+`) where two of them meet: giving back what they took would cost square time.
_EVENT = re.compile(
    r"<\s*(?P<open>points?|tracks?)(?![a-z0-9_])"
    r"|<\s*/\s*(?P<close>points?|tracks?)\s*>"
    r"|(?<![a-z0-9_])(?P<coords>coords)\s*=\s*\\?[\"']?",
    re.IGNORECASE | re.ASCII,
)
_VALUE_END = re.compile(r"\\?[\"']|[<>]|/\s*>")
_ATTRIBUTE = re.compile(r"\s++([A-Za-z_]++)\s*+=\s*+(?:\"([^\"<>]*)\"|'([^'<>]*)')")
_TAG_END = re.compile(r"\s*+(/?+)\s*+>")
_TO_ANGLE = re.compile(r"[^<>]*")
_ALT = re.compile(r"alt\s*=\s*\\?([\"'])", re.IGNORECASE)
_CLOSERS = ("</points>", "</tracks>", "</point>", "</track>")
_OPENERS = ("<points", "<tracks")

# Thousands may be parted by commas; part of a number (`3.5`, `2,5`) is no count.
_NUMBER = r"([0-9]{1,3}(?:,[0-9]{3}){1,2}|[0-9]{1,9})(?![0-9]|[.,][0-9])"
_TOTAL = re.compile(rf"\btotal of\s+{_NUMBER}", re.IGNORECASE)
_THERE_ARE = re.compile(rf"\bthere (?:are|is)\s+{_NUMBER}", re.IGNORECASE)
_NUMBER_ONLY = re.compile(rf"\s*+{_NUMBER}\s*+\.?+\s*+")
_SAYS_NONE = re.compile(r"\bthere (?:are|is) none\b|\bno tracks available\b", re.IGNORECASE)
_ONLY_NONE = re.compile(
    r"\s*+(?:none|there (?:are|is) no (?!(?:more|fewer|less) than\b)[^.]*+)\.?+\s*+", re.IGNORECASE
)


def parse_answer(text: str) -> ParsedAnswer:
    """Read every complete point of an answer and report the rest; never raises, takes linear time."""
    scan = _Scan(text)
    scan.run()
    prose = " ".join(scan.prose)
    return ParsedAnswer(
        elements=tuple(scan.elements),
        prose=tuple(scan.prose),
        rejected=tuple(scan.rejected),
        truncated=scan.truncated or any(_ends_like(text, opener) for opener in _OPENERS),
        stated_count=_stated_count(prose, pointed=bool(scan.elements)),
        says_none=not scan.elements and bool(_SAYS_NONE.search(prose) or _ONLY_NONE.fullmatch(prose)),
    )


def _stated_count(prose: str, *, pointed: bool) -> int | None:
    stated = _TOTAL.search(prose) or _THERE_ARE.search(prose)
    if stated is None and not pointed:
        stated = _NUMBER_ONLY.fullmatch(prose)
    return int(stated[1].replace(",", "")) if stated else None


def _ends_like(text: str, tag: str) -> bool:
    """Whether the text ends in the beginning of `tag`."""
    tail = text[-len(tag) :].lower()
    at = tail.rfind("<")
    return at >= 0 and tag.startswith(tail[at:])


class _Scan:
    """One pass over openers, closers and `coords=`; a character is looked at a bounded number of times."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.events = list(_EVENT.finditer(text))
        self.at = 0  # the event to look at next
        self.elements: list[Element] = []
        self.prose: list[str] = []
        self.rejected: list[Rejected] = []
        self.truncated = False

    def run(self) -> None:
        done = 0  # the text before this place is in `elements` and `prose`
        while self.at < len(self.events):
            event = self.events[self.at]
            self.at += 1
            if event.lastgroup == "coords":
                self._reject(event.start(), event.end(), "coords outside of a points or tracks tag")
            elif event.lastgroup == "open":
                element = self._read_element(event)
                if element is not None:
                    self.prose.append(self.text[done : element.start])
                    self.elements.append(element)
                    done = element.end
        self.prose.append(self.text[done:])

    def _reject(self, start: int, end: int, reason: str) -> None:
        self.rejected.append(Rejected(text=shorten(self.text[start:end]), reason=reason))

    def _next(self, *kinds: str, from_place: int = 0) -> re.Match[str] | None:
        """The next event of these kinds at or after a place; those passed over are done with."""
        while self.at < len(self.events):
            event = self.events[self.at]
            if event.start() >= from_place and event.lastgroup in kinds:
                return event
            self.at += 1
        return None

    def _read_element(self, opener: re.Match[str]) -> Element | None:
        coords = self.events[self.at] if self.at < len(self.events) else None
        if coords is None or coords.lastgroup != "coords":
            self._reject_opener(opener, len(self.text) if coords is None else coords.start())
            return None
        self.at += 1
        found = _VALUE_END.search(self.text, coords.end())
        value_end = found.start() if found else len(self.text)
        tag: Tag = "points" if opener["open"].lower().startswith("point") else "tracks"
        groups, rejected = read_coords(self.text[coords.end() : value_end], tag=tag, cut=found is None)
        self.rejected += rejected
        alt = self._alt_before(opener.end(), coords.start())
        body, closed = len(self.text), False
        if found:
            body, closed, alt_after = self._end_of_tag(found)
            alt = alt_after if alt is None else alt
        else:
            self.truncated = True
        label, end = self._label(body, closed=closed)
        if groups:
            return Element(tag=tag, label=label, alt=alt, groups=groups, start=opener.start(), end=end)
        if not rejected:
            reason = CUT_OFF if found is None else "the tag has no point"
            self._reject(opener.start(), body, reason)
        return None

    def _reject_opener(self, opener: re.Match[str], limit: int) -> None:
        shown = _TO_ANGLE.match(self.text, opener.end(), limit)
        end = shown.end() if shown else opener.end()
        cut = end == len(self.text)
        self.truncated = self.truncated or cut
        self._reject(opener.start(), end, CUT_OFF if cut else "the tag has no coords")

    def _alt_before(self, start: int, end: int) -> str | None:
        """The alt text between the tag's name and `coords`; it may hold quotes, so the last one closes it."""
        region = self.text[start:end].rstrip()
        found = _ALT.search(region)
        if found is None:
            return None
        closing = region.rfind(found[1], found.end())
        return region[found.end() : closing if closing >= 0 else len(region)].rstrip("\\")

    def _end_of_tag(self, value_end: re.Match[str]) -> tuple[int, bool, str | None]:
        """Where the label begins, whether the tag closed itself, and an alt text that came after coords."""
        at, alt = value_end.end(), None
        if value_end[0] == "<":
            return value_end.start(), True, None
        if value_end[0].endswith(">"):
            return at, value_end[0] != ">", None
        while attribute := _ATTRIBUTE.match(self.text, at):
            if attribute[1].lower() == "alt":
                alt = attribute[2] if attribute[2] is not None else attribute[3]
            at = attribute.end()
        end = _TAG_END.match(self.text, at)
        if end:
            return end.end(), bool(end[1]), alt
        other = _TO_ANGLE.match(self.text, at)
        stop = other.end() if other else at
        if stop == len(self.text):
            self.truncated = True
        if self.text[at:stop].strip(" \n\r\t/"):
            self._reject(at, stop, "text between the coordinates and the end of the tag")
        if self.text[stop : stop + 1] == ">":
            return stop + 1, self.text[at:stop].rstrip().endswith("/"), alt
        return stop, True, alt

    def _label(self, body: int, *, closed: bool) -> tuple[str, int]:
        """The label and where the element ends; `closed` when the tag promised no label."""
        text = self.text
        event = self._next("open", "close", from_place=body)
        if event is not None and event.lastgroup == "close":
            self.at += 1
            return text[body : event.start()].strip(), event.end()
        if closed:
            return "", body
        limit = len(text) if event is None else event.start()
        # Nothing closes the element: its label is one line at most.
        newline = text.find("\n", body, limit)
        if newline >= 0:
            return text[body:newline].strip(), newline
        if limit == len(text):
            self.truncated = True
            for closer in _CLOSERS:
                tail = text.rfind("<", max(body, limit - len(closer)), limit)
                if tail >= 0 and closer.startswith(text[tail:limit].lower()):
                    return text[body:tail].strip(), limit
        return text[body:limit].strip(), limit

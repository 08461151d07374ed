"""What stands between the quotes of `coords="…"`: groups of points, read tolerantly in one pass.

    coords = group { ";" group }      group = key point { point }      point = id x y

A key is the number of an image or a time in seconds, an id counts from 1, x and y are three digits or 1000.
Models also write tabs, commas and colons between groups, forget them, stop in the middle, and slip in other
ways; every complete point is kept, everything else is reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from molmo2_ground.thousandths import FULL, spell_coordinate

Tag = Literal["points", "tracks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A piece of the answer that was left out, and why."""

    text: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedPoint:
    """One place: x and y in thousandths of the picture's width and height, 0 to 1000."""

    object_id: int
    x: int
    y: int

    def __post_init__(self) -> None:
        if not (0 <= self.x <= FULL and 0 <= self.y <= FULL):
            raise ValueError(f"x and y are 0 to {FULL} thousandths; got {self.x} and {self.y}")
        if self.object_id < 0:
            raise ValueError(f"an object id is 0 or above; got {self.object_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The points of one picture. `key` is the image's number from 1 (int) or seconds (float)."""

    key: int | float
    points: tuple[ParsedPoint, ...]


CUT_OFF = "the answer was cut off here"
_NO_POINT = "no point follows the time or picture number"
_INCOMPLETE = "a point needs an object id, x and y"
_NO_ID = "no object id before the coordinates"
_NO_KEY = "no time or picture number can be read where the group begins"
_NOT_A_POINT = "not part of a point"
_WRITTEN_TWICE = "the same point was written before"

# "0500" is read as 500: the extra zero in front leaves no doubt. "50" may be 050 or 500, and is not read.
_COORDINATES = {spell_coordinate(n): n for n in range(FULL + 1)} | {f"{n:04d}": n for n in range(FULL)}

_TOKEN = re.compile(
    # Minutes and seconds are one word although ":" also separates groups. A coordinate has three digits, so
    # "200:12" is none. A comma for a decimal point is one unreadable word: 0,5 is not picture 5.
    r"(?<![^\s;,])[0-9]{1,2}(?::[0-5][0-9]){1,2}(?:\.[0-9]+)?(?!\S)"
    r"|(?<![^\s;:])[0-9]{1,2},[0-9](?!\S)"
    r"|[;,:\t]|[^\s;,:]+"
)
_SEPARATORS = frozenset(";,:\t")
_KEY = re.compile(r"[0-9]{1,9}(\.[0-9]{0,9})?")
_CLOCK = re.compile(r"(?:([0-9]{1,2}):)?([0-9]{1,2}):([0-9]{2}(?:\.[0-9]{1,9})?)")
# Words of digits with points, colons or commas inside: where an id is due, these begin a new group.
_LIKE_A_KEY = re.compile(r"-?(?:[0-9]+[.:,]|[.:,]+[0-9])[0-9.:,]*")
_ID = re.compile(r"[0-9]{1,9}")
_PADDED = re.compile(r"0[0-9]{2,3}")
_NUMBER = re.compile(r"-?[0-9]{1,9}(\.[0-9]{0,9})?")

# Ids count up from 1, so a number that is far above all ids so far is no id where reading lost its step.
_NEXT_ID_REACH = 10
# After so many slips in one element it is noise; well-formed groups in the rest are still read, and fast.
_PATIENCE = 1000
_GAVE_UP = f"after {_PATIENCE} slips only groups without any are read"

_SHOWN_TOKENS = 60
_SHOWN_CHARACTERS = 200


def shorten(text: str) -> str:
    """The beginning of a long text, and how much follows; reports must stay readable."""
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}… ({len(text) - _SHOWN_CHARACTERS} more characters)"


def read_coords(value: str, *, tag: Tag, cut: bool) -> tuple[tuple[Group, ...], list[Rejected]]:
    """Read the points between the quotes; never raises.

    cut: the text ended before the closing quote, so the last number may be the first digits of a longer one.
    """
    reader = _Reader(value, tag=tag, cut=cut)
    reader.read()
    return tuple(reader.groups), reader.rejected


def _read_key(token: str) -> int | float | None:
    key = _KEY.fullmatch(token)
    if key:
        return float(token) if key[1] else int(token)
    clock = _CLOCK.fullmatch(token)
    if clock:
        return int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3])
    return None


def _is_id(token: str) -> bool:
    return _ID.fullmatch(token) is not None and _PADDED.fullmatch(token) is None


class _Kinds(dict[str, str]):
    """One letter for each word, so that a regular expression can run over words."""

    def __missing__(self, token: str) -> str:
        if token in _SEPARATORS:
            kind = ";"
        elif token in _COORDINATES:
            kind = "b" if _is_id(token) else "c"  # both coordinate and id, or coordinate alone
        elif _is_id(token):
            kind = "i"
        else:
            kind = "k" if _read_key(token) is not None else "x"
        self[token] = kind
        return kind


_WHOLE_GROUP = re.compile(r"(?<![^;])[bcik](?:[bi][bc][bc])++(?![^;])")


class _Reader:
    """One pass over the words; each step takes at least one, and looks only a few ahead."""

    def __init__(self, value: str, *, tag: Tag, cut: bool) -> None:
        self.tokens: list[str] = _TOKEN.findall(value)
        self.tag = tag
        self.cut = cut
        # "100" at the very end may be the beginning of "1000"; any other three digits are complete.
        self.last_is_open = cut and value[-1:] == "0" and self.tokens[-1:] == ["100"]
        self.at = 0
        self.groups: list[Group] = []
        self.rejected: list[Rejected] = []
        self.highest_id = 0
        self.seen: set[tuple[float, int] | tuple[float, int, int, int]] = set()
        self.dropped = (0, 0, "")  # first word, one after the last, reason; not yet reported
        self.slips = 0

    def read(self) -> None:
        n = len(self.tokens)
        while self.at < n:
            if self.tokens[self.at] in _SEPARATORS:
                self.at += 1
            elif self.slips > _PATIENCE:
                self._read_whole_groups()
            else:
                self._read_group()
        self._report_dropped()

    def _read_group(self) -> None:
        first = self.at
        key = _read_key(self.tokens[first])
        if key is None:
            self._skip_group()
            return
        self.at += 1
        if self._is_separator(self.at) and self._is_point(self.at + 1):
            self.at += 1  # "0.5: 1 100 200": the colon ends the key, not the group
        if self.at >= len(self.tokens) or self._is_separator(self.at):
            self._drop(first, self.at, CUT_OFF if self._ends_cut(self.at) else _NO_POINT)
            return
        points = self._read_points(key)
        if points:
            self.groups.append(Group(key=key, points=tuple(points)))

    def _read_points(self, key: int | float) -> list[ParsedPoint]:
        tokens, n = self.tokens, len(self.tokens)
        points: list[ParsedPoint] = []
        first, highest_before = self.at, self.highest_id
        checked_for_ids = False
        while self.at < n and tokens[self.at] not in _SEPARATORS and self.slips <= _PATIENCE:
            at = self.at
            if self._is_point(at):
                self._take_point(key, points)
                continue
            if self._begins_group(at, key):
                break
            if not checked_for_ids:
                checked_for_ids = True
                end = self._end_of_bare_coordinates(first, highest_before)
                if end is not None:
                    self._forget(key, points, highest_before)
                    self._drop(first, end, _NO_ID)
                    self.at = end
                    return []
            self._step_over(at)
        return points

    def _read_whole_groups(self) -> None:
        """Read what is well-formed between separators in the rest, without a closer look at anything else."""
        first = self.at
        kinds = "".join(map(_Kinds().__getitem__, self.tokens))
        # A separator in front, so that a group half read already does not count as a whole one.
        for group in _WHOLE_GROUP.finditer(kinds, kinds.find(";", first) + 1 or len(kinds)):
            key = _read_key(self.tokens[group.start()])
            assert key is not None  # the pattern admits only words that are keys
            points: list[ParsedPoint] = []
            for self.at in range(group.start() + 1, group.end(), 3):
                self._take_point(key, points)
            if points:
                self.groups.append(Group(key=key, points=tuple(points)))
        self.at = len(self.tokens)
        self._report(first, self.at, _GAVE_UP)

    def _take_point(self, key: int | float, points: list[ParsedPoint]) -> None:
        at, tokens = self.at, self.tokens
        self.at += 3
        if self.last_is_open and self.at == len(tokens):
            self._drop(at, self.at, CUT_OFF)
            return
        object_id, x, y = int(tokens[at]), _COORDINATES[tokens[at + 1]], _COORDINATES[tokens[at + 2]]
        # An id names one object in a track, so twice in one frame contradicts itself. Ids of points only
        # count; there just the very same point again (a model that runs in circles) tells nothing new.
        mark = (key, object_id) if self.tag == "tracks" else (key, object_id, x, y)
        if mark in self.seen:
            again = f"object {object_id} was already given a place at {key}"
            self._drop(at, self.at, again if self.tag == "tracks" else _WRITTEN_TWICE)
            return
        self.seen.add(mark)
        self.highest_id = max(self.highest_id, object_id)
        points.append(ParsedPoint(object_id=object_id, x=x, y=y))

    def _forget(self, key: int | float, points: list[ParsedPoint], highest_before: int) -> None:
        for p in points:
            mark = (key, p.object_id) if self.tag == "tracks" else (key, p.object_id, p.x, p.y)
            self.seen.discard(mark)
        self.highest_id = highest_before

    # What stands where

    def _is_separator(self, at: int) -> bool:
        return at < len(self.tokens) and self.tokens[at] in _SEPARATORS

    def _is_point(self, at: int) -> bool:
        tokens = self.tokens
        return (
            at + 2 < len(tokens)
            and tokens[at + 2] in _COORDINATES
            and tokens[at + 1] in _COORDINATES
            and _is_id(tokens[at])
        )

    def _is_like_a_key(self, at: int) -> bool:
        return at < len(self.tokens) and _LIKE_A_KEY.fullmatch(self.tokens[at]) is not None

    def _is_next_id(self, at: int) -> bool:
        token = self.tokens[at]
        return len(token) <= 2 and _is_id(token) and int(token) <= self.highest_id + _NEXT_ID_REACH

    def _begins_group(self, at: int, key: int | float) -> bool:
        """Whether a new key stands where an id is due, because the separator was forgotten."""
        token = self.tokens[at]
        if _LIKE_A_KEY.fullmatch(token):
            return True
        return (
            isinstance(key, int)
            and _is_id(token)
            and int(token) > key
            and self._is_point(at + 1)
            and len(self.tokens[at + 1]) <= 2
        )

    def _ends_cut(self, end: int) -> bool:
        return self.cut and end == len(self.tokens)

    def _end_of_bare_coordinates(self, first: int, highest_before: int) -> int | None:
        """Where the group ends, if it holds nothing but coordinates and no id that could be one."""
        tokens, end = self.tokens, first
        while end < len(tokens) and tokens[end] in _COORDINATES:
            end += 1
        if end == first or self._ends_cut(end) or (end < len(tokens) and not self._is_separator(end)):
            return None
        return end if not _is_id(tokens[first]) or int(tokens[first]) > highest_before + 1 else None

    # Going on after a slip

    def _skip_group(self) -> None:
        """Leave out a group without a readable key, up to a separator or to the next key."""
        first = self.at
        self.at += 1
        while self.at < len(self.tokens) and not self._is_separator(self.at):
            if self._is_like_a_key(self.at) and self._is_point(self.at + 1):
                break
            self.at += 1
        self._drop(first, self.at, _NO_KEY)

    def _step_over(self, at: int) -> None:
        """Leave out what stands at `at`, where no point begins, and find the next place to read on."""
        tokens = self.tokens
        end = at
        while end < min(at + 3, len(tokens)) and tokens[end] not in _SEPARATORS:
            end += 1
        if not _is_id(tokens[at]):
            self._step_over_no_id(at, end)
        elif end < at + 3:
            self._drop(at, end, CUT_OFF if self._ends_cut(end) else _INCOMPLETE)
            self.at = end
        elif (self._is_next_id(at + 1) or self._is_like_a_key(at + 1)) and self._is_point(
            at + (1 if self._is_next_id(at + 1) else 2)
        ):
            self._drop(at, at + 1, _INCOMPLETE)
            self.at = at + 1
        elif (self._is_next_id(at + 2) and self._is_point(at + 2)) or (
            self._is_like_a_key(at + 2) and not self._is_like_a_key(at + 1) and self._is_point(at + 3)
        ):
            self._drop(at, at + 2, _INCOMPLETE)
            self.at = at + 2
        else:
            self._report(at, end, self._what_is_wrong(at))
            self.at = end

    def _step_over_no_id(self, at: int, end: int) -> None:
        if _PADDED.fullmatch(self.tokens[at]):
            self.at = min(at + 2, end)
            self._drop(at, self.at, _NO_ID)
            return
        self.at = at + 1
        self._drop(at, self.at, _NOT_A_POINT)

    def _what_is_wrong(self, at: int) -> str:
        for axis, token in (("x", self.tokens[at + 1]), ("y", self.tokens[at + 2])):
            if token in _COORDINATES:
                continue
            if axis == "y" and self._ends_cut(at + 3):
                return CUT_OFF
            number = _NUMBER.fullmatch(token)
            if not number:
                return f"{axis} is not a number: {shorten(token)}"
            if number[1]:
                return f"{axis} has a decimal point: {token}, expected whole thousandths"
            if not 0 <= int(token) <= FULL:
                return f"{axis} is out of range: {token}, expected 0 to {FULL}"
            return f"{axis} has the wrong number of digits: {token}, expected three, or 1000"
        raise AssertionError("only called for a point with a wrong coordinate")

    # Reports

    def _drop(self, first: int, end: int, reason: str) -> None:
        """Report words; neighbours with one reason become one report."""
        self.slips += 1
        last_first, last_end, last_reason = self.dropped
        if reason == last_reason and _SEPARATORS.issuperset(self.tokens[last_end:first]):
            self.dropped = (last_first, end, reason)
            return
        self._report_dropped()
        self.dropped = (first, end, reason)

    def _report_dropped(self) -> None:
        first, end, reason = self.dropped
        self.dropped = (0, 0, "")
        if reason:
            self._add(first, end, reason)

    def _report(self, first: int, end: int, reason: str) -> None:
        self.slips += 1
        self._report_dropped()
        self._add(first, end, reason)

    def _add(self, first: int, end: int, reason: str) -> None:
        text = " ".join(self.tokens[first : min(end, first + _SHOWN_TOKENS)])
        if end > first + _SHOWN_TOKENS:
            text += f" … ({end - first - _SHOWN_TOKENS} more words)"
        self.rejected.append(Rejected(text=shorten(text), reason=reason))

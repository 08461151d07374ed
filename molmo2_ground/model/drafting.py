"""`draft`: a guess at how an answer goes on, for the network to check many words in one run.

Places in a video move smoothly, so the next moment of a track can be guessed from the two before: its time,
the same things, each as far on as it came last. An answer's set phrases and its label, which repeats the
question, are guessed too. A wrong guess costs nothing but its place in the run; what is written is what the
network alone would have written (`writing.Writing`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

_OPEN = re.compile(r'<(tracks|points)[^<>]*? coords="([^"<>]*)\Z')
_LABEL = re.compile(r'<(tracks|points)[^<>]*? coords="[^"<>]*">([^<>]*)\Z')
_KEY = re.compile(r"[0-9]+\.[0-9]\Z")
_FULL = 1000  # coordinates are thousandths of the picture
_DIGITS = 3  # of a coordinate, but of the last one
_USUAL_STEP = 5  # tenths of a second between two moments of a track that was asked for without a rate
_LOOKS_BACK = 3  # moments
# Answers that say one thing only, and how those with places begin (facts of the answer grammar, `answer.py`).
_OPENINGS = ("There are none.", '<tracks coords="', '<points coords="', 'Counting the <points coords="')
_COUNTED = ("Counting the ", " shows a total of ")
_FIRST = "0.0 1 "


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is known of an answer before it is written.

    label: the words between the tags, as the question has them. last_s: the last moment shown, seconds; None
    for still images.
    """

    label: str = ""
    last_s: float | None = None


NOTHING_KNOWN = Expected()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """One moment as written: its time in tenths of a second, and (x, y) by id, in the order of writing."""

    tenths: int
    places: Mapping[int, tuple[int, int]]


def draft(written: str, expected: Expected = NOTHING_KNOWN) -> str:
    """The text that may come next; empty when there is nothing to go by.

    written: the answer so far, or its end from a little before its last opening tag on.
    """
    match = _OPEN.search(written)
    if match is not None:
        inside = _track if match[1] == "tracks" else _points
        return inside(match[2], written, expected)
    match = _LABEL.search(written)
    if match is not None:
        known = expected.label.startswith(match[2]) and expected.label
        return _close(written, match[1], rest=expected.label[len(match[2]) :]) if known else ""
    for opening in _OPENINGS:
        if written and opening.startswith(written):
            return opening[len(written) :] + (_FIRST if opening.endswith('"') else "")
    return ""


def _track(coords: str, written: str, expected: Expected) -> str:
    """What may follow inside a track: the rest of this moment, and the next one or the end."""
    *earlier, current = coords.split(";")
    groups = [group for text in earlier[-_LOOKS_BACK:] if (group := _read(text)) is not None]
    if len(groups) < min(_LOOKS_BACK, len(earlier)):
        return ""
    rest = _rest(_next(groups, current) if groups else _FIRST, current) or _between(current, first=not groups)
    whole = _read(current + rest)
    if whole is None:
        return rest
    groups.append(whole)
    if expected.last_s is not None and whole.tenths + _step(groups) > round(10 * expected.last_s):
        return rest + _end(written, "tracks", label=expected.label)
    return f"{rest};{_next(groups, '')}"


def _points(coords: str, written: str, expected: Expected) -> str:
    """What may follow inside points: how they begin, what stands between numbers, and the end."""
    if _FIRST.startswith(coords):
        return _FIRST[len(coords) :]
    current = coords.rsplit(";", 1)[-1]
    between = _between(current, first=True)
    return between or (_end(written, "points", label=expected.label) if _read(current) is not None else "")


def _between(current: str, *, first: bool) -> str:
    """The space behind a number that is whole; behind the last one of several things, the next one's id too.

    first: nothing is known of how many there are; where one is not alone, another follows.
    """
    fields = current.split(" ")
    number = fields[-1]
    if len(fields) < 2 or not _is_number(number):
        return ""
    kind = (len(fields) - 2) % 3  # id, x, y
    if kind == 0 or (kind == 1 and len(number) == _DIGITS):
        return " "
    known = fields[-3]
    several = len(fields) > 4
    return f" {int(known) + 1} " if first and several and len(number) == _DIGITS and _is_number(known) else ""


def _end(written: str, element: str, *, label: str) -> str:
    return f'">{_close(written, element, rest=label)}' if label else '">'


def _close(written: str, element: str, *, rest: str) -> str:
    """The end of the label, the closing tag, and what follows it where things are counted."""
    before, after = _COUNTED
    return f"{rest}</{element}>{after if f'{before}<{element}' in written else ''}"


def _step(groups: list[_Group]) -> int:
    """Tenths of a second from one moment to the next."""
    steps = [b.tenths - a.tenths for a, b in pairwise(groups) if b.tenths > a.tenths]
    return min(steps, default=_USUAL_STEP)


def _next(groups: list[_Group], current: str) -> str:
    """The group that should follow, fitted to what of it is written already: `key id x y id x y`."""
    last = groups[-1]
    fields = current.split(" ")
    tenths = last.tenths + _step(groups)
    if len(fields) > 1 and _KEY.match(fields[0]):
        tenths = int(fields[0].replace(".", ""))
    things = _moved_on(groups, tenths)
    whole = max(0, (len(fields) - 2) // 3)  # triples with their last field behind them
    written = [(int(i), int(x), int(y)) for i, x, y in _triples(fields[1 : 1 + 3 * whole])]
    at, renumbered = _reached(things, written)
    begun = fields[1 + 3 * whole :]
    # Ids go on from the last one where things are numbered anew in each moment.
    next_id = written[-1][0] + 1 if written else 1
    parts = [f"{tenths // 10}.{tenths % 10}", *fields[1 : 1 + 3 * whole]]
    if len(begun) > 1:  # the thing that is being written has its id
        if not _is_number(begun[0]):
            return " ".join(parts)
        object_id = int(begun[0])
        found = _meant(things, at, object_id, begun[1], renumbered=renumbered)
        parts.append(begun[0])
        if found is None:
            return " ".join(parts)  # a new thing: nothing is known about it
        place = things[found][1:]
        for axis in range(2):
            spelt = begun[1 + axis] if len(begun) > 1 + axis else ""
            parts.append(spelt if axis + 2 < len(begun) else _number(place[axis], spelt))
        at, next_id = found + 1, object_id + 1
        renumbered = renumbered or things[found][0] != object_id
    for known, x, y in things[at:]:
        parts += [str(next_id if renumbered else known), _number(x, ""), _number(y, "")]
        next_id += 1
    return " ".join(parts)


def _is_number(text: str) -> bool:
    # Other writings have digits too, and int() does not take all of them.
    return text.isascii() and text.isdigit()


_Thing = tuple[int, float, float]
_OFF = 25  # thousandths: a guess may be wrong by so much and still be of this thing
_NEAR = 150  # thousandths, along both axes together: as far as things come from one moment to the next


def _moved_on(groups: list[_Group], tenths: int) -> list[_Thing]:
    """(id, x, y) of what the last moment shows, each moved on as it came there, in the order of writing."""
    last, before = groups[-1], groups[-2] if len(groups) > 1 else groups[-1]
    # The longer the time, the farther things have come.
    share = (tenths - last.tenths) / max(1, last.tenths - before.tenths)
    things = []
    for object_id, now in last.places.items():
        then = before.places.get(object_id, now)
        if _apart(then, now) > _NEAR:  # another thing that had this number
            then = min(before.places.values(), key=lambda place: _apart(place, now))
            then = then if _apart(then, now) <= _NEAR else now
        x, y = (now[axis] + (now[axis] - then[axis]) * share for axis in range(2))
        things.append((object_id, x, y))
    return things


def _apart(a: tuple[float, float], b: tuple[float, float]) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _triples(fields: list[str]) -> list[tuple[str, str, str]]:
    whole = [field for field in fields if _is_number(field)]
    return list(zip(whole[::3], whole[1::3], whole[2::3], strict=False))


def _reached(things: list[_Thing], written: list[tuple[int, int, int]]) -> tuple[int, bool]:
    """How many of the things are behind the places written, and whether they have other ids there."""
    at, renumbered = 0, False
    for object_id, x, y in written:
        ahead = range(at, len(things))
        nearest = min(ahead, key=lambda n: _apart(things[n][1:], (x, y)), default=None)
        if nearest is not None and _apart(things[nearest][1:], (x, y)) <= _NEAR:
            at, renumbered = nearest + 1, things[nearest][0] != object_id
    return at, renumbered


def _meant(things: list[_Thing], at: int, object_id: int, begun: str, *, renumbered: bool) -> int | None:
    """Which thing has this id, and an x that begins so; None for a new one."""
    same = [n for n, thing in enumerate(things) if thing[0] == object_id]
    rest = [n for n in range(at, len(things)) if n not in same]
    order = rest + same if renumbered else same + (rest if begun else [])
    fitting = [n for n in order if abs(int(_number(things[n][1], begun)) - things[n][1]) <= _OFF]
    return next(iter(fitting or order), None)


def _number(guess: float, begun: str) -> str:
    """The coordinate nearest to a guess among those that begin with these digits."""
    if len(begun) >= _DIGITS:
        return begun
    value = min(max(round(guess), 0), _FULL)
    if _is_number(begun) and not (begun == "100" or value == _FULL):
        span = 10 ** (_DIGITS - len(begun))
        low = int(begun) * span
        value = min(max(value, low), low + span - 1)
    return f"{value:03d}"


def _rest(expected: str, current: str) -> str:
    return expected[len(current) :] if expected.startswith(current) else ""


def _read(text: str) -> _Group | None:
    """A whole group, or None."""
    fields = text.split(" ")
    if len(fields) % 3 != 1 or len(fields) < 4 or not _KEY.match(fields[0]):
        return None
    if not all(_is_number(field) for field in fields[1:]) or any(
        len(field) not in (3, 4) for at, field in enumerate(fields[1:]) if at % 3
    ):
        return None
    numbers = [int(field) for field in fields[1:]]
    places = {numbers[i]: (numbers[i + 1], numbers[i + 2]) for i in range(0, len(numbers), 3)}
    return _Group(tenths=int(fields[0].replace(".", "")), places=places)

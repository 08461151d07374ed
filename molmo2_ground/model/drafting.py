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
    rest = _rest(_next(groups, current) if groups else _FIRST, current)
    whole = _read(current + rest)
    if whole is None:
        return rest
    groups.append(whole)
    if expected.last_s is not None and whole.tenths + _step(groups) > round(10 * expected.last_s):
        return rest + _end(written, "tracks", label=expected.label)
    return f"{rest};{_next(groups, '')}"


def _points(coords: str, written: str, expected: Expected) -> str:
    """What may follow inside points, which are mostly one: how it begins, and the end."""
    if _FIRST.startswith(coords):
        return _FIRST[len(coords) :]
    whole = _read(coords.rsplit(";", 1)[-1]) is not None
    return _end(written, "points", label=expected.label) if whole else ""


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
    last, before = groups[-1], groups[-2] if len(groups) > 1 else groups[-1]
    fields = current.split(" ")
    done = len(fields) - 1  # fields that are known to be whole
    tenths = last.tenths + _step(groups)
    if done and _KEY.match(fields[0]):
        tenths = int(fields[0].replace(".", ""))
    written = [int(field) for field in fields[1:done:3] if field.isdigit()]
    later = [known for known in last.places if known > max(written, default=0)]
    parts = [f"{tenths // 10}.{tenths % 10}"]
    # The longer the time, the farther things have come.
    share = (tenths - last.tenths) / max(1, last.tenths - before.tenths)
    for number, object_id in enumerate([*written, *later]):
        parts.append(str(object_id))
        now = last.places.get(object_id)
        then = before.places.get(object_id, now)
        for axis in range(2):
            place = 2 + 3 * number + axis
            begun = fields[place] if place < len(fields) else ""
            if place < done:
                parts.append(begun)
            elif now is None or then is None:
                return " ".join(parts)  # a new thing: nothing is known about it
            else:
                parts.append(_number(now[axis] + (now[axis] - then[axis]) * share, begun))
    return " ".join(parts)


def _number(guess: float, begun: str) -> str:
    """The coordinate nearest to a guess among those that begin with these digits."""
    value = min(max(round(guess), 0), _FULL)
    if begun.isdigit() and len(begun) < 3 and not (begun == "100" or value == _FULL):
        span = 10 ** (3 - len(begun))
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
    if not all(field.isdigit() for field in fields[1:]) or any(
        len(field) not in (3, 4) for at, field in enumerate(fields[1:]) if at % 3
    ):
        return None
    numbers = [int(field) for field in fields[1:]]
    places = {numbers[i]: (numbers[i + 1], numbers[i + 2]) for i in range(0, len(numbers), 3)}
    return _Group(tenths=int(fields[0].replace(".", "")), places=places)

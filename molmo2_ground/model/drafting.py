"""`draft`: a guess at how an answer goes on, for the network to check many words in one run.

Places in a video move smoothly, so the next moment of a track can be guessed from the two before: its time,
the same things, each as far on as it came last. A wrong guess costs nothing but its place in the run; what
is written is what the network alone would have written (`decoding.decode`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

_OPEN = re.compile(r'<(?:tracks|points)[^<>]*? coords="([^"<>]*)\Z')
_KEY = re.compile(r"[0-9]+\.[0-9]\Z")
_FULL = 1000  # coordinates are thousandths of the picture
_USUAL_STEP = 5  # tenths of a second between two moments of a track that was asked for without a rate
_LOOKS_BACK = 3  # moments


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """One moment as written: its time in tenths of a second, and (x, y) by id, in the order of writing."""

    tenths: int
    places: Mapping[int, tuple[int, int]]


def draft(written: str) -> str:
    """The text that may come next; empty when there is nothing to go by.

    written: the answer so far, or its end from the last `coords="` on.
    """
    match = _OPEN.search(written)
    if match is None:
        return ""
    *earlier, current = match[1].split(";")
    groups = [group for text in earlier[-_LOOKS_BACK:] if (group := _read(text)) is not None]
    if len(groups) < min(_LOOKS_BACK, len(earlier)):
        return ""
    if not groups:
        return _rest("0.0 1 ", current)
    rest = _rest(_next(groups, current), current)
    whole = _read(current + rest)
    if whole is None:
        return rest
    return f"{rest};{_next([*groups, whole], '')}"


def _next(groups: list[_Group], current: str) -> str:
    """The group that should follow, fitted to what of it is written already: `key id x y id x y`."""
    last, before = groups[-1], groups[-2] if len(groups) > 1 else groups[-1]
    steps = [b.tenths - a.tenths for a, b in pairwise(groups) if b.tenths > a.tenths]
    fields = current.split(" ")
    done = len(fields) - 1  # fields that are known to be whole
    tenths = last.tenths + min(steps, default=_USUAL_STEP)
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

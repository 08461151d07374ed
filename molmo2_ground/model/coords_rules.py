"""`CoordsRules`: what may stand between the quotes of `coords="…"`, character by character.

    coords = group { ";" group }      group = key { " " id " " x " " y }

Keys rise; ids of points count up through all groups, ids of tracks name what was named before or the next new
thing, no id twice in a group; x and y are three digits or 1000.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from molmo2_ground.runaway import Run
from molmo2_ground.thousandths import FULL

Part = Literal["key", "id", "x", "y"]
_DIGITS = "0123456789"
_PLACES = 3  # digits of a coordinate, but of the last one
_LAST = str(FULL)
LAST_DIGIT = _PLACES - 1


class CoordsState(NamedTuple):
    """How far an element's places have come.

    part, read: which number is being written, and its digits so far. key: number of the group's key, -1 at
    the beginning. ids: of the tracks of this group. highest: the highest id so far.
    object_id, x: of the point that is being written. run: how new things followed each other.
    """

    name: str
    part: Part = "key"
    read: str = ""
    key: int = -1
    ids: frozenset[int] = frozenset()
    highest: int = 0
    object_id: int = 0
    x: int = 0
    run: Run = Run()
    new_here: bool = False  # whether the last new thing is in this group


class CoordsRules:
    """The rules for places in one clip; arguments as for `AnswerRules`."""

    def __init__(self, keys: Sequence[str], *, most: int | None, cut_runaways: bool) -> None:
        """Take the keys in order."""
        self.keys = tuple(dict.fromkeys(keys))
        self._most = most
        self._limited = f"no more than {most} asked for"
        self._cut_runaways = cut_runaways
        self._number = {key: number for number, key in enumerate(self.keys)}
        # The last key that begins with these characters: what may still come is later than the last one.
        self._reach = {key[:n]: number for number, key in enumerate(self.keys) for n in range(len(key) + 1)}
        self._film = any("." in key for key in self.keys)  # seconds, not numbers of images
        self._key_chars = "".join(sorted(set("".join(self.keys))))

    def start(self, name: str) -> CoordsState:
        """Behind the opening quote of an element of this name, `points` or `tracks`."""
        return CoordsState(name)

    def step(self, state: CoordsState, char: str) -> CoordsState | None:
        """The state behind one more character; None when it may not stand here."""
        match state.part:
            case "key":
                return self._in_key(state, char)
            case "id":
                return self._in_id(state, char)
            case _:
                return self._in_number(state, char)

    def choices(self, state: CoordsState) -> str:
        """The characters that may come next, but for the closing quote."""
        asked = {"key": self._key_chars + " ", "id": f"{_DIGITS} "}.get(state.part, f"{_DIGITS} ;")
        return "".join(char for char in asked if self.step(state, char) is not None)

    def may_end(self, state: CoordsState) -> bool:
        """Whether the closing quote may stand here: behind a whole place."""
        return state.part == "y" and self._is_whole(state)

    def cut(self, state: CoordsState) -> str:
        """Why nothing but the closing quote may come; empty when more may."""
        if state.part != "y" or not self._is_whole(state):
            return ""
        return self._stop(self._placed(state))

    def limit(self, state: CoordsState) -> str:
        """Why the next thing can be no new one; empty when it can."""
        if self._most is None or state.part == "key":
            return ""
        whole = state.part == "y" and self._is_whole(state)
        return self._limited if (self._placed(state) if whole else state).highest >= self._most else ""

    def _in_key(self, state: CoordsState, char: str) -> CoordsState | None:
        if char == " ":
            number = self._number.get(state.read, -1)
            later = number > state.key
            return self._next_group(state, number) if later else None
        read = state.read + char
        return state._replace(read=read) if self._reach.get(read, -1) > state.key else None

    def _next_group(self, state: CoordsState, number: int) -> CoordsState:
        return state._replace(part="id", read="", key=number, ids=frozenset(), new_here=False)

    def _in_id(self, state: CoordsState, char: str) -> CoordsState | None:
        if char == " ":
            if not state.read or not self._free_id(state, int(state.read)):
                return None
            return state._replace(part="x", read="", object_id=int(state.read))
        if char not in _DIGITS:
            return None
        read = state.read + char
        return state._replace(read=read) if any(str(i).startswith(read) for i in self._ids(state)) else None

    def _ids(self, state: CoordsState) -> Iterator[int]:
        """The ids that the next point may have."""
        next_id = state.highest + 1
        if self._most is None or next_id <= self._most:
            yield next_id
        if state.name == "tracks":
            yield from (i for i in range(1, next_id) if i not in state.ids)

    def _free_id(self, state: CoordsState, object_id: int) -> bool:
        next_id = state.highest + 1
        if object_id == next_id:
            return self._most is None or next_id <= self._most
        return state.name == "tracks" and 0 < object_id < next_id and object_id not in state.ids

    def _in_number(self, state: CoordsState, char: str) -> CoordsState | None:
        read = state.read
        if char in _DIGITS:
            longer = read + char
            if len(read) >= _PLACES and longer != _LAST:
                return None
            return state._replace(read=longer)
        if not self._is_whole(state):
            return None
        if state.part == "x":
            return state._replace(part="y", read="", x=int(read)) if char == " " else None
        if char not in " ;":
            return None
        placed = self._placed(state)
        if self._stop(placed):
            return None
        if char == " ":
            more = next(self._ids(placed), None) is not None
            return placed._replace(part="id", read="") if more else None
        return placed._replace(part="key", read="") if placed.key + 1 < len(self.keys) else None

    def _is_whole(self, state: CoordsState) -> bool:
        return len(state.read) >= _PLACES

    def _placed(self, state: CoordsState) -> CoordsState:
        """With the point that is whole now."""
        place = (state.x, int(state.read))
        new = state.object_id > state.highest
        return state._replace(
            ids=state.ids | {state.object_id} if state.name == "tracks" else state.ids,
            highest=max(state.highest, state.object_id),
            run=state.run.then(place, same_picture=state.new_here, film=self._film) if new else state.run,
            new_here=state.new_here or new,
        )

    def _stop(self, placed: CoordsState) -> str:
        if self._cut_runaways and placed.run.rule:
            return placed.run.rule
        if placed.name == "points" and self._most is not None and placed.highest >= self._most:
            return self._limited
        return ""

"""`AnswerRules`: what an answer about one clip may look like, character by character.

Between the quotes of `coords="…"` only what the answer grammar and the clip allow: times of frames that were
shown, each later than the one before (or numbers of images); ids as the element has them; places from 000 to
1000. Around it the model writes freely, so the choice between places and "There are none." is its own; only
markup that no reader could make sense of is closed to it: an opening tag without `coords`, `coords=` outside
of a tag, an element without its closing tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from molmo2_ground.model.coords_rules import LAST_DIGIT, CoordsRules, CoordsState

_NAMES = ("points", "tracks")
_SPACE = " \t\n\r\f\v"
_COORDS, _ALT = ' coords="', ' alt="'
_OPENERS = tuple(f"{blur}<{name}" for blur in ("", "~") for name in ("point", "points", "track", "tracks"))
_WORD = "w"


class Where(Enum):
    """The part of an answer that is being written."""

    PROSE = auto()
    TAG = auto()  # behind `<points`
    AFTER_ALT = auto()
    ALT = auto()
    COORDS = auto()
    SHUT = auto()  # behind the closing quote
    LABEL = auto()


class State(NamedTuple):
    """How far an answer has come.

    read: what has been read of a word that means something; in prose see `_prose`.
    """

    where: Where = Where.PROSE
    read: str = ""
    name: str = ""
    coords: CoordsState | None = None

    @property
    def free(self) -> bool:
        """Whether the model writes as it likes here, also words that are no text."""
        return self.where is Where.PROSE or (self.where is Where.LABEL and not self.closing)

    @property
    def closing(self) -> bool:
        """Whether a closing tag has been begun."""
        return self.where is Where.LABEL and self.read.startswith("</")


START = State()


class AnswerRules:
    """The rules for answers about one clip; states are values, so guesses can be followed and dropped."""

    def __init__(self, keys: Sequence[str], *, most: int | None = None, cut_runaways: bool = True) -> None:
        """Take what may stand in front of places.

        keys: times of the frames or numbers of the images as they are written, in order; the same twice
        counts once. Without any, no element can be written. most: no more things than this, None for no
        limit. cut_runaways: whether an element ends where `runaway` says that it runs in circles.
        """
        self._coords = CoordsRules(keys, most=most, cut_runaways=cut_runaways)
        self.pointing = bool(self._coords.keys)  # whether elements can be written at all

    def step(self, state: State, char: str) -> State | None:
        """The state behind one more character; None when it may not stand here."""
        match state.where:
            case Where.COORDS:
                assert state.coords is not None
                if char == '"':
                    return State(Where.SHUT, name=state.name) if self._coords.may_end(state.coords) else None
                inside = self._coords.step(state.coords, char)
                return None if inside is None else state._replace(coords=inside)
            case Where.PROSE:
                return self._prose(state, char)
            case Where.LABEL:
                return self._label(state, char)
            case Where.SHUT:
                return State(Where.LABEL, name=state.name) if char == ">" else None
            case Where.ALT:
                return self._alt(state, char)
            case _:
                return self._tag(state, char)

    def choices(self, state: State) -> str | None:
        """The characters that may come next; None where that cannot be listed. Never empty."""
        match state.where:
            case Where.COORDS:
                assert state.coords is not None
                return self._coords.choices(state.coords) + (
                    '"' if self._coords.may_end(state.coords) else ""
                )
            case Where.SHUT:
                return ">"
            case Where.TAG | Where.AFTER_ALT:
                return "".join(dict.fromkeys(text[len(state.read)] for text in self._due(state)))
            case Where.LABEL if state.closing:
                return f"</{state.name}>"[len(state.read)]
            case _:
                return None

    def may_end(self, state: State) -> bool:
        """Whether the answer may end here."""
        # An answer that ends in the beginning of a tag reads as one that was cut off.
        return state.where is Where.PROSE and not state.read.startswith(("<", "~"))

    def cut(self, state: State) -> str:
        """Why the element that is being written has to end now; empty when it need not."""
        return "" if state.coords is None else self._coords.cut(state.coords)

    def limit(self, state: State) -> str:
        """Why no new thing may come; empty where one may."""
        return "" if state.coords is None else self._coords.limit(state.coords)

    def ends_place(self, state: State) -> bool:
        """Whether a place is whole, so that something else than a digit may follow."""
        return state.coords is not None and self._coords.may_end(state.coords)

    def in_number(self, state: State) -> bool:
        """Whether a digit of a coordinate is due, or what ends it."""
        return state.coords is not None and state.coords.part in ("x", "y")

    def ends_number(self, state: State) -> bool:
        """Whether the last digit of a coordinate is due."""
        return state.coords is not None and self.in_number(state) and len(state.coords.read) == LAST_DIGIT

    # The steps

    def _prose(self, state: State, char: str) -> State | None:
        """One character of free text.

        read: the beginning of a tag, `<`, `<po`, with a `~` in front when it is not spelt as in training; or
        the beginning of `coords` behind no letter; or `w` behind another letter; or nothing.
        """
        read, low = state.read, char.lower()
        word = (char.isascii() and char.isalnum()) or char == "_"
        if read in _OPENERS and not word:
            opened = read[1:] in _NAMES and char == " " and self._coords.keys
            return State(Where.TAG, " ", name=read[1:]) if opened else None
        if read.startswith("coords"):
            if char == "=":
                return None
            if char in _SPACE:
                return State(read="coords ")
        if char == "<":
            return State(read="<")
        if read in ("<", "~<") and char in _SPACE:
            return State(read="~<")
        if read.startswith(("<", "~")):
            longer = read + low if low == char else f"~{read.lstrip('~')}{low}"
            if any(opener.startswith(longer) for opener in _OPENERS):
                return State(read=longer)
        if "coords".startswith(read + low) and low:
            return State(read=read + low)
        if low == "c" and read != _WORD and not _ends_in_word(read):
            return State(read="c")
        return State(read=_WORD if word else "")

    def _label(self, state: State, char: str) -> State | None:
        """One character of a label; markup in it is the closing tag, or reads as prose."""
        read = state.read + char
        if state.closing or read == "</":
            closing = f"</{state.name}>"
            return (
                START if read == closing else state._replace(read=read) if closing.startswith(read) else None
            )
        inside = self._prose(State(read=state.read), char)
        if inside is None or inside.where is Where.TAG or read == "~</":
            return None
        return state._replace(read=inside.read if inside.read.startswith(("<", "~")) else "")

    def _tag(self, state: State, char: str) -> State | None:
        read = state.read + char
        if not any(text.startswith(read) for text in self._due(state)):
            return None
        if read == _COORDS:
            return State(Where.COORDS, name=state.name, coords=self._coords.start(state.name))
        return State(Where.ALT, name=state.name) if read == _ALT else state._replace(read=read)

    def _due(self, state: State) -> tuple[str, ...]:
        """What may stand in a tag and begins with what has been read."""
        known = (_COORDS,) if state.where is Where.AFTER_ALT else (_COORDS, _ALT)
        return tuple(text for text in known if text.startswith(state.read))

    def _alt(self, state: State, char: str) -> State | None:
        if char == '"':
            return State(Where.AFTER_ALT, name=state.name)
        # The reader takes a `>` in an alt text of an answer that was stopped there for the end of the tag.
        if char in "<>":
            return None
        inside = self._prose(State(read=state.read), char)
        return None if inside is None else state._replace(read=inside.read)


def _ends_in_word(read: str) -> bool:
    return bool(read) and read[-1].isalnum()

"""`Questions`: what is asked of a stream, by name; changed from any thread, taken up by one."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace

from molmo2_ground.query import Query, in_sentence

Question = Query | str
"""A query, or words that name what is to be followed."""

Asked = Question | Mapping[str, Question] | Iterable[Question]


def named(asked: Asked) -> dict[str, Question]:
    """What a user handed in, by name; a question without one is called by its words."""
    if isinstance(asked, Query | str):
        asked = [asked]
    if isinstance(asked, Mapping):
        return dict(asked)
    if not isinstance(asked, Iterable):
        raise ValueError(f"a question is a Query or words, or several of them; got {asked!r}")
    found: dict[str, Question] = {}
    for question in asked:
        if not isinstance(question, Query | str):
            raise ValueError(f"a question is a Query or words; got {question!r}")
        found[_free_name(question, found)] = question
    return found


class Questions:
    """The questions now, and the changes that are still to be taken up."""

    def __init__(self, questions: Mapping[str, Question] | None = None, *, fps: float) -> None:
        """fps: of the stream; places are asked for at this rate, whatever a query says.

        Raises `ValueError` for a question that cannot be asked of a stream, or an empty name.
        """
        self._fps = fps
        self._lock = threading.Lock()
        self._asked: dict[str, Query] = {}
        self._changes: list[tuple[str, Query | None]] = []
        for name, question in (questions or {}).items():
            self.add(question, name=name)

    @property
    def asked(self) -> dict[str, Query]:
        """All of them by name, with changes that are still to be taken up."""
        with self._lock:
            return dict(self._asked)

    def add(self, question: Question, *, name: str | None = None) -> str:
        """Ask this too. Returns its name; without one it is called by its words."""
        query = self._fit(question)
        with self._lock:
            name = _free_name(query, self._asked) if name is None else name
            if not name or not name.strip():
                raise ValueError("a question's name has at least one letter; leave it out to have one made")
            if name in self._asked:
                raise ValueError(f"a question is called {name!r} already; change it, or take another name")
            self._asked[name] = query
            self._changes.append((name, query))
        return name

    def change(self, name: str, question: Question) -> None:
        """Ask this in place of what `name` asked."""
        query = self._fit(question)
        with self._lock:
            self._check(name)
            self._asked[name] = query
            self._changes.append((name, query))

    def remove(self, name: str) -> None:
        """Ask this no more."""
        with self._lock:
            self._check(name)
            del self._asked[name]
            self._changes.append((name, None))

    def changes(self) -> list[tuple[str, Query | None]]:
        """What changed since the call before, in order; None for a question that is asked no more."""
        with self._lock:
            changes, self._changes = self._changes, []
        return changes

    def _fit(self, question: Question) -> Query:
        query = Query.track(question, fps=self._fps) if isinstance(question, str) else question
        if not isinstance(query, Query):
            raise ValueError(f"a question is a Query or words; got {question!r}")
        if query.task != "track":
            return query
        # The model is shown the stream's own grid, and is asked for a place at each of its times.
        return replace(query, fps=self._fps, show_fps=None)

    def _check(self, name: str) -> None:
        if name not in self._asked:
            known = ", ".join(map(repr, self._asked)) or "none"
            raise ValueError(f"no question is called {name!r}; there are: {known}")


def _free_name(question: Question, taken: Mapping[str, object]) -> str:
    words = in_sentence(question if isinstance(question, str) else question.phrase)
    name, number = words, 2
    while name in taken:
        name, number = f"{words} {number}", number + 1
    return name

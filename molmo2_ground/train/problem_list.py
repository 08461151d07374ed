"""`ProblemList`: what is wrong, for people: some of those that are alike are named, and the rest counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# A number of its own: not one in a name such as street3.mp4.
_NUMBER = re.compile(r"(?<![\w./-])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\.?\w|/)")


class Problem(Protocol):
    """Something that is wrong; as a text it begins with its place."""

    @property
    def reason(self) -> str:
        """What is wrong, without its place."""
        ...

    def __str__(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemList:
    """Lines for people.

    lines   the problems that are named, and how many more are like them.
    untold  so many problems are in no line.
    """

    lines: tuple[str, ...]
    untold: int

    @classmethod
    def of(
        cls, problems: Sequence[Problem], *, most: int, alike: int, count: int | None = None, front: str = ""
    ) -> ProblemList:
        """Name at most `most` problems, and of those that differ in numbers alone at most `alike`.

        count: how many there are, when `problems` are only the first of them. front: before each of them.
        """
        kinds = Counter(kind_of(problem.reason) for problem in problems)
        named: Counter[str] = Counter()
        lines, covered = [], 0
        for problem in problems:
            kind = kind_of(problem.reason)
            if named[kind] == alike:
                continue
            if named.total() == most:
                break
            named[kind] += 1
            covered += 1
            lines.append(f"{front}{problem}")
            more = kinds[kind] - alike
            if named[kind] == alike and more:
                lines.append(f"… and {more:,} more like it")
                covered += more
        return cls(lines=tuple(lines), untold=(len(problems) if count is None else count) - covered)


def kind_of(reason: str) -> str:
    """What a reason has in common with those that differ in numbers alone."""
    return _NUMBER.sub("#", reason)

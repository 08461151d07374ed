"""Rows grouped by what they are about: a score by the number of objects, the clip's length, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from molmo2_ground.eval.intervals import bootstrap
from molmo2_ground.eval.record import Row
from molmo2_ground.eval.words import bare

_MOST_GROUPS = 6
_MOST_CATEGORIES = 12
_RESAMPLES = 1000
_FEW = 5  # fewer than this say little: ranges are made wide enough to hold as many examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Examples that have something in common: the mean of a score over them, with its interval.

    files  how many files they are about: what the interval was drawn from.
    """

    label: str
    examples: int
    files: int
    value: float
    low: float
    high: float

    @property
    def telling(self) -> bool:
        """False for a handful of files, whose interval is no more than a guess."""
        return self.files >= _FEW


def tags_of(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Names of the tags that are numbers, and of those that are words, in order of appearance."""
    numbers: dict[str, None] = {}
    words: dict[str, None] = {}
    for row in rows:
        for name, value in row.tags.items():
            (words if isinstance(value, str) else numbers)[name] = None
    return [name for name in numbers if name not in words], list(words)


def by_number(rows: Sequence[Row], score: str, tag: str) -> list[Group]:
    """The score by a tag that is a number, in rising order: each value, or ranges with about as many each."""
    pairs = [(row.tags[tag], row) for row in rows if tag in row.tags and score in row.scores]
    found = sorted(
        ((float(value), row) for value, row in pairs if not isinstance(value, str)),
        key=lambda pair: (pair[0], pair[1].index),
    )
    values = np.array([value for value, _ in found])
    distinct = np.unique(values)
    if distinct.size <= _MOST_GROUPS:
        members = [values == value for value in distinct]
    else:
        count = max(2, min(_MOST_GROUPS - 1, values.size // _FEW))
        edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1], method="higher"))
        places = np.searchsorted(edges, values, side="right")
        members = [places == place for place in np.unique(places)]
    return [
        _group(_range(values[inside], tag), [found[i][1] for i in np.flatnonzero(inside)], score)
        for inside in members
    ]


def by_category(rows: Sequence[Row], score: str, tag: str) -> list[Group]:
    """The score by a tag that is a word, the largest groups first."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if score in row.scores and isinstance(row.tags.get(tag), str):
            found.setdefault(str(row.tags[tag]), []).append(row)
    ordered = sorted(found, key=lambda label: (-len(found[label]), label))
    kept, rest = ordered[:_MOST_CATEGORIES], ordered[_MOST_CATEGORIES:]
    groups = [_group(label, found[label], score) for label in kept]
    if rest:
        groups.append(_group(f"{len(rest)} others", [row for label in rest for row in found[label]], score))
    return groups


def _group(label: str, rows: list[Row], score: str) -> Group:
    interval = bootstrap(
        [row.scores[score] for row in rows], clusters=[row.media for row in rows], resamples=_RESAMPLES
    )
    return Group(
        label=label,
        examples=len(rows),
        files=interval.clusters,
        value=interval.value,
        low=interval.low,
        high=interval.high,
    )


def _range(values: np.typing.NDArray[np.float64], tag: str) -> str:
    first, last = bare(float(values.min()), tag), bare(float(values.max()), tag)
    return first if first == last else f"{first}–{last}"

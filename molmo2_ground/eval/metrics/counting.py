"""Counting: exact, close, and by how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

# One number or one an example; None where the answer could not be read.
Predicted = int | np.integer[Any] | None | Sequence[int | None] | npt.NDArray[np.integer[Any]]
Wanted = int | np.integer[Any] | Sequence[int] | npt.NDArray[np.integer[Any]]

# Each bin reaches up to the next edge and leaves it out; the last one has no end.
COUNT_BIN_EDGES = (0, 5, 10, 15, 20, 25)


def count_accuracy(predicted: Predicted, wanted: Wanted) -> float:
    """Share of numbers that are exactly right; an answer that could not be read (None) is wrong.

    predicted, wanted: one number each, which gives 0 or 1, or one an example, int[n] both.
    """
    pairs = _pairs(predicted, wanted)
    return sum(found == right for found, right in pairs) / len(pairs)


def close_accuracy(predicted: Predicted, wanted: Wanted, *, percent: int = 5) -> float:
    """Share of numbers off by at most 1 plus `percent` of the right one, rounded down.

    Takes what `count_accuracy` takes. Video counting uses 5 percent; image counting 0, which allows 1 off
    whatever the number.
    """
    pairs = _pairs(predicted, wanted)
    # Whole numbers: 0.05 x 60 is 3 and not 2.9999.
    close = sum(
        found is not None and abs(found - right) <= 1 + right * percent // 100 for found, right in pairs
    )
    return close / len(pairs)


def _pairs(predicted: Predicted, wanted: Wanted) -> list[tuple[int | None, int]]:
    found, right = _listed(predicted), _listed(wanted)
    if len(found) != len(right):
        raise ValueError(f"each number has its right one; got {len(found)} and {len(right)}")
    if not right:
        raise ValueError("there is no number to judge")
    pairs = [(number, want) for number, want in zip(found, right, strict=True) if want is not None]
    if len(pairs) != len(right):
        raise ValueError("a right number is never None")
    return pairs


def _listed(numbers: Predicted) -> list[int | None]:
    """Python's own whole numbers: numpy's unsigned ones cannot be subtracted safely."""
    if isinstance(numbers, np.ndarray):
        return [int(one) for one in np.atleast_1d(numbers)]
    many = numbers if isinstance(numbers, Sequence) else [numbers]
    return [None if one is None else int(one) for one in many]


def count_bins(judged: Iterable[tuple[int, float]], *, name: str = "accuracy") -> dict[str, float]:
    """Mean score by how many there are, from pairs (right number, score); an empty bin is left out.

    The names are `accuracy_0_4`, `accuracy_5_9`, ... `accuracy_25_up`: both ends belong to the bin.
    """
    pairs = list(judged)
    last = COUNT_BIN_EDGES[-1]
    bins = [
        (f"{name}_{low}_{high - 1}", [score for wanted, score in pairs if low <= wanted < high])
        for low, high in pairwise(COUNT_BIN_EDGES)
    ]
    bins.append((f"{name}_{last}_up", [score for wanted, score in pairs if wanted >= last]))
    return {label: sum(scores) / len(scores) for label, scores in bins if scores}

"""Counting: exact, close, and by how many there are."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

# Each bin reaches up to the next edge and leaves it out; the last one has no end.
COUNT_BIN_EDGES = (0, 5, 10, 15, 20, 25)


def count_accuracy(predicted: int | None, wanted: int) -> float:
    """1 when the number is exactly right; an answer that could not be read (None) is wrong."""
    return float(predicted == wanted)


def close_accuracy(predicted: int | None, wanted: int, *, percent: int = 5) -> float:
    """1 when the number is off by at most 1 plus `percent` of the right one, rounded down.

    Video counting uses 5 percent; image counting 0, which allows 1 off whatever the number.
    """
    # Whole numbers: 0.05 x 60 is 3 and not 2.9999.
    return float(predicted is not None and abs(predicted - wanted) <= 1 + wanted * percent // 100)


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

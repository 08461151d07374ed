"""`Matched`, precision, recall and F1 of places against objects, and the one-to-one matching below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

# What the released evaluator adds below the fraction of F1.
_REFERENCE_EPSILON = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """How well places meet objects.

    precision, recall, f1    of this example, by the metric's own definition.
    hits, predicted, wanted  places on their object, all places, all objects: what pooling adds up.
    """

    precision: float
    recall: float
    f1: float
    hits: int
    predicted: int
    wanted: int

    def scores(self) -> dict[str, float]:
        """precision, recall and f1 by name, as `Suite.score` gives them."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1}

    def counts(self) -> dict[str, float]:
        """The three counts by name, for `pooled_matched`."""
        return {"hits": self.hits, "predicted": self.predicted, "wanted": self.wanted}


def pooled_matched(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Precision, recall and F1 of all examples' places taken together, from the counts in their rows."""
    hits, predicted, wanted = (
        int(sum(row.get(name, 0) for row in rows)) for name in ("hits", "predicted", "wanted")
    )
    return {f"pooled_{name}": value for name, value in matched(hits, predicted, wanted).scores().items()}


def matched(hits: int, predicted: int, wanted: int, *, reference_compat: bool = False) -> Matched:
    """The shares that counts make: all 1 when nothing was wanted and nothing predicted, else 0/0 is 0."""
    if not wanted and not predicted:
        precision = recall = f1 = 1.0
    else:
        precision = hits / predicted if predicted else 0.0
        recall = hits / wanted if wanted else 0.0
        f1 = f1_of(precision, recall, reference_compat=reference_compat)
    return Matched(precision=precision, recall=recall, f1=f1, hits=hits, predicted=predicted, wanted=wanted)


def f1_of(precision: float, recall: float, *, reference_compat: bool = False) -> float:
    """Harmonic mean of precision and recall, 0 when either is 0."""
    if precision == 0 or recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall + (_REFERENCE_EPSILON if reference_compat else 0.0))


def nearest_pairs(
    predicted: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Pairs (predicted, wanted) that are one to one and together as near as possible.

    predicted  float64[n, d], wanted float64[m, d]: the pairs are min(n, m) many.
    """
    distances = np.linalg.norm(predicted[:, None, :] - wanted[None, :, :], axis=2)
    rows, columns = linear_sum_assignment(distances)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]

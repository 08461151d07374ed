"""How sure a score is: bootstrap intervals of one run, and of the difference between two runs.

Examples are drawn again with replacement, many times, and the score is taken of each draw; the interval
holds the middle `level` of those scores. Seeds are arguments: the same rows give the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = Sequence[Mapping[str, float]]
# Draws are made in pieces, so that a large set needs no large table.
_DRAWN_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A score and the bounds between which it lies with this level of confidence."""

    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedInterval:
    """The second run's score minus the first's, on the same examples.

    share_above  the share of draws in which the second is better (ties count half).
    """

    difference: float
    low: float
    high: float
    level: float
    share_above: float

    @property
    def clear(self) -> bool:
        """True when the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def bootstrap(
    values: Sequence[float], *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """The mean of one score over examples, with its interval."""
    column = _column(values)
    low, high = _bounds(_means(column, resamples=resamples, seed=seed), level)
    return Interval(value=float(column.mean()), low=low, high=high, level=level)


def paired_bootstrap(
    first: Sequence[float],
    second: Sequence[float],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedInterval:
    """The difference of two runs' means over the same examples, given in the same order."""
    one, other = _column(first), _column(second)
    if one.size != other.size:
        raise ValueError(f"two runs are compared on the same examples; got {one.size} and {other.size}")
    difference = other - one
    draws = _means(difference, resamples=resamples, seed=seed)
    return _paired(float(difference.mean()), draws, level)


def bootstrap_summary(
    rows: Rows,
    summary: Callable[[Rows], Mapping[str, float]],
    *,
    resamples: int = 300,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of every score of a suite's own summary, pooled ones included.

    A score that some draw does not have (a bin that stayed empty) is judged by the draws that have it.
    """
    if not rows:
        raise ValueError("an interval needs at least one example")
    value = summary(rows)
    drawn = _summaries(rows, summary, resamples=resamples, seed=seed)
    out = {}
    for name, score in value.items():
        draws = np.array([draw[name] for draw in drawn if name in draw], dtype=np.float64)
        low, high = _bounds(draws, level) if draws.size else (score, score)
        out[name] = Interval(value=score, low=low, high=high, level=level)
    return out


def paired_bootstrap_summary(
    first: Rows,
    second: Rows,
    summary: Callable[[Rows], Mapping[str, float]],
    *,
    resamples: int = 300,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, PairedInterval]:
    """The differences of two runs' summaries over the same examples, given in the same order."""
    if len(first) != len(second):
        raise ValueError(f"two runs are compared on the same examples; got {len(first)} and {len(second)}")
    if not first:
        raise ValueError("an interval needs at least one example")
    before, after = summary(first), summary(second)
    # The same seed draws the same examples from both.
    draws = list(
        zip(
            _summaries(first, summary, resamples=resamples, seed=seed),
            _summaries(second, summary, resamples=resamples, seed=seed),
            strict=True,
        )
    )
    out = {}
    for name in before:
        if name in after:
            both = [other[name] - one[name] for one, other in draws if name in one and name in other]
            difference = after[name] - before[name]
            out[name] = _paired(difference, np.array(both or [difference], dtype=np.float64), level)
    return out


def _column(values: Sequence[float]) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or not column.size:
        raise ValueError(f"an interval needs at least one example; got shape {list(column.shape)}")
    if not np.isfinite(column).all():
        raise ValueError("a score is a finite number; leave out the examples that have none")
    return column


def _means(column: Floats, *, resamples: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    means: Floats = np.empty(resamples)
    step = max(1, _DRAWN_AT_ONCE // column.size)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = rng.integers(column.size, size=(stop - start, column.size))
        means[start:stop] = column[drawn].mean(axis=1)
    return means


def _summaries(
    rows: Rows, summary: Callable[[Rows], Mapping[str, float]], *, resamples: int, seed: int
) -> list[Mapping[str, float]]:
    rng = np.random.default_rng(seed)
    return [summary([rows[i] for i in rng.integers(len(rows), size=len(rows))]) for _ in range(resamples)]


def _bounds(draws: Floats, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"a level of confidence lies between 0 and 1; got {level}")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _paired(difference: float, draws: Floats, level: float) -> PairedInterval:
    low, high = _bounds(draws, level)
    above = float((draws > 0).mean() + (draws == 0).mean() / 2)
    return PairedInterval(difference=difference, low=low, high=high, level=level, share_above=above)

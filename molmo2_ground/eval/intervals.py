"""How sure a score is: bootstrap intervals of one run, and of the difference between two runs.

Examples are drawn again with replacement, many times, and the score is taken of each draw; the interval
holds the middle `level` of those scores. Questions about one video are not independent: when it is hard, it
is hard for all of them. So whole clusters are drawn (the cluster bootstrap), each with all of its examples,
as many clusters as there are. Seeds are arguments: the same rows give the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = Sequence[Mapping[str, float]]
# A name an example, equal for those that are drawn together; None draws each example by itself.
Clusters = Sequence[Hashable] | None
# Draws are made in pieces, so that a large set needs no large table.
_DRAWN_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A score and the bounds between which it lies with this level of confidence.

    clusters  how many were drawn from. One cannot show how much others differ: then both bounds are the
              score, which means nothing.
    """

    value: float
    low: float
    high: float
    level: float
    clusters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedInterval:
    """The second run's score minus the first's, on the same examples.

    share_above  the share of draws in which the second is better (ties count half).
    clusters     as in `Interval`.
    """

    difference: float
    low: float
    high: float
    level: float
    share_above: float
    clusters: int

    @property
    def clear(self) -> bool:
        """True when the interval leaves 0 out; never for a single cluster, which has no interval."""
        return self.clusters > 1 and (self.low > 0 or self.high < 0)


def bootstrap(
    values: Sequence[float],
    *,
    clusters: Clusters = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of one score over examples, with its interval."""
    column = _column(values)
    members = _members(clusters, column.size)
    low, high = _bounds(_means(column, members, resamples=resamples, seed=seed), level)
    return Interval(value=float(column.mean()), low=low, high=high, level=level, clusters=len(members))


def paired_bootstrap(
    first: Sequence[float],
    second: Sequence[float],
    *,
    clusters: Clusters = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedInterval:
    """The difference of two runs' means over the same examples, given in the same order."""
    one, other = _column(first), _column(second)
    if one.size != other.size:
        raise ValueError(f"two runs are compared on the same examples; got {one.size} and {other.size}")
    difference = other - one
    members = _members(clusters, difference.size)
    draws = _means(difference, members, resamples=resamples, seed=seed)
    return _paired(float(difference.mean()), draws, level, clusters=len(members))


def bootstrap_summary(
    rows: Rows,
    summary: Callable[[Rows], Mapping[str, float]],
    *,
    clusters: Clusters = None,
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
    members = _members(clusters, len(rows))
    drawn = _summaries(rows, summary, members, resamples=resamples, seed=seed)
    out = {}
    for name, score in value.items():
        draws = np.array([draw[name] for draw in drawn if name in draw], dtype=np.float64)
        low, high = _bounds(draws, level) if draws.size else (score, score)
        out[name] = Interval(value=score, low=low, high=high, level=level, clusters=len(members))
    return out


def paired_bootstrap_summary(
    first: Rows,
    second: Rows,
    summary: Callable[[Rows], Mapping[str, float]],
    *,
    clusters: Clusters = None,
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
    members = _members(clusters, len(first))
    # The same seed draws the same examples from both.
    draws = list(
        zip(
            _summaries(first, summary, members, resamples=resamples, seed=seed),
            _summaries(second, summary, members, resamples=resamples, seed=seed),
            strict=True,
        )
    )
    out = {}
    for name in before:
        if name in after:
            both = [other[name] - one[name] for one, other in draws if name in one and name in other]
            difference = after[name] - before[name]
            drawn = np.array(both or [difference], dtype=np.float64)
            out[name] = _paired(difference, drawn, level, clusters=len(members))
    return out


def _column(values: Sequence[float]) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or not column.size:
        raise ValueError(f"an interval needs at least one example; got shape {list(column.shape)}")
    if not np.isfinite(column).all():
        raise ValueError("a score is a finite number; leave out the examples that have none")
    return column


def _members(clusters: Clusters, count: int) -> list[list[int]]:
    """The places of each cluster's examples, clusters in order of appearance."""
    if clusters is None:
        return [[i] for i in range(count)]
    if len(clusters) != count:
        raise ValueError(f"each of the {count} examples has its cluster; got {len(clusters)} of them")
    members: dict[Hashable, list[int]] = {}
    for i, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(i)
    return list(members.values())


def _means(column: Floats, members: Sequence[Sequence[int]], *, resamples: int, seed: int) -> Floats:
    """The mean over the examples of each draw; a draw of large clusters has more of them than another."""
    rng = np.random.default_rng(seed)
    sums = np.array([column[places].sum() for places in members], dtype=np.float64)
    sizes = np.array([len(places) for places in members], dtype=np.float64)
    means: Floats = np.empty(resamples)
    step = max(1, _DRAWN_AT_ONCE // sums.size)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = rng.integers(sums.size, size=(stop - start, sums.size))
        means[start:stop] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means


def _summaries(
    rows: Rows,
    summary: Callable[[Rows], Mapping[str, float]],
    members: Sequence[Sequence[int]],
    *,
    resamples: int,
    seed: int,
) -> list[Mapping[str, float]]:
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(members), size=len(members)) for _ in range(resamples))
    return [summary([rows[i] for cluster in drawn for i in members[cluster]]) for drawn in draws]


def _bounds(draws: Floats, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"a level of confidence lies between 0 and 1; got {level}")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _paired(difference: float, draws: Floats, level: float, *, clusters: int) -> PairedInterval:
    low, high = _bounds(draws, level)
    above = float((draws > 0).mean() + (draws == 0).mean() / 2)
    return PairedInterval(
        difference=difference, low=low, high=high, level=level, share_above=above, clusters=clusters
    )

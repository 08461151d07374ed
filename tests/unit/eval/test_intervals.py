from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from molmo2_ground.eval.example import mean_summary
from molmo2_ground.eval.intervals import (
    bootstrap,
    bootstrap_summary,
    paired_bootstrap,
    paired_bootstrap_summary,
)


def test_the_interval_holds_the_mean_and_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).random(400).tolist()
    found = bootstrap(values)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(np.mean(values))
    expected = 2 * 1.96 * np.std(values) / np.sqrt(len(values))
    assert found.high - found.low == pytest.approx(expected, rel=0.1)


def test_95_of_100_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for seed in range(200):
        found = bootstrap((rng.random(60) < 0.7).astype(float).tolist(), resamples=400, seed=seed)
        held += found.low <= 0.7 <= found.high
    assert 180 <= held <= 198


def test_a_higher_level_is_wider_and_the_seed_decides() -> None:
    values = np.random.default_rng(3).random(50).tolist()
    narrow, wide = bootstrap(values, level=0.8), bootstrap(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert bootstrap(values, seed=4) == bootstrap(values, seed=4)
    assert bootstrap(values, seed=4) != bootstrap(values, seed=5)


def test_one_example_has_no_width() -> None:
    found = bootstrap([0.25])
    assert (found.low, found.value, found.high) == (0.25, 0.25, 0.25)


def test_pairing_sees_a_small_gain_that_two_intervals_hide() -> None:
    rng = np.random.default_rng(6)
    first = rng.random(100)
    second = first + 0.02 + rng.normal(scale=0.01, size=100)
    alone, other = bootstrap(first.tolist()), bootstrap(second.tolist())
    assert alone.high > other.low
    found = paired_bootstrap(first.tolist(), second.tolist())
    assert found.clear
    assert found.low < found.difference < found.high
    assert found.difference == pytest.approx((second - first).mean())
    assert found.share_above == 1.0


def test_a_run_against_itself_is_no_difference() -> None:
    found = paired_bootstrap([0.1, 0.9], [0.1, 0.9])
    assert (found.difference, found.low, found.high, found.share_above) == (0, 0, 0, 0.5)
    assert not found.clear


def pooled(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    hits, asked = sum(row["hits"] for row in rows), sum(row["asked"] for row in rows)
    out = {"pooled": hits / asked}
    rare = [row["rare"] for row in rows if "rare" in row]
    return out | ({"rare": sum(rare) / len(rare)} if rare else {})


ROWS = [{"hits": 9.0, "asked": 10.0}, {"hits": 0.0, "asked": 1.0}, {"hits": 5.0, "asked": 10.0, "rare": 0.5}]


def test_a_pooled_score_gets_an_interval_of_its_own() -> None:
    found = bootstrap_summary(ROWS, pooled)
    assert found["pooled"].value == pytest.approx(14 / 21)
    assert found["pooled"].low < found["pooled"].value < found["pooled"].high
    # In a third of the draws no example has it.
    assert (found["rare"].low, found["rare"].high) == (0.5, 0.5)


def test_for_a_mean_the_summary_gives_the_same_interval_as_the_column() -> None:
    rows = [{"f1": float(value)} for value in np.random.default_rng(7).random(40)]
    column = bootstrap([row["f1"] for row in rows], resamples=500)
    whole = bootstrap_summary(rows, mean_summary, resamples=500)["f1"]
    assert whole.value == pytest.approx(column.value)
    assert (whole.low, whole.high) == pytest.approx((column.low, column.high), abs=0.02)


def test_summaries_are_paired_on_the_same_draws() -> None:
    better = [row | {"hits": row["hits"] + 1} for row in ROWS]
    found = paired_bootstrap_summary(ROWS, better, pooled)
    assert found["pooled"].difference == pytest.approx(3 / 21)
    assert found["pooled"].low > 0
    assert found["rare"].difference == found["rare"].low == found["rare"].high == 0


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        pytest.param([], 0.95, "at least one example", id="none"),
        pytest.param([0.5, float("nan")], 0.95, "finite", id="nan"),
        pytest.param([0.5], 1.0, "between 0 and 1", id="certain"),
    ],
)
def test_what_has_no_interval_says_why(values: list[float], level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(values, level=level)


def test_runs_of_different_examples_are_not_compared() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        paired_bootstrap([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="3 and 2"):
        paired_bootstrap_summary(ROWS, ROWS[:2], pooled)
    with pytest.raises(ValueError, match="at least one"):
        paired_bootstrap_summary([], [], pooled)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_summary([], pooled)

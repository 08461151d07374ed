from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
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


@pytest.mark.slow
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


# Questions about one video


def alike(rng: np.random.Generator, *, videos: int, questions: int) -> npt.NDArray[np.float64]:
    """float[videos, questions]: scores around 0.5 that differ from video to video, and hardly within one."""
    hard = rng.normal(0.5, 0.2, size=(videos, 1))
    return hard + rng.normal(0, 0.02, size=(videos, questions))


def clusters_of(scores: npt.NDArray[np.float64]) -> list[int]:
    return np.repeat(np.arange(scores.shape[0]), scores.shape[1]).tolist()


def test_questions_about_one_video_make_the_interval_as_wide_as_so_few_videos_do() -> None:
    scores = alike(np.random.default_rng(11), videos=50, questions=16)
    flat = scores.ravel().tolist()
    single, whole = bootstrap(flat), bootstrap(flat, clusters=clusters_of(scores))
    assert whole.value == single.value
    assert (single.clusters, whole.clusters) == (800, 50)
    expected = 2 * 1.96 * scores.mean(axis=1).std() / np.sqrt(50)
    assert whole.high - whole.low == pytest.approx(expected, rel=0.1)
    assert whole.high - whole.low > 3 * (single.high - single.low)


@pytest.mark.slow
def test_whole_videos_hold_the_truth_and_single_questions_do_not() -> None:
    rng = np.random.default_rng(12)
    held = {"single": 0, "whole": 0}
    for seed in range(100):
        scores = alike(rng, videos=30, questions=10)
        flat = scores.ravel().tolist()
        for name, clusters in (("single", None), ("whole", clusters_of(scores))):
            found = bootstrap(flat, clusters=clusters, resamples=300, seed=seed)
            held[name] += found.low <= 0.5 <= found.high
    assert held["whole"] >= 88
    assert held["single"] <= 60


def test_one_question_a_video_is_as_if_nothing_was_said() -> None:
    values = np.random.default_rng(13).random(30).tolist()
    names = [f"{i}.mp4" for i in range(30)]
    assert bootstrap(values, clusters=names) == bootstrap(values)
    assert paired_bootstrap(values, values[::-1], clusters=names) == paired_bootstrap(values, values[::-1])


@pytest.mark.slow
def test_a_small_set_is_drawn_as_all_its_draws_counted_one_by_one() -> None:
    values, names = [0.0, 0.2, 0.9, 1.0, 0.3, 0.7], ["a", "a", "b", "c", "c", "c"]
    groups = [[v for v, n in zip(values, names, strict=True) if n == name] for name in "abc"]
    every = [
        np.mean([value for group in draw for value in group]) for draw in itertools.product(groups, repeat=3)
    ]
    # At these levels no bound lies on a step of the distribution, so the sample's bound is exactly its own.
    for level in (0.5, 0.8, 0.9):
        low, high = np.quantile(every, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        found = bootstrap(values, clusters=names, resamples=20000, level=level)
        assert (found.low, found.high) == pytest.approx((low, high))
        rows = [{"f1": value} for value in values]
        summed = bootstrap_summary(rows, mean_summary, clusters=names, resamples=4000, level=level)["f1"]
        assert (summed.low, summed.high) == pytest.approx((low, high))


def test_a_gain_on_one_video_alone_is_not_clear() -> None:
    rng = np.random.default_rng(14)
    first = rng.random((12, 20))
    second = first + rng.normal(0, 0.02, size=(12, 1))
    second[3] += 0.3  # twenty questions about one video went better
    names = clusters_of(first)
    before, after = first.ravel().tolist(), second.ravel().tolist()
    assert paired_bootstrap(before, after).clear
    whole = paired_bootstrap(before, after, clusters=names)
    assert not whole.clear
    rows = [[{"hits": value, "asked": 1.0} for value in values] for values in (before, after)]
    assert paired_bootstrap_summary(rows[0], rows[1], pooled)["pooled"].clear
    together = paired_bootstrap_summary(rows[0], rows[1], pooled, clusters=names)["pooled"]
    assert not together.clear
    assert (together.low, together.high) == pytest.approx((whole.low, whole.high), abs=0.02)


def test_one_video_alone_makes_nothing_clear() -> None:
    found = paired_bootstrap([0.1, 0.2], [0.8, 0.9], clusters=["a", "a"])
    assert found.difference == found.low == found.high == pytest.approx(0.7)
    assert (found.clusters, found.clear) == (1, False)


def test_every_example_has_its_cluster() -> None:
    with pytest.raises(ValueError, match="each of the 2 examples has its cluster; got 1"):
        bootstrap([0.0, 1.0], clusters=["a"])


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

from __future__ import annotations

from collections.abc import Sequence

import pytest

from molmo2_ground.eval.metrics import caption_f1


def word_by_word(statement: str, *, given: Sequence[str]) -> bool:
    return any(set(statement.split()) <= set(other.split()) for other in given)


def never_asked(statement: str, *, given: Sequence[str]) -> bool:
    raise AssertionError(f"asked about {statement!r}")


def test_precision_is_of_the_caption_and_recall_of_the_truth() -> None:
    caption = ["a car", "a dog"]
    truth = ["a red car drives", "a tree", "a car", "a house"]
    found = caption_f1(caption, truth, judge=word_by_word)
    assert (found.precision, found.recall) == (0.5, 0.25)
    assert found.f1 == pytest.approx(2 * 0.5 * 0.25 / 0.75)
    assert (found.hits, found.predicted, found.wanted) == (1, 2, 4)


def test_nothing_in_common_is_0() -> None:
    assert caption_f1(["a car"], ["a tree"], judge=word_by_word).f1 == 0.0


@pytest.mark.parametrize(
    ("caption", "truth", "expected"),
    [
        pytest.param((), (), 1.0, id="both-empty"),
        pytest.param((), ("a car",), 0.0, id="nothing-said"),
        pytest.param(("a car",), (), 0.0, id="nothing-to-say"),
    ],
)
def test_the_judge_is_not_asked_about_nothing(
    caption: tuple[str, ...], truth: tuple[str, ...], expected: float
) -> None:
    assert caption_f1(caption, truth, judge=never_asked).f1 == expected

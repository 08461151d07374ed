from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.eval.metrics import close_accuracy, count_accuracy, count_bins


@pytest.mark.parametrize(
    ("wanted", "margin"),
    [
        pytest.param(0, 1, id="0"),
        pytest.param(19, 1, id="19"),
        pytest.param(20, 2, id="20"),
        pytest.param(39, 2, id="39"),
        pytest.param(59, 3, id="59"),
        pytest.param(60, 4, id="60"),
        pytest.param(1000, 51, id="1000"),
    ],
)
def test_close_is_one_and_a_twentieth_rounded_down(wanted: int, margin: int) -> None:
    for sign in (-1, 1):
        assert close_accuracy(wanted + sign * margin, wanted) == 1.0
        assert close_accuracy(wanted + sign * (margin + 1), wanted) == 0.0
    assert close_accuracy(wanted + 1, wanted, percent=0) == 1.0
    assert close_accuracy(wanted + 2, wanted, percent=0) == 0.0


def test_exact_is_exact_and_an_unreadable_answer_is_wrong() -> None:
    assert count_accuracy(4, 4) == 1.0
    assert count_accuracy(5, 4) == 0.0
    assert count_accuracy(None, 0) == 0.0
    assert close_accuracy(None, 0) == 0.0


def test_a_bin_holds_its_lower_end() -> None:
    judged = [(0, 1.0), (4, 0.0), (5, 1.0), (24, 1.0), (25, 0.0), (400, 1.0)]
    assert count_bins(judged, name="exact") == {
        "exact_0_4": 0.5,
        "exact_5_9": 1.0,
        "exact_20_24": 1.0,
        "exact_25_up": 0.5,
    }
    assert count_bins([]) == {}


def test_many_numbers_give_the_share_that_is_right() -> None:
    assert count_accuracy([4, None, 5], [4, 0, 7]) == pytest.approx(1 / 3)
    assert close_accuracy(np.array([4, 9], dtype=np.uint8), np.array([5, 2], dtype=np.uint8)) == 0.5
    assert count_accuracy(np.int64(3), 3) == 1.0


@pytest.mark.parametrize(
    ("predicted", "wanted", "words"),
    [
        pytest.param([4, 5], [4], "got 2 and 1", id="lengths"),
        pytest.param([], [], "no number", id="empty"),
    ],
)
def test_numbers_come_in_pairs(predicted: list[int], wanted: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        count_accuracy(predicted, wanted)

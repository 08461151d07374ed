from __future__ import annotations

import math

import pytest

from molmo2_ground.deadline import Deadline


@pytest.mark.parametrize(
    ("now_s", "passed"),
    [
        pytest.param(12.4, False, id="before"),
        pytest.param(12.5, True, id="at-the-moment"),
        pytest.param(99.0, True, id="after"),
    ],
)
def test_a_deadline_counts_from_where_it_was_made(now_s: float, passed: bool) -> None:
    times_s = iter([10.0, now_s])
    deadline = Deadline.after(2.5, clock=lambda: next(times_s))
    assert deadline.seconds == 2.5
    assert deadline.passed() is passed


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_deadline_is_ahead_and_finite(seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0, or None"):
        Deadline.after(seconds)

from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.eval.slope import fit_slope


def test_a_straight_line_is_found_exactly() -> None:
    x = np.arange(10.0)
    found = fit_slope(x.tolist(), (3 + 0.25 * x).tolist())
    assert found.value == pytest.approx(0.25)
    assert found.half == pytest.approx(0, abs=1e-9)


def walks(share: float, *, number: int = 300, notes: int = 200) -> list[tuple[float, float]]:
    """Slopes of level series, each note holding that share of the one before."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(number):
        noise = rng.normal(size=notes)
        for index in range(1, notes):
            noise[index] += share * noise[index - 1]
        slope = fit_slope([*range(notes)], noise.tolist())
        found.append((slope.value, slope.half))
    return found


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_the_interval_holds_zero_for_level_series_nearly_as_often_as_it_says(share: float) -> None:
    held = np.mean([abs(value) <= half for value, half in walks(share)])
    assert 0.89 < held < 0.99


def test_too_few_notes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 of each.*got 3 and 3"):
        fit_slope([1, 2, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="got 5 and 4"):
        fit_slope([1, 2, 3, 4, 5], [1, 2, 3, 4])

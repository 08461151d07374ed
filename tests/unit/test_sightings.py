from __future__ import annotations

import pytest

from molmo2_ground.sightings import LONGEST_STEP_S, adjoin

LOOKED_S = (0.0, 0.5, 1.0, 4.0)


@pytest.mark.parametrize(
    ("earlier_s", "later_s", "expected"),
    [
        pytest.param(0.0, 0.5, True, id="next-look"),
        pytest.param(0.0, 1.0, False, id="a-look-between"),
        pytest.param(0.00005, 0.49995, True, id="times-that-were-rounded"),
        pytest.param(0.6, 0.9, True, id="between-two-looks"),
        pytest.param(1.0, 4.0, False, id="too-far-apart"),
        pytest.param(1.0, 1.0 + LONGEST_STEP_S, True, id="just-near-enough"),
    ],
)
def test_which_sightings_follow_each_other(earlier_s: float, later_s: float, expected: bool) -> None:
    assert adjoin(earlier_s, later_s, LOOKED_S) is expected

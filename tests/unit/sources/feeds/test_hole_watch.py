from __future__ import annotations

import pytest

from molmo2_ground.sources.feeds.hole_watch import HoleWatch


@pytest.mark.parametrize(
    ("times", "holes"),
    [
        pytest.param([0, 10, 20, 30, 40], {}, id="steady"),
        pytest.param([0, 10, 20, 40, 50], {40: 1}, id="one-missing"),
        pytest.param([0, 9, 21, 29, 41, 50], {}, id="rounded"),
        pytest.param([0, 10, 20, 30, 0, 10, 20], {}, id="begins-again"),
        pytest.param([0, 10, 20, 90, 100, 110, 130], {90: 6, 130: 1}, id="many-missing"),
        pytest.param([0, 10, 30], {}, id="nothing-known-yet"),
        pytest.param([0, 10, 20, 30, *range(50, 250, 20)], {50: 1, 70: 1, 90: 1}, id="slower-from-then-on"),
    ],
)
def test_holes(times: list[int], holes: dict[int, int]) -> None:
    watch = HoleWatch()
    assert {time: missing for time in times if (missing := watch.missing_before(time))} == holes

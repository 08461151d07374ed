from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.analytics import Homography, Rules, find_speeds
from tests.found import track, tracks

GRID_S = [i / 2 for i in range(13)]
TEN_PX_A_METRE = Homography(matrix=((0.1, 0, 0), (0, 0.1, 0), (0, 0, 1)))


@pytest.mark.slow
@settings(max_examples=50)
@given(vx=st.floats(-200, 200), vy=st.floats(-200, 200), window_s=st.sampled_from([0.0, 0.4, 1.0, 3.0]))
def test_an_even_motion_has_its_speed_everywhere(vx: float, vy: float, window_s: float) -> None:
    moving = tracks(track({t: (300 + vx * t, 100 + vy * t) for t in GRID_S}), looked_s=GRID_S)
    speeds = find_speeds(moving, rules=Rules(window_s=window_s))[1]
    assert len(speeds) == len(GRID_S)
    assert [s.vx for s in speeds] == pytest.approx([vx] * 13, abs=1e-9)
    assert [s.speed for s in speeds] == pytest.approx([np.hypot(vx, vy)] * 13, abs=1e-9)
    metric = find_speeds(moving, rules=Rules(window_s=window_s), ground=TEN_PX_A_METRE)[1]
    assert [s.speed for s in metric] == pytest.approx([np.hypot(vx, vy) / 10] * 13, abs=1e-9)
    assert {(a.unit, b.unit) for a, b in zip(speeds, metric, strict=True)} == {("px/s", "m/s")}


def test_the_fit_is_that_of_numpy_over_the_stated_window() -> None:
    places = dict(zip(GRID_S, np.random.default_rng(5).uniform(0, 300, (13, 2)).tolist(), strict=True))
    moving = tracks(track({t: (x, y) for t, (x, y) in places.items()}), looked_s=GRID_S)
    speeds = find_speeds(moving, rules=Rules(window_s=2.0))[1]
    for speed in speeds:
        near = [t for t in GRID_S if abs(t - speed.time_s) <= 1.0]
        slope = np.polyfit(near, [places[t] for t in near], 1)[0]
        assert (speed.vx, speed.vy) == pytest.approx(tuple(slope))


def test_there_is_no_speed_across_a_gap() -> None:
    # Stands still, is hidden for two seconds, and stands still again somewhere else.
    places = (
        dict.fromkeys((0, 0.5, 1), (100.0, 9.0)) | dict.fromkeys((3, 3.5), (500.0, 9.0)) | {5: (9.0, 9.0)}
    )
    moving = tracks(track(places), looked_s=GRID_S)
    for grace_s in (0.0, 10.0):
        speeds = find_speeds(moving, rules=Rules(grace_s=grace_s, window_s=6))[1]
        assert [s.time_s for s in speeds] == [0, 0.5, 1, 3, 3.5]  # the lone sample at 5 s has none
        assert [s.speed for s in speeds] == pytest.approx([0] * 5, abs=1e-9)


def test_over_the_horizon_there_is_no_speed() -> None:
    tilted = Homography(matrix=((1, 0, 0), (0, 1, 0), (0, 1, -100)))
    moving = tracks(track({t: (50, 40 + 40 * t) for t in GRID_S[:5]}), looked_s=GRID_S)
    speeds = find_speeds(moving, ground=tilted)[1]
    assert [s.time_s for s in speeds] == [0, 0.5]  # y is 100 and on the horizon at 1.5 s

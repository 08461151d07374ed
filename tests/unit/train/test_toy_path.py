from __future__ import annotations

import math

import numpy as np
import pytest

from molmo2_ground.train.toy.path import bezier, make_path, turn


def test_places_along_a_bent_line() -> None:
    path = make_path([(0, 0), (30, 0), (30, 40)])
    assert path.length_px == 70.0
    x, y, _ = path.at(np.array([0.0, 15.0, 30.0, 50.0, 70.0]))
    assert x.tolist() == [0, 15, 30, 30, 30]
    assert y.tolist() == [0, 0, 0, 20, 40]


def test_a_path_goes_on_straight_past_its_ends() -> None:
    path = make_path([(0, 0), (30, 0), (30, 40)])
    assert path.place(-100.0) == pytest.approx((-100.0, 0.0, 0.0))
    assert path.place(170.0) == pytest.approx((30.0, 140.0, math.pi / 2))


def test_right_is_right_on_the_screen() -> None:
    """Heading east with y down, the right hand points down."""
    beside = make_path([(0, 10), (100, 10)]).offset(7.0)
    assert beside.points_px.tolist() == [[0, 17], [100, 17]]
    back = make_path([(0, 10), (100, 10)]).reversed().offset(7.0)
    assert back.points_px == pytest.approx(np.array([[100, 3], [0, 3]]))


def test_headings_do_not_jump_by_a_whole_turn() -> None:
    angles = np.linspace(0, 4 * math.pi, 100)
    path = make_path(np.stack([np.cos(angles), np.sin(angles)], axis=1) * 50)
    assert np.abs(np.diff(path.headings_rad)).max() < 0.3
    assert path.headings_rad[-1] - path.headings_rad[0] == pytest.approx(4 * math.pi, abs=0.2)


def test_a_curve_starts_and_ends_at_its_outer_points() -> None:
    path = bezier([(0, 0), (10, 50), (90, 50), (100, 0)])
    assert path.points_px[0].tolist() == [0, 0]
    assert path.points_px[-1] == pytest.approx([100, 0])
    assert path.points_px[:, 1].max() == pytest.approx(37.5, abs=0.1)


def test_a_turn_joins_two_roads() -> None:
    east, south = make_path([(0, 100), (400, 100)]), make_path([(200, 0), (200, 300)])
    path = turn(east, south, radius_px=40)
    assert path.place(0.0) == pytest.approx((0.0, 100.0, 0.0), abs=1e-9)
    x, y, heading = path.place(path.length_px)
    assert (x, y) == (200.0, 300.0)
    assert heading == pytest.approx(math.pi / 2, abs=0.05)
    steps = np.diff(path.headings_rad)
    assert np.all(steps >= -1e-9)


@pytest.mark.parametrize(
    "points",
    [
        pytest.param([(1, 1)], id="one-point"),
        pytest.param([(1, 1), (1, 1)], id="no-length"),
    ],
)
def test_bad_lines(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="path"):
        make_path(points)


def test_parallel_roads_have_no_turn() -> None:
    with pytest.raises(ValueError, match="parallel"):
        turn(make_path([(0, 0), (9, 0)]), make_path([(0, 5), (9, 5)]), radius_px=2)

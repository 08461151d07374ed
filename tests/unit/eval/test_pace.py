from __future__ import annotations

import pytest

from molmo2_ground.eval.pace import Pace


def told_at(ends_s: list[float], *, total: int) -> list[tuple[int, int, float | None]]:
    """What is told when the pieces end at these seconds."""
    times = iter([0.0, *ends_s])
    told: list[tuple[int, int, float | None]] = []
    pace = Pace(total, lambda *progress: told.append(progress), clock=lambda: next(times))
    for _ in ends_s:
        pace.step()
    return told


def test_the_rest_is_taken_to_go_as_the_pieces_before() -> None:
    assert told_at([1.0, 2.0, 6.0], total=5) == [(1, 5, None), (2, 5, 3.0), (3, 5, 4.0)]


def test_what_passed_at_once_long_ago_promises_nothing() -> None:
    kept, slow = [0.0] * 200, [10.0 * k for k in range(1, 101)]
    done, total, left_s = told_at(kept + slow, total=400)[-1]
    assert (done, total) == (300, 400)
    assert left_s == pytest.approx(1000.0)


def test_nobody_need_listen() -> None:
    Pace(1, None).step()

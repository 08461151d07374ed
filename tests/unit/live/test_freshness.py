from __future__ import annotations

from dataclasses import replace

import pytest

from molmo2_ground.live.freshness import Freshness
from tests.live_scenes import BEGIN_NS, Street

STREET = Street(lambda time_s: {}, size_px=(64, 36))


@pytest.mark.parametrize(
    ("stamp_s", "taken_s"),
    [
        pytest.param(9.8, 9.8, id="a-camera-in-step"),
        pytest.param(-19.0, -19.0, id="held-back-for-long"),
        pytest.param(-21.0, 10.0, id="too-long-before"),
        pytest.param(10.05, 10.0, id="a-little-ahead"),
        pytest.param(11.0, 10.0, id="from-the-future"),
        pytest.param(-1e9, 10.0, id="since-it-was-switched-on"),
    ],
)
def test_when_a_picture_was_taken(stamp_s: float, taken_s: float) -> None:
    rules = Freshness(max_age_s=5.0, valid_s=1.0)
    capture = STREET.capture(0, 10.0, stamp_s=stamp_s)
    assert (rules.taken_ns(capture) - BEGIN_NS) / 1e9 == pytest.approx(taken_s)
    assert rules.valid_until_ns(capture) == rules.taken_ns(capture) + 1_000_000_000
    assert rules.age_ms(capture, capture.monotonic_ns + 2_000_000) == pytest.approx(
        1000 * (10.0 - taken_s) + 2.0
    )


Pictures = list[tuple[float, float, int]]
"""Seconds of arriving and of the stamp, and the connection."""


@pytest.mark.parametrize(
    ("pictures", "our_clock_set_s", "held_s"),
    [
        pytest.param([(0, 0, 1), (29, 1, 1), (30, 1, 1), (99, 9, 1)], 0, [0, 28, 29, 90], id="falls-behind"),
        pytest.param([(0, -40, 1), (1, -39, 1)], 0, [0, 0], id="never-was-ours"),
        pytest.param([(0, 0, 1), (50, 5, 1), (60, 5, 2)], 0, [0, 45, 0], id="another-connection"),
        pytest.param([(0, 0, 1), (50, 5, 1), (60, 59, 1)], 0, [0, 45, 1], id="catches-up"),
        pytest.param([(0, 0, 1), (1, 1, 1), (2, 2, 1)], 3600, [0, 0, 0], id="our-clock-is-set-forward"),
        pytest.param([(0, 0, 1), (1, 1, 1), (2, 2, 1)], -3600, [0, 0, 0], id="our-clock-is-set-back"),
        pytest.param([(0, 0, 1), (40, 1, 1), (41, 1.1, 1)], 3600, [0, 39, 39.9], id="behind-and-set"),
    ],
)
def test_a_clock_that_was_ours_stays_ours(
    pictures: Pictures, our_clock_set_s: float, held_s: list[float]
) -> None:
    rules = Freshness(max_age_s=5.0, valid_s=1.0)
    captures = [
        STREET.capture(n, arrived_s, stamp_s=stamp_s, epoch=epoch)
        for n, (arrived_s, stamp_s, epoch) in enumerate(pictures)
    ]
    set_ns = round(our_clock_set_s * 1e9)
    captures[1:] = [replace(capture, recv_ns=capture.recv_ns + set_ns) for capture in captures[1:]]
    held = [rules.received_ms(capture) / 1000 for capture in captures]
    assert held == pytest.approx(held_s)

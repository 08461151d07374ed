from __future__ import annotations

import pytest

from molmo2_ground.live.freshness import Freshness
from tests.live_scenes import BEGIN_NS, Street

STREET = Street(lambda time_s: {}, size_px=(64, 36))
RULES = Freshness(max_age_s=5.0, valid_s=1.0)


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
    capture = STREET.capture(0, 10.0, stamp_s=stamp_s)
    assert (RULES.taken_ns(capture) - BEGIN_NS) / 1e9 == pytest.approx(taken_s)
    assert RULES.valid_until_ns(capture) == RULES.taken_ns(capture) + 1_000_000_000
    assert RULES.age_ms(capture, capture.monotonic_ns + 2_000_000) == pytest.approx(
        1000 * (10.0 - taken_s) + 2.0
    )

from __future__ import annotations

import pytest

from molmo2_ground.clocks import Clocks
from molmo2_ground.sources.feeds.pace import Pace


class Hands:
    now_ns = 10**12

    def clocks(self) -> Clocks:
        return Clocks(monotonic_ns=lambda: self.now_ns)


@pytest.mark.parametrize("speed", [1.0, 4.0, 0.5])
def test_pictures_are_due_at_their_own_times_by_the_speed(speed: float) -> None:
    hands = Hands()
    pace = Pace(speed=speed, clocks=hands.clocks())
    assert pace.wait_s(7.0) == 0
    assert pace.wait_s(9.0) == pytest.approx(2.0 / speed)
    hands.now_ns += round(2.0 / speed * 1e9)
    assert pace.wait_s(9.0) == pytest.approx(0)


def test_a_little_late_is_caught_up_and_much_moves_everything_along() -> None:
    hands = Hands()
    pace = Pace(speed=1.0, clocks=hands.clocks())
    pace.wait_s(0)
    hands.now_ns += 1_500_000_000
    assert pace.wait_s(1.0) == pytest.approx(-0.5)
    assert pace.held_ns == 0
    hands.now_ns += 10_000_000_000
    assert pace.wait_s(1.1) == 0
    assert pace.wait_s(1.6) == pytest.approx(0.5)
    assert pace.held_ns == 10_400_000_000
    hands.now_ns += 5_000_000_000
    assert pace.wait_s(1.6) == 0
    assert pace.held_ns == 14_900_000_000


def test_a_speed_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Pace(speed=0, clocks=Clocks())

from __future__ import annotations

from threading import Thread

import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds.failures import StalledError
from molmo2_ground.sources.feeds.handover import Handover


def late() -> StalledError:
    return StalledError("late")


def test_things_come_in_order_and_the_end_after_them() -> None:
    handover: Handover[int] = Handover()

    def give() -> None:
        for number in range(20):
            assert handover.give(number)
        handover.end()

    giver = Thread(target=give)
    giver.start()
    got = [handover.take(10, late=late) for _ in range(21)]
    giver.join()
    assert got == [*range(20), None]


def test_an_error_comes_after_what_was_given() -> None:
    handover: Handover[int] = Handover()
    handover.give(1)
    handover.end(SourceError("broke"))
    assert handover.take(1, late=late) == 1
    with pytest.raises(SourceError, match="broke"):
        handover.take(1, late=late)


def test_waiting_in_vain_is_late() -> None:
    handover: Handover[int] = Handover()
    with pytest.raises(StalledError, match="late"):
        handover.take(0.001, late=late)
    with pytest.raises(StalledError, match="late"):
        handover.wait_opened(0.001, late=late)


def test_opening_returns_when_it_is_open_or_over_and_raises_what_failed() -> None:
    handover: Handover[int] = Handover()
    handover.opened()
    handover.wait_opened(0, late=late)
    failed: Handover[int] = Handover()
    failed.end(SourceError("no"))
    with pytest.raises(SourceError, match="no"):
        failed.wait_opened(0, late=late)


def test_closing_lets_both_sides_go() -> None:
    handover: Handover[int] = Handover()
    handover.give(1)
    told: list[object] = []
    giver = Thread(target=lambda: told.append(handover.give(2)))
    giver.start()
    handover.close()
    giver.join(5)
    assert told == [False]
    assert handover.take(60, late=late) is None
    assert handover.is_closed
    assert handover.pause(60)
    assert not handover.opened()
    with pytest.raises(SourceError, match="closed"):
        handover.wait_opened(60, late=late)

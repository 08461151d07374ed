from __future__ import annotations

from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from molmo2_ground.sources.feeds.capture import Capture
from molmo2_ground.sources.feeds.waiting_room import Policy, WaitingRoom


def capture(index: int) -> Capture:
    return Capture(
        index=index,
        epoch=1,
        stamp_ns=index,
        recv_ns=index,
        decoded_ns=index,
        monotonic_ns=index,
        width_px=2,
        height_px=1,
        paint=lambda: np.zeros((1, 2, 3), np.uint8),
    )


class Accounting(RuleBasedStateMachine):
    """Against a plain list: order, policy and every count."""

    @initialize(policy=st.sampled_from(["latest", "every"]), capacity=st.integers(1, 4))
    def open(self, policy: Policy, capacity: int) -> None:
        self.room = WaitingRoom(policy=policy, capacity=capacity, waits=False)
        self.policy, self.capacity = policy, capacity
        self.number, self.taken, self.told = 0, 0, 0
        self.model: list[int] = []
        self.dropped: dict[str, int] = {}
        self.closed = False

    def drop(self, reason: str, count: int = 1) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    @rule()
    def bring(self) -> None:
        self.room.bring(capture(self.number))
        if self.closed:
            self.drop("closed")
        elif self.policy == "latest":
            if self.model:
                self.drop("replaced")
            self.model = [self.number]
        elif len(self.model) < self.capacity:
            self.model.append(self.number)
        else:
            self.drop("full")
        self.number += 1

    @rule(reason=st.sampled_from(["rate", "damaged"]), count=st.integers(1, 3))
    def leave_out(self, reason: str, count: int) -> None:
        self.room.left_out(reason, count)
        self.drop(reason, count)
        self.number += count

    @rule()
    def take(self) -> None:
        got = self.room.take(0)
        assert (got.index if got else None) == (self.model.pop(0) if self.model else None)
        self.taken += got is not None

    @rule()
    def drain(self) -> None:
        self.told += sum(self.room.drain_dropped().values())
        assert self.told == sum(self.dropped.values())

    @rule()
    def close(self) -> None:
        self.room.close()
        self.closed = True

    @invariant()
    def everything_is_accounted_for(self) -> None:
        totals = self.room.totals
        assert totals.received == self.number == totals.taken + totals.waiting + sum(totals.dropped.values())
        assert totals.dropped == self.dropped
        assert totals.taken == self.taken
        assert self.room.is_over == (self.closed and not self.model)


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize(("policy", "waits"), [("block", False), ("latest", True), ("every", True)], ids=str)
def test_who_waits_loses_nothing(policy: Policy, waits: bool) -> None:
    room = WaitingRoom(policy=policy, capacity=3, waits=waits)

    def bring_all() -> None:
        for number in range(50):
            room.bring(capture(number))

    bringer = Thread(target=bring_all)
    bringer.start()
    got = [room.take(10) for _ in range(50)]
    bringer.join()
    assert [c.index for c in got if c] == list(range(50))
    assert not room.totals.dropped


def test_one_who_waits_for_room_goes_on_when_it_is_closed_and_that_is_counted() -> None:
    room = WaitingRoom(policy="block", capacity=1, waits=True)
    room.bring(capture(0))
    bringer = Thread(target=room.bring, args=(capture(1),))
    bringer.start()
    room.close()
    bringer.join(5)
    assert not bringer.is_alive()
    assert room.totals.dropped == {"closed": 1}
    first = room.take(0)
    assert first is not None
    assert first.index == 0
    assert room.is_over


def test_one_who_waits_for_a_picture_goes_on_when_it_is_closed() -> None:
    room = WaitingRoom(policy="latest", capacity=1, waits=False)
    got: list[Any] = []
    taker = Thread(target=lambda: got.append(room.take(60)))
    taker.start()
    room.close()
    taker.join(5)
    assert got == [None]


@pytest.mark.parametrize("words", [{"policy": "newest"}, {"capacity": 0}], ids=str)
def test_senseless_ones_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        WaitingRoom(**{"policy": "every", "capacity": 1, "waits": False, **words})

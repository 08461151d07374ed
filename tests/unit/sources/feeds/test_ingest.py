from __future__ import annotations

import itertools
import logging
import os
import re
from dataclasses import replace
from itertools import pairwise
from threading import Event, Thread, active_count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds.backoff import Backoff
from molmo2_ground.sources.feeds.capture import Capture
from molmo2_ground.sources.feeds.failures import RefusedError, StalledError, WholeFileError
from molmo2_ground.sources.feeds.feed import Feed, Timeouts
from molmo2_ground.sources.feeds.ingest import Ingest
from molmo2_ground.sources.feeds.waiting_room import Policy
from tests.unit.sources.feeds.fake_feed import (
    MILLISECOND,
    FakeConnection,
    FakeFeed,
    HangingFeed,
    Life,
    arrival,
)

QUICK = Backoff(first_s=1e-4, cap_s=1e-3, attempts=0)
PATIENT = Backoff(first_s=1e-4, cap_s=1e-3)


def pictures(*stamps_ms: int) -> list[Any]:
    return [arrival(stamp * MILLISECOND) for stamp in stamps_ms]


def everything(ingest: Ingest) -> list[Capture]:
    """All captures until it is over."""
    got: list[Capture] = []
    while not ingest.ended:
        capture = ingest.take(10)
        got += [capture] if capture else []
    return got


def read(feed: Feed, **words: Any) -> tuple[list[Capture], Ingest]:
    words = {"policy": "every", "capacity": 1000, "backoff": QUICK, **words}
    with Ingest(feed, **words) as ingest:
        return everything(ingest), ingest


def states(ingest: Ingest) -> list[str]:
    return [event.state for event in ingest.drain_events()]


def test_pictures_come_with_their_times_and_numbers() -> None:
    feed = FakeFeed([Life([arrival(None, recv_ns=5), arrival(70, recv_ns=90)])], reopens=False)
    (first, second), ingest = read(feed)
    assert (first.index, first.stamp_ns, first.stamped_by, first.recv_ns) == (0, 5, "arrival", 5)
    assert (second.index, second.stamp_ns, second.stamped_by, second.recv_ns) == (1, 70, "camera", 90)
    assert second.paint().shape == (second.height_px, second.width_px, 3)
    assert first.epoch == second.epoch == ingest.epoch
    assert ingest.newest_monotonic_ns == 90
    assert states(ingest) == ["connecting", "connected", "ended"]
    assert ingest.failure is None


def test_a_lost_camera_is_connected_again_and_each_connection_is_an_epoch_that_rises() -> None:
    # The clock stands still: epochs rise all the same.
    still = Clocks(unix_ns=lambda: 1000 * MILLISECOND)
    feed = FakeFeed(
        [Life(pictures(1, 2)), Life(pictures(1)), Life(pictures(9), SourceError("fake: broke")), Life([])]
    )
    got, ingest = read(feed, clocks=still, backoff=Backoff(first_s=1e-4, cap_s=1e-3, attempts=1))
    assert [(c.index, c.epoch, c.stamp_ns // MILLISECOND) for c in got] == [
        (0, 1000, 1),
        (1, 1000, 2),
        (2, 1001, 1),
        (3, 1002, 9),
    ]
    assert ingest.connections == 4
    assert ingest.totals.dropped == {}
    events = ingest.drain_events()
    assert [e.state for e in events] == [
        "connecting",
        "connected",
        "reconnecting",
        "connected",
        "reconnecting",
        "connected",
        "reconnecting",
        "connected",
        "failed",
    ]
    assert [e.epoch for e in events] == [None, 1000, 1000, 1001, 1001, 1002, 1002, 1003, 1003]
    assert "ended the stream" in events[2].reason
    assert events[6].reason == "fake: broke"


def test_attempts_are_counted_until_a_picture_comes() -> None:
    feed = FakeFeed(
        [
            SourceError("no 1"),
            SourceError("no 2"),
            Life([]),  # lets us in and shows nothing: not back yet
            Life(pictures(1)),
            SourceError("no 3"),
            Life(pictures(1), waits=True),
        ]
    )
    with Ingest(feed, policy="block", backoff=PATIENT) as ingest:
        assert ingest.take(10)
        assert ingest.take(10)
    attempts = [e.attempt for e in ingest.drain_events() if e.state == "reconnecting"]
    assert attempts == [1, 2, 3, 1, 2]


def test_a_camera_that_stays_away_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    seconds = itertools.count(0, 20)  # by this clock 20 s pass from one change of state to the next
    clocks = Clocks(monotonic_ns=lambda: next(seconds) * 1_000_000_000)
    lives: list[Life | SourceError] = [SourceError("fake: gone")] * 10
    feed = FakeFeed([*lives, *[SourceError("fake: no route")] * 2])
    backoff = Backoff(first_s=1e-4, cap_s=1e-3, attempts=11)
    with caplog.at_level(logging.WARNING):
        _, ingest = read(feed, clocks=clocks, backoff=backoff)
    assert [e.attempt for e in ingest.drain_events() if e.state == "reconnecting"] == [*range(1, 12)]
    logged = [re.findall(r"attempt (\d+)\): (.*)", line) for line in caplog.messages]
    assert [found[0] for found in logged if found] == [
        ("1", "gone"),
        ("2", "gone"),
        ("3", "gone"),
        ("6", "gone"),
        ("9", "gone"),
        ("11", "no route"),
    ]


def logged_attempts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [n for line in caplog.messages for n in re.findall(r"attempt (\d+)\)", line)]


@pytest.mark.parametrize("shown", [0, 1], ids=["nothing", "a picture each time"])
def test_a_server_that_sends_a_file_over_and_over_is_not_back(
    shown: int, caplog: pytest.LogCaptureFixture
) -> None:
    feed = FakeFeed([Life([2, *pictures(1)[:shown]], WholeFileError("fake: a file")) for _ in range(8)])
    with caplog.at_level(logging.INFO):
        _, ingest = read(feed, backoff=Backoff(first_s=1e-4, cap_s=1e-3, attempts=7))
    assert [e.attempt for e in ingest.drain_events() if e.state == "reconnecting"] == [*range(1, 8)]
    assert logged_attempts(caplog) == ["1", "2", "3"]
    assert caplog.messages.count("fake: connected") == 3
    assert caplog.messages[-1] == "fake: failed: a file"
    assert ingest.trouble == "a file"


def test_a_camera_that_stalls_over_and_over_is_logged_thinly_and_so_is_its_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stalls = [Life([], StalledError("fake: no picture for 5 s")) for _ in range(6)]
    feed = FakeFeed([*stalls, Life(pictures(1), waits=True)])
    ingest = Ingest(feed, policy="block", backoff=PATIENT)
    assert ingest.trouble == ""
    with caplog.at_level(logging.INFO), ingest:
        assert ingest.take(10)
        assert ingest.trouble == "no picture for 5 s"
    assert logged_attempts(caplog) == ["1", "2", "3"]
    assert sum("stalled" in line for line in caplog.messages) == 3
    assert caplog.messages[-2:] == ["fake: pictures come again", "fake: ended: closed"]


def test_a_stall_is_told_and_then_it_is_connected_again() -> None:
    feed = FakeFeed([Life(pictures(1), StalledError("fake: nothing for 5 s")), Life(pictures(1), waits=True)])
    with Ingest(feed, policy="block", backoff=PATIENT) as ingest:
        assert ingest.take(10)
        assert ingest.take(10)
        assert ingest.state == "connected"
    assert states(ingest) == ["connecting", "connected", "stalled", "reconnecting", "connected", "ended"]


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        pytest.param(
            FakeFeed([SourceError("fake: no file")], reopens=False),
            "fake: no file",
            id="file-that-is-not-there",
        ),
        pytest.param(
            FakeFeed([Life(pictures(1), SourceError("fake: hurt"))], reopens=False),
            "fake: hurt",
            id="hurt-file",
        ),
        pytest.param(FakeFeed([RefusedError("fake: 401")]), "fake: 401", id="wrong-password"),
    ],
)
def test_what_cannot_mend_is_not_tried_again(feed: FakeFeed, message: str) -> None:
    _, ingest = read(feed, backoff=PATIENT)
    assert str(ingest.failure) == message
    assert ingest.state == "failed"
    assert ingest.drain_events()[-1].reason == message


def test_a_camera_that_was_there_is_tried_again_even_when_it_refuses() -> None:
    feed = FakeFeed(
        [Life(pictures(1)), RefusedError("fake: 401 while booting"), Life(pictures(1), waits=True)]
    )
    with Ingest(feed, policy="block", backoff=PATIENT) as ingest:
        assert ingest.take(10)
        assert ingest.take(10)


def test_an_error_that_is_our_own_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeFeed):
        def connect(self, timeouts: Timeouts) -> Any:
            raise ZeroDivisionError("ours")

    with caplog.at_level(logging.CRITICAL):
        _, ingest = read(Broken())
    assert "ZeroDivisionError" in str(ingest.failure)
    assert ingest.state == "failed"


def test_stamps_that_do_not_rise_are_left_out_within_an_epoch_and_counted() -> None:
    feed = FakeFeed([Life(pictures(10, 20, 20, 15, 30)), Life(pictures(5, 6))])
    got, ingest = read(feed, backoff=Backoff(first_s=1e-4, cap_s=1e-3, attempts=1))
    assert [c.stamp_ns // MILLISECOND for c in got] == [10, 20, 30, 5, 6]
    assert ingest.totals.dropped == {"out_of_order": 2}
    for a, b in pairwise(got):
        assert b.epoch > a.epoch or b.stamp_ns > a.stamp_ns


def test_a_camera_whose_clock_is_set_back_begins_a_new_epoch() -> None:
    hour_ns = 3600 * 10**9
    steady = [arrival(hour_ns + i * 10**9, recv_ns=i * 10**9) for i in range(3)]
    back = [arrival(i * 10**9, recv_ns=i * 10**9) for i in range(3, 20)]
    feed = FakeFeed([Life([*steady, *back]), Life(pictures(1), waits=True)])
    clocks = Clocks(monotonic_ns=lambda: 0)
    with Ingest(
        feed, policy="every", backoff=PATIENT, clocks=clocks, timeouts=Timeouts(read_s=5.0)
    ) as ingest:
        got = [ingest.take(10) for _ in range(4)]
        assert all(got)
        assert ingest.connections == 2
        assert ingest.totals.dropped == {"out_of_order": 6}
    assert any(
        e.state == "stalled" and "clock went back by 3594.0 s" in e.reason for e in ingest.drain_events()
    )


def test_damaged_pictures_are_counted_and_leave_gaps_in_the_numbers() -> None:
    feed = FakeFeed([Life([2, *pictures(1, 2), 1, *pictures(3), 4])], reopens=False)
    got, ingest = read(feed)
    assert [c.index for c in got] == [2, 3, 5]
    assert ingest.totals.dropped == {"damaged": 7}
    assert ingest.totals.received == 10


def test_a_rate_goes_by_the_films_own_times_when_it_is_held_up() -> None:
    # Each picture that is kept holds it up for 2 s.
    held = [
        replace(arrival((i * 100 + i // 5 * 2000) * MILLISECOND), held_ns=i // 5 * 2 * 10**9)
        for i in range(20)
    ]
    got, _ = read(FakeFeed([Life(held)], reopens=False), rate_hz=2.0)
    assert [capture.index for capture in got] == [0, 5, 10, 15]


def test_a_rate_thins_before_anything_waits() -> None:
    feed = FakeFeed([Life(pictures(*range(0, 10_000, 40)))], reopens=False)
    got, ingest = read(feed, rate_hz=2.0)
    assert len(got) == 20
    assert ingest.totals.dropped == {"rate": 230}
    assert ingest.drain_dropped() == {"rate": 230}
    assert ingest.drain_dropped() == {}


def test_a_source_that_can_wait_loses_nothing_under_any_policy() -> None:
    for policy in ("latest", "every", "block"):
        feed = FakeFeed([Life(pictures(*range(100)))], paced=False, reopens=False)
        got, ingest = read(feed, policy=policy, capacity=3)
        assert len(got) == 100
        assert not ingest.totals.dropped


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    lives=st.lists(st.lists(st.one_of(st.integers(1, 3), st.integers(100, 120)), max_size=12), max_size=4),
    policy=st.sampled_from(["latest", "every", "block"]),
    capacity=st.integers(1, 3),
    rate_hz=st.sampled_from([None, 100.0]),
)
def test_received_is_taken_and_dropped_whatever_happens(
    lives: list[list[int]], policy: Policy, capacity: int, rate_hz: float | None
) -> None:
    script = [Life([n if n < 100 else arrival(n * MILLISECOND) for n in life]) for life in lives]
    sent = sum(n if n < 100 else 1 for life in lives for n in life)
    got, ingest = read(
        FakeFeed([*script]),
        policy=policy,
        capacity=capacity,
        rate_hz=rate_hz,
        backoff=Backoff(first_s=1e-6, cap_s=1e-6, attempts=len(lives) or 1),
    )
    totals = ingest.totals
    assert totals.received == sent
    assert totals.waiting == 0
    assert len(got) == totals.taken
    assert totals.received == totals.taken + sum(totals.dropped.values())
    assert ingest.drain_dropped() == totals.dropped
    assert [c.index for c in got] == sorted({c.index for c in got})


def test_closing_ends_the_thread_while_it_connects() -> None:
    feed = HangingFeed()
    before = active_count()
    with Ingest(feed) as ingest:
        assert feed.reached.wait(10)
    assert active_count() == before
    assert ingest.ended
    assert ingest.failure is None


def test_closing_ends_the_thread_while_it_waits_for_a_picture() -> None:
    feed = FakeFeed([Life(waits=True)])
    before = active_count()
    ingest = Ingest(feed).start()
    assert ingest.take(0.01) is None
    ingest.close()
    ingest.close()
    assert active_count() == before
    assert feed.connections[0].closed.is_set()


def test_a_connection_that_is_opened_while_closing_is_closed_too() -> None:
    class LateFeed(FakeFeed):
        def connect(self, timeouts: Timeouts) -> FakeConnection:
            reached.set()
            assert go.wait(10)
            return super().connect(timeouts)

    reached, go, before = Event(), Event(), active_count()
    feed = LateFeed([Life(waits=True)])
    ingest = Ingest(feed).start()
    assert reached.wait(10)
    closing = Thread(target=ingest.close)
    closing.start()
    while not ingest.ended:
        ingest.take(0.001)
    go.set()
    closing.join(10)
    assert active_count() == before
    assert states(ingest) == ["connecting", "ended"]


def test_closing_ends_the_thread_while_it_waits_to_try_again() -> None:
    with Ingest(FakeFeed(), backoff=Backoff(first_s=60, cap_s=60)) as ingest:
        while ingest.state != "reconnecting":
            ingest.take(0.001)
    assert ingest.ended
    assert ingest.failure is None


@pytest.mark.slow
def test_two_hundred_connections_leave_no_thread_and_no_file_behind() -> None:
    feed = FakeFeed([Life(pictures(1)) for _ in range(200)])
    before = active_count(), len(os.listdir("/proc/self/fd"))
    got, ingest = read(feed, policy="block", backoff=Backoff(first_s=1e-6, cap_s=1e-6, attempts=1))
    assert len(got) == ingest.connections == 200
    assert all(connection.closed.is_set() for connection in feed.connections)
    assert (active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_it_is_started_once() -> None:
    with Ingest(FakeFeed([Life()], reopens=False)) as ingest, pytest.raises(RuntimeError, match="once"):
        ingest.start()

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from molmo2_ground.clocks import Clocks
from molmo2_ground.messages.header import StampClock
from molmo2_ground.sources.feeds import Ingest, Timeouts, camera_parts, open_feed
from molmo2_ground.sources.feeds.backoff import Backoff
from molmo2_ground.sources.feeds.failures import RefusedError, StalledError

zmq = pytest.importorskip("zmq")

PICTURE = np.full((8, 16, 3), 99, np.uint8)


class Camera:
    """A PUB socket that sends its messages in turn, over and over, until it is closed."""

    def __init__(self, messages: list[list[bytes]], *, once_each: bool = False) -> None:
        self._socket = zmq.Context.instance().socket(zmq.XPUB)
        self._socket.linger = 0
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self._messages, self._once, self._stop = messages, once_each, Event()
        self._thread = Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while not self._stop.is_set() and not self._socket.poll(20):
            pass
        if not self._stop.is_set():
            self._socket.recv()  # somebody subscribed
        while not self._stop.is_set():
            for message in self._messages:
                self._socket.send_multipart(message)
                self._stop.wait(0.002)
            if self._once:
                self._stop.wait()
        self._socket.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)


@pytest.fixture
def cameras() -> Iterator[Any]:
    made: list[Camera] = []

    def make(messages: list[list[bytes]], **words: Any) -> Camera:
        made.append(Camera(messages, **words))
        return made[-1]

    yield make
    for camera in made:
        camera.close()


def message(
    stamp_ns: int, *, epoch: int = 0, camera: str = "left", clock: StampClock = "unix"
) -> list[bytes]:
    return list(camera_parts(PICTURE, stamp_ns=stamp_ns, epoch=epoch, camera=camera, clock=clock))


def test_pictures_come_with_the_senders_times_and_everything_else_is_counted(cameras: Any) -> None:
    camera = cameras(
        [
            message(1),
            [b"noise"],
            message(2),
            message(2),
            message(5, camera="right"),
            [b"{}", b"x"],
            message(3),
        ],
        once_each=True,
    )
    clocks = Clocks(unix_ns=lambda: 4)
    feed = open_feed(f"zmq+tcp://127.0.0.1:{camera.port}?camera=left", clocks=clocks)
    with Ingest(feed, policy="block", timeouts=Timeouts(open_s=10, read_s=10)) as ingest:
        captures = [ingest.take(10) for _ in range(3)]
        assert [(c.stamp_ns, c.stamped_by) for c in captures if c] == [(n, "camera") for n in (1, 2, 3)]
        assert captures[0] is not None
        assert abs(int(captures[0].paint()[0, 0, 0]) - 99) < 5
        assert ingest.totals.dropped == {"malformed": 2, "repeated": 1}


def test_a_camera_that_was_started_anew_is_another_epoch(cameras: Any) -> None:
    camera = cameras([message(9, epoch=1), message(3, epoch=2)])
    feed = open_feed(f"zmq+tcp://127.0.0.1:{camera.port}")
    with Ingest(feed, policy="block", backoff=Backoff(first_s=1e-3, cap_s=1e-3)) as ingest:
        first, second = ingest.take(10), ingest.take(10)
    assert first is not None
    assert second is not None
    assert second.epoch > first.epoch


@pytest.mark.parametrize(
    ("off_s", "clock", "stamped_by"),
    [
        pytest.param(-1.5, "unix", "camera", id="a-clock-that-is-ours"),
        pytest.param(-6.0, "unix", "arrival", id="seconds-behind"),
        pytest.param(6.0, "unix", "arrival", id="seconds-ahead"),
        pytest.param(-6.0, "ros", "camera", id="another-clock-is-kept"),
    ],
)
def test_a_clock_that_is_not_ours_is_told_and_pictures_are_stamped_by_arrival(
    cameras: Any, caplog: pytest.LogCaptureFixture, off_s: float, clock: StampClock, stamped_by: str
) -> None:
    sent_ns = time.time_ns() + round(off_s * 1e9)
    camera = cameras([message(sent_ns + n, clock=clock) for n in range(3)], once_each=True)
    feed = open_feed(f"zmq+tcp://127.0.0.1:{camera.port}")
    with Ingest(feed, policy="block") as ingest:
        captures = [capture for _ in range(3) if (capture := ingest.take(10))]
    assert [c.stamped_by for c in captures] == [stamped_by] * 3
    assert all(
        c.stamp_ns == (sent_ns + n if stamped_by == "camera" else c.recv_ns) for n, c in enumerate(captures)
    )
    said = [line for line in caplog.messages if "pictures are stamped by their arrival" in line]
    assert len(said) == (stamped_by == "arrival")


@pytest.mark.slow
def test_a_sender_of_nothing_but_noise_counts_as_stalled(cameras: Any) -> None:
    camera = cameras([[b"noise"]])
    feed = open_feed(f"zmq+tcp://127.0.0.1:{camera.port}")
    connection = feed.connect(Timeouts(open_s=0.1, read_s=0.1))
    with pytest.raises(StalledError, match="no picture for"):
        next(connection.arrivals())


def test_nobody_there_is_a_stall_and_closing_is_prompt() -> None:
    with Ingest(open_feed("zmq+tcp://127.0.0.1:1"), timeouts=Timeouts(open_s=60)) as ingest:
        assert ingest.take(0.01) is None
    assert ingest.ended
    assert ingest.failure is None


@pytest.mark.parametrize(
    "address",
    ["zmq+tcp://127.0.0.1", "zmq+tcp://127.0.0.1:1?token=SeCrEt", "zmq+tcp://u:SeCrEt@127.0.0.1:1"],
)
def test_addresses_that_zeromq_cannot_use_are_refused(address: str) -> None:
    with pytest.raises(RefusedError) as caught:
        open_feed(address).connect(Timeouts())
    assert "SeCrEt" not in str(caught.value)

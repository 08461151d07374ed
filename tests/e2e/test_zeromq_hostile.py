"""Whoever connects to a publisher or its control socket changes nothing for the others."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq

from molmo2_ground.integrations.zeromq import ControlClient, ControlServer, Publisher, Subscriber
from molmo2_ground.integrations.zeromq.rate_limit import RateLimit
from molmo2_ground.integrations.zeromq.topic_log import TopicLog
from molmo2_ground.integrations.zeromq.wire import from_wire
from tests.made_updates import live_track
from tests.zeromq_peers import ASKED, LOOPBACK, PATIENCE_S, FakeStream, Keyring, fresh, health, until

MANY = tuple(live_track(number, x_px=float(number)) for number in range(24))
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\3\0" + b"NULL".ljust(20, b"\0") + b"\0" * 32


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def host_of(endpoint: str) -> tuple[str, int]:
    host, port = endpoint.removeprefix("tcp://").split(":")
    return host, int(port)


def insults(seed: int) -> list[bytes]:
    """What a scanner sends: noise, other protocols, torn and false greetings, frames of absurd lengths."""
    noise = random.Random(seed)
    return [
        *(noise.randbytes(noise.choice([1, 9, 64, 4096])) for _ in range(40)),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise.randbytes(200),
        GREETING[:11],
        GREETING + b"\x04\xff" + b"x" * 255,  # a command that is none
        GREETING + b"\x06" + (2**63 - 1).to_bytes(8, "big"),  # a command of eight exabytes
        GREETING + b"\x04\x26\5READY" + b"\x0bSocket-Type\xff\xff\xff\xffSUB" + b"\0" * 12,
        GREETING + b"\x04\x19\5READY\x0bSocket-Type\0\0\0\3SUB" + b"\2" + (2**40).to_bytes(8, "big"),
    ]


def scan(endpoint: str, seed: int, *, guarded: bool = False) -> None:
    """Send each insult over a connection of its own, and then hang up.

    Torn greetings and silence are ended by the other side within seconds. What looks like the first version
    of the protocol, which has no greeting, is so only where keys are wanted: elsewhere it stays until we go.
    """
    with contextlib.ExitStack() as calls:
        callers = []
        for insult in (*insults(seed), b""):
            caller = calls.enter_context(socket.create_connection(host_of(endpoint), timeout=PATIENCE_S))
            with contextlib.suppress(ConnectionError):  # it has hung up already
                caller.sendall(insult)
            if guarded or insult in (b"", GREETING[:11]):
                callers.append(caller)
        for caller in callers:
            with contextlib.suppress(ConnectionError):  # hung up, and harshly
                while caller.recv(4096):
                    pass


@pytest.mark.slow
def test_a_port_scan_harms_no_subscriber() -> None:
    with Publisher(LOOPBACK, stream_name="cam") as publisher, Subscriber(publisher.endpoint) as subscriber:
        publisher.start_health(health, period_s=0.01)
        assert subscriber.wait_alive(PATIENCE_S)
        files = psutil.Process().num_fds()
        ended = threading.Event()

        def scan_and_tell() -> None:
            scan(publisher.endpoint, 7)
            ended.set()

        scanner = threading.Thread(target=scan_and_tell)
        scanner.start()
        while scanner.is_alive():
            publisher.publish(fresh(), questions=ASKED)
            assert subscriber.receive(PATIENCE_S) is not None
        scanner.join()
        assert ended.is_set(), "silence or half a greeting was not ended by the publisher"
        until(lambda: psutil.Process().num_fds() <= files, what="no connection stays")
        assert subscriber.alive
        assert subscriber.lost == 0
        assert subscriber.unreadable == 0


@pytest.mark.slow
def test_a_port_scan_harms_no_control() -> None:
    limit = RateLimit(peer=(10_000, 10_000), total=(10_000, 10_000))
    with (
        ControlServer(LOOPBACK, FakeStream(), limit=limit) as server,
        ControlClient(server.endpoint, timeout_s=PATIENCE_S) as client,
    ):
        client.ping()
        scan(server.endpoint, 8)
        client.ping()
        assert server.counts["done"] == 2


@pytest.mark.slow
def test_a_port_scan_of_a_guarded_address_lets_nobody_in(tmp_path: Path) -> None:
    ring = Keyring.make(tmp_path / "keys", "robot")
    with (
        Publisher(LOOPBACK, stream_name="cam", keys=ring.server) as publisher,
        Subscriber(publisher.endpoint, keys=ring.clients["robot"]) as subscriber,
    ):
        publisher.start_health(health, period_s=0.01)
        assert subscriber.wait_alive(PATIENCE_S)
        scan(publisher.endpoint, 9, guarded=True)
        assert subscriber.alive
        assert subscriber.lost == 0


def test_a_subscription_that_is_too_long_ends_its_connection_alone() -> None:
    context = zmq.Context()
    hostile = context.socket(zmq.SUB)
    hostile.linger = 0
    monitor = hostile.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    with Publisher(LOOPBACK, stream_name="cam") as publisher, Subscriber(publisher.endpoint) as subscriber:
        publisher.start_health(health, period_s=0.01)
        hostile.connect(publisher.endpoint)
        hostile.subscribe(b"molmo2/" + b"x" * 100_000)
        assert monitor.poll(int(PATIENCE_S * 1000))
        assert subscriber.wait_alive(PATIENCE_S)
        assert subscriber.link == "connected"
    hostile.disable_monitor()
    monitor.close(0)
    hostile.close(0)
    context.term()


@pytest.mark.slow
def test_a_slow_subscriber_loses_messages_and_knows_it_by_seq() -> None:
    with (
        Publisher(LOOPBACK, stream_name="cam", high_water=5) as publisher,
        Subscriber(publisher.endpoint, keep="every", kinds=("tracks",), high_water=5) as slow,
    ):
        publisher.start_health(health, period_s=0.01)
        assert slow.wait_alive(PATIENCE_S)
        first = publisher.publish(fresh(0, *MANY), questions=ASKED)
        assert slow.receive(PATIENCE_S) is not None
        sent = len(first)
        for _ in range(1500):  # while it does not read: far more than all buffers hold
            sent += len(publisher.publish(fresh(0, *MANY), questions=ASKED))
        last_seq, received = -1, 1
        while last_seq != sent - 1:  # it reads again; what is sent from now on reaches it
            taken = slow.receive(0.05, stale_too=True)
            if taken is None:
                sent += len(publisher.publish(fresh(0, *MANY), questions=ASKED))
                continue
            received += 1
            last_seq = taken.message.header.seq  # type: ignore[union-attr]
        log = slow.logs["cam", "tracks"]
        assert log.lost > 0
        assert log.received + log.lost == sent
        assert log.received == received


class Crowd:
    """Subscribers on plain sockets, in one thread: those that read, and those that never do."""

    def __init__(self, endpoint: str, *, reading: int, stalled: int) -> None:
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 1000)
        self._poller = zmq.Poller()
        self.logs: dict[zmq.Socket[bytes], TopicLog] = {}
        self.stalled = [self._connect(endpoint, high_water=2, buffer=4096) for _ in range(stalled)]
        for _ in range(reading):
            reader = self._connect(endpoint, high_water=1000, buffer=-1)
            self._poller.register(reader, zmq.POLLIN)
            self.logs[reader] = TopicLog()

    def _connect(self, endpoint: str, *, high_water: int, buffer: int) -> zmq.Socket[bytes]:
        made = self._context.socket(zmq.SUB)
        made.linger, made.rcvhwm, made.rcvbuf = 0, high_water, buffer
        made.subscribe(b"molmo2/cam/tracks/")
        made.connect(endpoint)
        return made

    def read(self) -> None:
        for reader, _ in self._poller.poll(10):
            while reader.poll(0):
                found = re.search(rb'"seq":(\d+)', reader.recv())  # reading all of it would take a minute
                assert found is not None
                self.logs[reader].take(int(found[1]), None)

    def all_have(self, seq: int) -> bool:
        self.read()
        return all(log._next_seq == seq + 1 for log in self.logs.values())

    def close(self) -> None:
        for made in (*self.stalled, *self.logs):
            made.close(0)
        self._context.term()


@pytest.mark.slow
def test_two_hundred_subscribers_of_which_fifty_never_read() -> None:
    process = psutil.Process()
    with Publisher(LOOPBACK, stream_name="cam", high_water=20) as publisher:
        crowd = Crowd(publisher.endpoint, reading=150, stalled=50)
        try:
            seq = -1

            def say() -> float:
                nonlocal seq
                given = fresh(0, *MANY)
                start_s = time.perf_counter()
                (said,) = publisher.publish(given, questions=ASKED)
                took_s = time.perf_counter() - start_s
                seq = said.message.header.seq
                return took_s

            until(lambda: say() >= 0 and crowd.all_have(seq), what="all are there", patience_s=60)
            before = {reader: (log.received, log.lost) for reader, log in crowd.logs.items()}
            first_seq, took_s, memory = seq, [], []
            for _ in range(80):
                took_s += [say() for _ in range(10)]
                until(lambda: crowd.all_have(seq), what="all who read have all", patience_s=60)
                memory.append(process.memory_info().rss)
            for reader, log in crowd.logs.items():
                assert log.received - before[reader][0] == seq - first_seq
                assert log.lost == before[reader][1]
            grown_mb = (memory[-1] - memory[len(memory) // 2]) / 2**20
            took_ms = sorted(1e3 * took for took in took_s)
            p99_ms = took_ms[int(0.99 * len(took_ms))]
            print(f"publish p50 {statistics.median(took_ms):.2f} ms, p99 {p99_ms:.2f} ms; {grown_mb:+.1f} MB")
            assert grown_mb < 16
            assert statistics.median(took_ms) < 10
            assert all(lost_some(stalled, seq) for stalled in crowd.stalled), "they were not behind"
        finally:
            crowd.close()


def lost_some(stalled: zmq.Socket[bytes], last_seq: int) -> bool:
    """Whether a subscriber that did not read is behind what was sent: it holds a few old ones."""
    if not stalled.poll(int(PATIENCE_S * 1000)):
        return False
    _, _, message = from_wire(stalled.recv())
    return message.header.seq < last_seq - 100  # type: ignore[union-attr]

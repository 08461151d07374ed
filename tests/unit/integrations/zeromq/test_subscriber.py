from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import zmq

from molmo2_ground.clocks import Clocks
from molmo2_ground.integrations.zeromq import Publisher, Subscriber
from molmo2_ground.integrations.zeromq.topic_log import TopicLog
from molmo2_ground.integrations.zeromq.wire import from_wire, to_wire
from molmo2_ground.live.saying import Numbering, messages_of
from molmo2_ground.query import Query
from tests.made_updates import EPOCH, START_NS, live_track, look, update
from tests.unit.live.test_saying import points
from tests.zeromq_peers import ASKED, LOOPBACK, PATIENCE_S, fresh, health, until

SECOND_NS = 1_000_000_000


@dataclass
class Watch:
    """Both clocks, moved by hand."""

    unix_ns: int = START_NS
    monotonic_ns: int = 0
    clocks: Clocks = field(init=False)

    def __post_init__(self) -> None:
        self.clocks = Clocks(unix_ns=lambda: self.unix_ns, monotonic_ns=lambda: self.monotonic_ns)

    def wait(self, seconds: float) -> None:
        self.unix_ns += int(seconds * 1e9)
        self.monotonic_ns += int(seconds * 1e9)


class Wire:
    """A PUB socket that sends whatever it is told, in whatever order."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.linger = 0
        self._socket.sndhwm = 100_000
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def wait_for(self, subscriptions: int) -> None:
        for _ in range(subscriptions):
            assert self._socket.poll(int(PATIENCE_S * 1000))
            assert self._socket.recv()[:1] == b"\1"

    def send(self, *each: bytes) -> None:
        for data in each:
            self._socket.send(data)

    def close(self) -> None:
        self._socket.close(0)
        self._context.term()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def tracks(seq: int, *, epoch: int = EPOCH, question: str = "people", sent_ns: int | None = None) -> bytes:
    """A tracks message, its number and epoch as told, about a picture taken at START_NS."""
    given = update(0, tracks=(live_track(question=question),))
    (said,) = messages_of(given, questions=ASKED, numbering=Numbering())
    sent = said.handed_over(given.made_ns if sent_ns is None else sent_ns)
    header = sent.message.header.model_copy(update={"seq": seq, "epoch": epoch})
    return to_wire("cam", "tracks", sent.message.model_copy(update={"header": header}))


def beat(pub_ns: int = START_NS) -> bytes:
    return to_wire("cam", "health", health().model_copy(update={"pub_ns": pub_ns, "source": "cam"}))


def listening(wire: Wire, watch: Watch | None = None, **options: Any) -> Subscriber:
    clocks = None if watch is None else watch.clocks
    subscriber = Subscriber(wire.endpoint, clocks=clocks, **options)
    wire.wait_for(1)
    return subscriber


def read_all(subscriber: Subscriber, wire: Wire) -> None:
    """Take in all that was sent so far."""
    wire.send(b"end")  # is no message of ours, and is counted
    wire.send(b"molmo2/end")
    before = subscriber.unreadable
    until(lambda: subscriber.alive in (True, False) and subscriber.unreadable > before, what="all is read")


@pytest.mark.parametrize(
    ("numbers", "lost", "restarts"),
    [
        pytest.param([0, 1, 2], 0, 0, id="all"),
        pytest.param([5, 6], 0, 0, id="came-late"),
        pytest.param([0, 1, 4, 5, 9], 5, 0, id="gaps"),
        pytest.param([7, 8, 0, 1], 0, 1, id="restart"),
        pytest.param([7, 8, 3], 3, 1, id="restart-and-loss"),
    ],
)
def test_gaps_and_restarts_are_counted(numbers: list[int], lost: int, restarts: int) -> None:
    log = TopicLog()
    told = [log.take(number, EPOCH) for number in numbers]
    assert (sum(told), log.lost, log.restarts, log.received) == (lost, lost, restarts, len(numbers))


def test_only_a_rising_epoch_is_a_reconnect() -> None:
    log = TopicLog()
    for seq, epoch in enumerate([10, 10, 20, 10, 20, 30]):
        log.take(seq, epoch)
    assert log.reconnects == 2


def test_the_newest_is_given_and_the_others_counted(wire: Wire) -> None:
    watch = Watch()
    with listening(wire, watch) as subscriber:
        wire.send(*(tracks(seq) for seq in range(10)))
        read_all(subscriber, wire)
        received = subscriber.receive(0)
        assert received is not None
        assert received.message.header.seq == 9  # type: ignore[union-attr]
        assert subscriber.receive(0) is None
        log = subscriber.logs["cam", "tracks"]
        assert (log.received, log.superseded, log.lost) == (10, 9, 0)


def test_questions_of_one_topic_do_not_hide_each_other(wire: Wire) -> None:
    with listening(wire, Watch()) as subscriber:
        wire.send(tracks(0), tracks(1, question="dogs"), tracks(2))
        read_all(subscriber, wire)
        assert subscriber.latest("tracks", question="dogs").header.seq == 1
        assert subscriber.latest("tracks", question="people").header.seq == 2
        assert {subscriber.receive(0).question for _ in range(2)} == {"dogs", "people"}  # type: ignore[union-attr]


def test_every_gives_all_in_order(wire: Wire) -> None:
    with listening(wire, Watch(), keep="every") as subscriber:
        wire.send(*(tracks(seq) for seq in range(20)))
        given = [subscriber.receive(PATIENCE_S) for _ in range(20)]
        assert [one.message.header.seq for one in given] == list(range(20))  # type: ignore[union-attr]


def test_what_is_too_old_is_not_given(wire: Wire) -> None:
    watch = Watch(unix_ns=START_NS + 40_000_000)  # when it was sent
    with listening(wire, watch) as subscriber:
        wire.send(tracks(0))
        read_all(subscriber, wire)
        assert subscriber.latest("tracks") is not None
        watch.wait(0.96)  # valid for one second after it was taken
        assert subscriber.latest("tracks") is not None
        watch.wait(0.001)
        assert subscriber.latest("tracks") is None
        assert subscriber.receive(0) is None
        assert subscriber.logs["cam", "tracks"].stale == 1
        wire.send(tracks(1))
        read_all(subscriber, wire)
        stale = subscriber.receive(0, stale_too=True)
        assert stale is not None
        assert not subscriber.is_fresh(stale)


def test_published_late_is_stale_whatever_our_clock_says(wire: Wire) -> None:
    watch = Watch(unix_ns=0)  # far behind the publisher's
    with listening(wire, watch) as subscriber:
        wire.send(tracks(0, sent_ns=START_NS + 2 * SECOND_NS))
        read_all(subscriber, wire)
        assert subscriber.latest("tracks") is None


@pytest.mark.parametrize(
    ("ahead_s", "offset_s", "wait_s", "fresh_then"),
    [
        pytest.param(0, 0, 0.9, True, id="one-clock"),
        pytest.param(60, 0, 0.9, True, id="publisher-ahead-unknown"),
        pytest.param(60, 0, 1.1, False, id="publisher-ahead-unknown-and-too-old"),
        pytest.param(60, 60, 0.9, True, id="publisher-ahead"),
        pytest.param(60, 60, 1.1, False, id="publisher-ahead-and-too-old"),
        pytest.param(-60, 0, 0.0, False, id="publisher-behind-unknown"),
        pytest.param(-60, -60, 0.9, True, id="publisher-behind"),
        pytest.param(-60, None, 0.9, True, id="not-comparable"),
        pytest.param(60, None, 1.1, False, id="not-comparable-and-too-old"),
    ],
)
def test_another_machine_s_clock(
    wire: Wire, ahead_s: float, offset_s: float | None, wait_s: float, fresh_then: bool
) -> None:
    watch = Watch(unix_ns=START_NS - int(ahead_s * 1e9))
    offset_ns = None if offset_s is None else int(offset_s * 1e9)
    with listening(wire, watch, clock_offset_ns=offset_ns) as subscriber:
        wire.send(tracks(0, sent_ns=START_NS))
        read_all(subscriber, wire)
        watch.wait(wait_s)
        assert (subscriber.latest("tracks") is not None) == fresh_then


def test_no_clock_makes_it_fresh_for_longer_than_max_age(wire: Wire) -> None:
    watch = Watch(unix_ns=START_NS + 40_000_000)
    with listening(wire, watch, max_age_s=2.0) as subscriber:
        wire.send(tracks(0))
        read_all(subscriber, wire)
        watch.monotonic_ns += 2 * SECOND_NS  # while the other clock is set back again and again
        assert subscriber.latest("tracks") is not None
        watch.monotonic_ns += 1_000_000
        assert subscriber.latest("tracks") is None


def test_what_waited_unread_counts_as_having_arrived_when_we_last_looked(wire: Wire) -> None:
    """A robot that was busy for ten seconds must not take what it finds then for new."""
    watch = Watch()
    with listening(wire, watch, clock_offset_ns=None, max_age_s=5.0) as subscriber:
        read_all(subscriber, wire)
        wire.send(tracks(0))
        assert subscriber._link.socket.poll(int(PATIENCE_S * 1000))  # it is there, and has not been read
        watch.wait(10)
        read_all(subscriber, wire)
        assert subscriber.latest("tracks") is None


def test_alive_by_heartbeat(wire: Wire) -> None:
    watch = Watch()
    with listening(wire, watch, silence_s=3.0) as subscriber:
        assert not subscriber.alive
        wire.send(beat())
        read_all(subscriber, wire)
        assert subscriber.alive
        watch.wait(3.001)
        assert not subscriber.alive
        assert subscriber.health is not None
        wire.send(beat(watch.unix_ns))
        read_all(subscriber, wire)
        assert subscriber.alive


def test_a_heartbeat_from_the_future_counts_from_its_arrival(wire: Wire) -> None:
    watch = Watch(unix_ns=START_NS - 3600 * SECOND_NS)
    with listening(wire, watch, silence_s=3.0) as subscriber:
        wire.send(beat())
        read_all(subscriber, wire)
        assert subscriber.alive
        watch.wait(3.001)
        assert not subscriber.alive


def test_a_reconnect_of_the_camera_shows_in_the_heartbeat(wire: Wire) -> None:
    with listening(wire, Watch()) as subscriber:
        for seq, epoch in enumerate((None, 10, 10, 20)):
            told = health().model_copy(update={"seq": seq, "epoch": epoch, "source": "cam"})
            wire.send(to_wire("cam", "health", told))
        read_all(subscriber, wire)
        assert subscriber.logs["cam", "health"].reconnects == 1


def test_tracks_alone_do_not_make_it_alive(wire: Wire) -> None:
    with listening(wire, Watch()) as subscriber:
        wire.send(tracks(0))
        read_all(subscriber, wire)
        assert subscriber.latest("tracks") is not None
        assert not subscriber.alive


@pytest.mark.parametrize(
    "junk",
    [
        pytest.param(b"molmo2/", id="no-topic"),
        pytest.param(b"molmo2/cam/tracks/", id="no-body"),
        pytest.param(b"molmo2/cam/tracks/ {", id="cut-off"),
        pytest.param(b"molmo2/cam/tracks/ " + b"[" * 100_000, id="deep"),
        pytest.param(b"molmo2/cam/nonsense/ {}", id="no-kind"),
        pytest.param(b"molmo2/\xff/tracks/ {}", id="no-utf-8"),
        pytest.param(b"molmo2/cam/tracks/ \xff", id="no-utf-8-body"),
        pytest.param(tracks(0).replace(b'"seq":0', b'"seq":-1'), id="below-zero"),
        pytest.param(tracks(0).replace(b'"seq":0', b'"seq":0,"more":1'), id="unknown-field"),
        pytest.param(tracks(0).replace(b'"age_ms":40.0', b'"age_ms":NaN'), id="nan"),
    ],
)
def test_junk_is_counted_and_harms_nothing(wire: Wire, junk: bytes) -> None:
    with listening(wire, Watch()) as subscriber:
        wire.send(junk, tracks(1))
        until(lambda: subscriber.latest("tracks") is not None, what="the good one arrives")
        assert subscriber.unreadable == 1


@pytest.mark.slow
def test_made_up_names_fill_no_memory(wire: Wire) -> None:
    with listening(wire, Watch()) as subscriber:
        wire.send(*(tracks(seq, question=f"q{seq}") for seq in range(400)))
        read_all(subscriber, wire)
        assert len(subscriber._newest) <= 256
        assert subscriber.logs["cam", "tracks"].received == 400


def test_only_the_kinds_that_were_asked_for_are_given() -> None:
    with (
        Publisher(LOOPBACK, stream_name="cam") as publisher,
        Subscriber(publisher.endpoint, stream="cam", kinds=("points",), keep="every") as subscriber,
    ):
        publisher.start_health(health, period_s=0.05)
        assert subscriber.wait_alive(PATIENCE_S)
        asked = {**ASKED, "door": Query.point("the door")}
        given = fresh()
        publisher.publish(given, questions=asked)
        answer = look("door", points((3, 4)))
        publisher.publish(update(0, of=given.capture, looks=(answer,), valid_ns=10**18 * 9), questions=asked)
        received = subscriber.receive(PATIENCE_S, stale_too=True)
        assert received is not None
        assert received.kind == "points"


@pytest.mark.slow
def test_another_stream_is_not_heard() -> None:
    with (
        Publisher(LOOPBACK, stream_name="cam") as publisher,
        Subscriber(publisher.endpoint, stream="cam2") as other,
        Subscriber(publisher.endpoint, stream="cam") as right,
    ):
        publisher.start_health(health, period_s=0.02)
        assert right.wait_alive(PATIENCE_S)
        until(lambda: other.link == "connected", what="connected")
        assert not other.wait_alive(0.2)


@pytest.mark.slow
def test_it_waits_for_a_publisher_that_is_started_later_or_again() -> None:
    with Publisher(LOOPBACK, stream_name="cam") as first:
        endpoint = first.endpoint
    with Subscriber(endpoint) as subscriber:
        assert subscriber.link == "connecting"
        with Publisher(endpoint, stream_name="cam") as publisher:
            publisher.start_health(health, period_s=0.02)
            assert subscriber.wait_alive(PATIENCE_S)
            until(lambda: subscriber.alive and (subscriber.health or health()).seq > 20, what="twenty beats")
        until(lambda: subscriber.link == "connecting", what="it is gone")
        with Publisher(endpoint, stream_name="cam") as publisher:
            publisher.start_health(health, period_s=0.2)  # it is heard again before its twentieth beat
            until(lambda: subscriber.alive and subscriber.logs["cam", "health"].restarts == 1, what="again")


def test_a_message_survives_the_wire() -> None:
    data = tracks(3)
    stream, kind, message = from_wire(data)
    assert to_wire(stream, kind, message) == data


def test_a_closed_subscriber_says_so(wire: Wire) -> None:
    subscriber = listening(wire)
    subscriber.close()
    subscriber.close()
    with pytest.raises(ValueError, match="closed"):
        subscriber.receive(0)


@pytest.mark.parametrize("kinds", [(), ("trakcs",)])
def test_kinds_that_there_are_not(kinds: Any) -> None:
    with pytest.raises(ValueError, match="kinds are a list of one or more of tracks"):
        Subscriber("tcp://127.0.0.1:1", kinds=kinds)


def test_being_too_busy_to_read_is_not_taken_for_a_publisher_that_is_gone() -> None:
    # With ZeroMQ's own heartbeats libzmq aborts the process of a subscriber that comes back to a full queue.
    with Subscriber("tcp://127.0.0.1:5999") as subscriber:
        subscriber.receive(0.0)
        socket = subscriber._link.socket
        assert socket.getsockopt(zmq.HEARTBEAT_IVL) == 0
        assert socket.getsockopt(zmq.TCP_KEEPALIVE) == 1

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from molmo2_ground.integrations.zeromq import ControlClient, ControlServer
from molmo2_ground.integrations.zeromq.control_server import LONGEST_REQUEST, MOST_QUESTIONS
from molmo2_ground.integrations.zeromq.keys import revoke
from molmo2_ground.integrations.zeromq.rate_limit import Bucket, RateLimit
from molmo2_ground.messages import HealthMessage
from molmo2_ground.messages.control import ControlReply, PingRequest
from molmo2_ground.query import Query
from tests.made_updates import live_track, mask_of
from tests.zeromq_peers import LOOPBACK, PATIENCE_S, FakeStream, Keyring, fresh, until

ENOUGH = RateLimit(peer=(10_000, 10_000), total=(10_000, 10_000))


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def stream() -> FakeStream:
    return FakeStream()


@pytest.fixture
def server(stream: FakeStream) -> Iterator[ControlServer]:
    with ControlServer(LOOPBACK, stream, limit=ENOUGH) as made:
        yield made


@pytest.fixture
def client(server: ControlServer) -> Iterator[ControlClient]:
    with ControlClient(server.endpoint, timeout_s=PATIENCE_S) as made:
        yield made


class Raw:
    """A peer that sends bytes as they are."""

    def __init__(self, endpoint: str, kind: int = zmq.DEALER) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(kind)
        self.socket.linger = 0
        self.socket.connect(endpoint)

    def ask(self, *parts: bytes) -> ControlReply:
        self.socket.send_multipart(parts)
        assert self.socket.poll(int(PATIENCE_S * 1000))
        return ControlReply.model_validate_json(self.socket.recv_multipart()[-1])

    def close(self) -> None:
        self.socket.close(0)
        self._context.term()


@pytest.fixture
def raw(server: ControlServer) -> Iterator[Raw]:
    made = Raw(server.endpoint)
    yield made
    made.close()


def test_questions_are_added_changed_and_removed(client: ControlClient, stream: FakeStream) -> None:
    assert client.add(Query.count("cars"), name="cars") == "cars"
    assert client.add(Query.track("dogs", fps=1.0, max_objects=3)) == "question-2"
    assert client.add("bikes", name="words") == "words"
    assert client.questions()["words"] == Query.track("bikes")
    client.change("words", "buses")
    assert client.questions()["words"] == Query.track("buses")
    client.remove("words")
    client.change("people", Query.track("people in vests"))
    client.remove("cars")
    assert client.questions() == stream.questions
    assert stream.questions == {
        "people": Query.track("people in vests"),
        "question-2": Query.track("dogs", fps=1.0, max_objects=3),
    }


def test_the_stream_is_spelt_as_in_topics() -> None:
    class Odd(FakeStream):
        def health(self) -> HealthMessage:
            return super().health().model_copy(update={"source": "my cam/1"})

    with (
        ControlServer(LOOPBACK, Odd(), limit=ENOUGH) as made,
        ControlClient(made.endpoint, timeout_s=PATIENCE_S) as client,
    ):
        assert client.status().source == "my%20cam%2F1"


def test_status_and_ping(client: ControlClient) -> None:
    assert client.status().state == "connected"
    ping = client.ping()
    assert ping.round_trip_ms > 0
    assert abs(ping.clock_offset_ns) <= ping.round_trip_ms * 1e6  # the same clock


def test_snapshot_says_the_newest_picture(client: ControlClient, stream: FakeStream) -> None:
    assert client.snapshot() is None
    stream.seen = fresh(3, live_track(mask=mask_of(1, (1, 2, 3, 4))), age_s=60, valid_s=1)
    found = client.snapshot()
    assert found is not None
    assert [message.header.schema_ for message in found] == [
        "molmo2-ground/live-tracks/1",
        "molmo2-ground/live-masks/1",
    ]
    assert found[0].header.status == "stale"  # it is said when the picture was taken


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        pytest.param(lambda c: c.remove("nobody"), "no question is named nobody", id="unknown"),
        pytest.param(lambda c: c.add(Query.count("x"), name="people"), "asked already", id="taken"),
        pytest.param(lambda c: c.add(Query.count("x" * 2001)), "phrase is longer than 2000", id="too-long"),
        pytest.param(
            lambda c: c.add("x", name="n" * 2101), "name is longer than 2100 characters", id="name-too-long"
        ),
        pytest.param(lambda c: c.add("x", name=""), "name is too short: it has at least 1", id="no-name"),
        pytest.param(
            lambda c: c.change("", "x"), "name is too short: it has at least 1", id="change-no-name"
        ),
        pytest.param(lambda c: c.remove(5), "name is not text", id="a-number-for-a-name"),
        pytest.param(lambda c: c.add(5), "a question is a Query or words; got 5", id="no-question"),
    ],
)
def test_what_the_stream_refuses_is_told(client: ControlClient, ask: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as told:
        ask(client)
    assert "\n" not in str(told.value)
    assert client.status().state == "connected"


def test_what_breaks_inside_is_told_without_its_insides(
    client: ControlClient, stream: FakeStream, caplog: pytest.LogCaptureFixture
) -> None:
    stream.broken = True
    with pytest.raises(ValueError, match="unexpected KeyError; the log has more"):
        client.status()
    assert "somewhere deep" in caplog.text
    stream.broken = False
    assert client.status().state == "connected"


def test_questions_have_a_limit(client: ControlClient) -> None:
    for _ in range(MOST_QUESTIONS - 1):
        client.add(Query.count("x"))
    with pytest.raises(ValueError, match="remove one first"):
        client.add(Query.count("x"))


PING = PingRequest(id="7").model_dump_json(by_alias=True).encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"", "not a request: it is not JSON", id="empty"),
        pytest.param(b"\xff\x00\xfe", "not a request", id="bytes"),
        pytest.param(b"[" * 10_000, "not a request: it is not JSON", id="deep-lists"),
        pytest.param(b'{"a":' * 2_000 + b"1" + b"}" * 2_000, "not a request", id="deep-objects"),
        pytest.param(b"[]", "not a request", id="a-list"),
        pytest.param(b"{}", "not a request: do is missing", id="says-nothing"),
        pytest.param(b'{"do":"shutdown"}', "not a request: do is one of add, change, remove,", id="unknown"),
        pytest.param(b'{"do":"ping","more":1}', "there is no field more", id="more-fields"),
        pytest.param(b'{"do":"ping","id":5}', "not a request: id is not text", id="a-number-as-id"),
        pytest.param(b'{"do":"add"}', "not a request: query is missing", id="no-question"),
        pytest.param(b'{"do":"add","query":"cars"}', "query is not an object", id="words-as-question"),
        pytest.param(b'{"do":"add","query":{"task":"track"}}', "query.phrase is missing", id="half"),
        pytest.param(
            b'{"do":"add","query":{"task":"find","phrase":"x"}}', "query.task is point, count,", id="no-task"
        ),
        pytest.param(
            b'{"do":"add","query":{"task":"track","phrase":"x","max_objects":0}}',
            "query.max_objects is below 1",
            id="none-wanted",
        ),
        pytest.param(b'{"do":"remove","name":""}', "name is too short: it has at least 1", id="no-name"),
        pytest.param(
            b'{"do":"add","query":{"task":"track","phrase":" "}}', "what to look for", id="no-words"
        ),
        pytest.param(b'{"do":"add","query":{"task":"track","phrase":"x","fps":99}}', "fps", id="too-fast"),
        pytest.param(b'{"do":"add","query":{"task":"track","phrase":"x","fps":1e999}}', "fps", id="infinite"),
    ],
)
def test_malformed_requests_are_told_so_and_harm_nothing(
    raw: Raw, server: ControlServer, body: bytes, words: str
) -> None:
    reply = raw.ask(body)
    assert not reply.ok
    assert words in reply.error
    assert "\n" not in reply.error
    assert len(reply.error) < 600
    assert raw.ask(PING).ok
    counts = server.counts
    assert counts["done"] == 1
    assert counts.get("unreadable", 0) + counts.get("failed", 0) == 1


def test_a_request_of_many_parts_is_refused(raw: Raw) -> None:
    assert not raw.ask(b"a", b"b", PING).ok
    assert not raw.ask(b"a", PING).ok
    assert raw.ask(b"", PING).id == "7"


def test_a_plain_req_socket_will_do(server: ControlServer) -> None:
    req = Raw(server.endpoint, zmq.REQ)
    reply = req.ask(json.dumps({"do": "questions"}).encode())
    assert reply.questions is not None
    assert reply.questions["people"].phrase == "people"
    req.close()


def test_an_oversized_request_ends_its_connection_and_nothing_else(
    server: ControlServer, client: ControlClient
) -> None:
    big = Raw(server.endpoint)
    monitor = big.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    big.socket.send(b" " * (LONGEST_REQUEST + 1))
    assert monitor.poll(int(PATIENCE_S * 1000))
    assert client.ping().round_trip_ms > 0
    assert server.counts == {"done": 1}
    big.socket.disable_monitor()
    monitor.close(0)
    big.close()


def test_who_asks_too_fast_is_told_and_others_are_served(stream: FakeStream) -> None:
    with (
        ControlServer(LOOPBACK, stream, limit=RateLimit(peer=(3, 0.001), total=(1000, 1000))) as server,
        ControlClient(server.endpoint, timeout_s=PATIENCE_S) as greedy,
        ControlClient(server.endpoint, timeout_s=PATIENCE_S) as modest,
    ):
        for _ in range(3):
            greedy.ping()
        with pytest.raises(ValueError, match="too many requests"):
            greedy.ping()
        modest.ping()
        assert server.counts == {"done": 4, "too_fast": 1}


@pytest.mark.slow
def test_all_together_have_a_limit(stream: FakeStream) -> None:
    with (
        ControlServer(LOOPBACK, stream, limit=RateLimit(peer=(100, 1), total=(2, 0.001))) as server,
        ControlClient(server.endpoint, timeout_s=0.2) as client,
    ):
        client.ping()
        client.ping()
        with pytest.raises(TimeoutError):
            client.ping()
        assert server.counts == {"done": 2, "dropped": 1}


def test_a_bucket_refills() -> None:
    bucket = Bucket(2, 1.0)
    assert [bucket.take(0), bucket.take(0), bucket.take(0)] == [True, True, False]
    assert not bucket.take(500_000_000)
    assert bucket.take(1_000_000_000)
    assert [bucket.take(99_000_000_000) for _ in range(3)] == [True, True, False]


def test_made_up_peers_gain_nothing() -> None:
    limit = RateLimit(peer=(1, 0.001), total=(300, 0.001))
    allowed = sum(limit.all_may(0) and limit.may(str(peer).encode(), 0) for peer in range(10_000))
    assert allowed == 300
    assert len(limit._peers) <= 256


@pytest.mark.slow
def test_a_request_that_timed_out_is_not_done_later(stream: FakeStream) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with ControlClient(endpoint, timeout_s=0.1) as client:
        with pytest.raises(TimeoutError, match="nobody may be there"):
            client.add(Query.count("ghosts"), name="ghosts")
        with ControlServer(endpoint, stream, limit=ENOUGH):

            def answered() -> bool:
                try:
                    return client.ping().round_trip_ms > 0
                except TimeoutError:
                    return False

            until(answered, what="the server answers")
            assert "ghosts" not in stream.questions


@pytest.mark.slow
def test_what_is_there_and_is_no_server_is_told_from_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        endpoint = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with (
            ControlClient(endpoint, timeout_s=0.5) as client,
            pytest.raises(TimeoutError, match="does not speak ZeroMQ"),
        ):
            client.ping()


@pytest.mark.slow
def test_the_same_keys_guard_it(stream: FakeStream, tmp_path: Path) -> None:
    ring = Keyring.make(tmp_path / "keys", "robot")
    with ControlServer(LOOPBACK, stream, keys=ring.server) as server:
        with ControlClient(server.endpoint, keys=ring.clients["robot"], timeout_s=PATIENCE_S) as client:
            client.ping()
            with (
                ControlClient(server.endpoint, timeout_s=0.3) as keyless,
                pytest.raises(TimeoutError, match="does not let us in"),
            ):
                keyless.add(Query.count("x"))
            revoke(ring.folder, "robot")
            until(lambda: client._link.state() == "refused", what="shut out", patience_s=2.0)
        assert stream.questions.keys() == {"people"}


def test_a_wide_bind_without_keys_is_refused(stream: FakeStream) -> None:
    with pytest.raises(ValueError, match="anybody there may listen"):
        ControlServer("tcp://*:5557", stream)

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from molmo2_ground.integrations.zeromq import ClientKeys, Publisher, Subscriber
from molmo2_ground.integrations.zeromq.keys import allowed_names, make_client_keys, revoke
from molmo2_ground.messages import HealthMessage, TracksMessage
from tests.made_updates import live_track, update
from tests.zeromq_peers import ASKED, LOOPBACK, PATIENCE_S, Keyring, fresh, health, until


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_what_is_published_arrives_as_it_was_sent() -> None:
    with Publisher(LOOPBACK, stream_name="cam") as publisher, Subscriber(publisher.endpoint) as subscriber:
        publisher.start_health(health, period_s=0.05)
        assert subscriber.wait_alive(PATIENCE_S)
        (said,) = publisher.publish(fresh(), questions=ASKED)
        received = subscriber.receive(PATIENCE_S)
        assert received is not None
        assert (received.stream, received.kind, received.lost) == ("cam", "tracks", 0)
        assert received.message == said.message
        assert subscriber.latest("tracks") == said.message
        assert said.message.header.pub_ns >= said.message.header.infer_ns


def test_one_part_a_topic_a_space_and_json() -> None:
    """Any subscriber can read it, without this package."""
    context = zmq.Context()
    plain = context.socket(zmq.SUB)
    plain.linger = 0
    plain.subscribe(b"molmo2/front door/".replace(b" ", b"%20"))
    with Publisher(LOOPBACK, stream_name="front door") as publisher:
        plain.connect(publisher.endpoint)
        until(
            lambda: bool(publisher.publish(fresh(), questions=ASKED)) and plain.poll(10) > 0,
            what="it arrives",
        )
        (part,) = plain.recv_multipart()
        topic, _, body = part.partition(b" ")
        assert topic == b"molmo2/front%20door/tracks/"
        assert TracksMessage.model_validate_json(body).header.source == "front%20door"
    plain.close(0)
    context.term()


@pytest.mark.slow
def test_health_beats_with_its_own_numbers_whether_or_not_pictures_come() -> None:
    with (
        Publisher(LOOPBACK, stream_name="cam") as publisher,
        Subscriber(publisher.endpoint, kinds=("health",), keep="every") as subscriber,
    ):
        assert not subscriber.alive
        publisher.start_health(health, period_s=0.02)
        beats = [subscriber.receive(PATIENCE_S) for _ in range(5)]
        messages = [beat.message for beat in beats if beat is not None]
        assert all(isinstance(message, HealthMessage) for message in messages)
        numbers = [message.seq for message in messages if isinstance(message, HealthMessage)]
        assert numbers == list(range(numbers[0], numbers[0] + 5))
        assert {message.source for message in messages if isinstance(message, HealthMessage)} == {"cam"}
        assert subscriber.alive


def test_health_that_fails_stops_no_stream_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    calls = iter([ValueError("broken meter"), ValueError("broken meter")])

    def failing() -> HealthMessage:
        for error in calls:
            raise error
        return health()

    with Publisher(LOOPBACK, stream_name="cam") as publisher, Subscriber(publisher.endpoint) as subscriber:
        publisher.start_health(failing, period_s=0.01)
        assert subscriber.wait_alive(PATIENCE_S)
    assert caplog.text.count("no health message could be made") == 1


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param("tcp://*:5556", id="star"),
        pytest.param("tcp://0.0.0.0:5556", id="all"),
        pytest.param("tcp://[::]:5556", id="all-6"),
        pytest.param("tcp://192.168.1.4:5556", id="a-network"),
        pytest.param("tcp://robot.local:5556", id="a-name"),
        pytest.param("tcp://eth0:5556", id="a-card"),
    ],
)
def test_a_wide_bind_without_keys_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="anybody there may listen") as caught:
        Publisher(endpoint, stream_name="cam")
    assert "\n" not in str(caught.value)


def test_a_wide_bind_is_there_for_who_insists() -> None:
    with Publisher("tcp://0.0.0.0:*", stream_name="cam", insecure=True) as publisher:
        assert publisher.endpoint.startswith("tcp://0.0.0.0:")


def test_a_wide_bind_with_keys_is_well(tmp_path: Path) -> None:

    ring = Keyring.make(tmp_path / "keys")
    with Publisher("tcp://0.0.0.0:*", stream_name="cam", keys=ring.server) as publisher:
        assert publisher.endpoint.startswith("tcp://0.0.0.0:")


@pytest.mark.parametrize(
    "endpoint", ["", "127.0.0.1:5556", "udp://127.0.0.1:1", "tcp://127.0.0.1", "tcp://h:99999"]
)
def test_what_is_no_address_is_told(endpoint: str) -> None:
    with pytest.raises(ValueError, match="an address is tcp://HOST:PORT"):
        Publisher(endpoint, stream_name="cam")


def test_a_taken_address_is_an_os_error_and_leaves_nothing_behind() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"nothing can be bound to {endpoint}"):
            Publisher(endpoint, stream_name="cam")


def test_a_closed_publisher_says_so() -> None:
    publisher = Publisher(LOOPBACK, stream_name="cam")
    publisher.close()
    publisher.close()
    with pytest.raises(ValueError, match="is closed"):
        publisher.publish(update(tracks=(live_track(),)), questions=ASKED)


def test_no_water_mark_is_no_mark_at_all() -> None:
    with pytest.raises(ValueError, match="high_water is at least 1"):
        Publisher(LOOPBACK, stream_name="cam", high_water=0)


class TestKeys:
    @pytest.fixture
    def ring(self, tmp_path: Path) -> Keyring:

        return Keyring.make(tmp_path / "keys", "robot", "screen")

    @pytest.mark.slow
    def test_only_a_client_of_the_list_is_let_in(self, ring: Keyring) -> None:
        public, secret = zmq.curve_keypair()
        unknown = ClientKeys(public=public, secret=secret, server=ring.server.public)
        robot = ring.clients["robot"]
        other_server = ClientKeys(public=robot.public, secret=robot.secret, server=public)
        with Publisher(LOOPBACK, stream_name="cam", keys=ring.server) as publisher:
            publisher.start_health(health, period_s=0.05)
            with (
                Subscriber(publisher.endpoint, keys=robot) as known,
                Subscriber(publisher.endpoint) as keyless,
                Subscriber(publisher.endpoint, keys=unknown) as stranger,
                Subscriber(publisher.endpoint, keys=other_server) as misled,
            ):
                assert known.wait_alive(PATIENCE_S)
                for refused in (keyless, stranger, misled):
                    until(lambda of=refused: of.link == "refused", what="it is told")  # type: ignore[misc]
                first = known.health
                assert first is not None
                # Ten beats later, the ones outside have still heard none.
                until(lambda: (known.health or first).seq >= first.seq + 10, what="ten beats")
                for refused in (keyless, stranger, misled):
                    assert refused.receive(0) is None
                    assert not refused.alive
                    assert refused.unreadable == 0
            assert publisher.refused >= 1

    def test_a_keyed_client_hears_nothing_of_a_publisher_without_keys(self, ring: Keyring) -> None:
        """Whoever answers in the publisher's place must not be believed."""
        with (
            Publisher(LOOPBACK, stream_name="cam") as publisher,
            Subscriber(publisher.endpoint, keys=ring.clients["robot"]) as subscriber,
        ):
            publisher.start_health(health, period_s=0.05)
            until(lambda: subscriber.link == "refused", what="it is told")
            assert not subscriber.alive

    @pytest.mark.slow
    def test_a_revoked_key_is_shut_out_of_its_open_connection(self, ring: Keyring) -> None:
        with (
            Publisher(LOOPBACK, stream_name="cam", keys=ring.server) as publisher,
            Subscriber(publisher.endpoint, keys=ring.clients["robot"], kinds=("health",)) as robot,
            Subscriber(publisher.endpoint, keys=ring.clients["screen"], kinds=("health",)) as screen,
        ):
            publisher.start_health(health, period_s=0.05)
            assert robot.wait_alive(PATIENCE_S)
            assert screen.wait_alive(PATIENCE_S)
            revoke(ring.folder, "robot")
            until(lambda: robot.link == "refused", what="the door closes", patience_s=2.0)
            heard = robot.health
            assert heard is not None
            last = screen.health
            assert last is not None
            # The other one comes back by itself and hears on, at the same address.
            until(lambda: (screen.health or last).seq >= last.seq + 10, what="ten more beats")
            assert screen.link == "connected"
            assert robot.health == heard

    @pytest.mark.slow
    def test_a_client_that_is_let_in_later_gets_in_without_a_restart(self, ring: Keyring) -> None:
        revoke(ring.folder, "robot")
        with (
            Publisher(LOOPBACK, stream_name="cam", keys=ring.server) as publisher,
            Subscriber(publisher.endpoint, keys=ring.clients["robot"]) as robot,
        ):
            publisher.start_health(health, period_s=0.05)
            until(lambda: robot.link == "refused", what="it is told")
            late = make_client_keys(ring.folder, "late")
            secret = ring.folder / "clients" / "robot.key_secret"
            # What `allowed` holds decides; the name of the file does not.
            public = (ring.folder / "allowed" / "late.key").read_text(encoding="ascii")
            theirs = ClientKeys.load(late, ring.folder / "server.key").public.decode()
            ours = ClientKeys.load(secret, ring.folder / "server.key").public.decode()
            (ring.folder / "allowed" / "late.key").write_text(public.replace(theirs, ours), encoding="ascii")
            assert robot.wait_alive(PATIENCE_S)
            assert allowed_names(ring.folder) == ("late", "screen")

    def test_a_folder_that_is_gone_lets_nobody_in(self, ring: Keyring) -> None:
        (ring.folder / "allowed").rename(ring.folder / "elsewhere")
        with (
            Publisher(LOOPBACK, stream_name="cam", keys=ring.server) as publisher,
            Subscriber(publisher.endpoint, keys=ring.clients["robot"]) as robot,
        ):
            until(lambda: robot.link == "refused", what="it is told")

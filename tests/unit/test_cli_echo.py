from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from molmo2_ground._cli_echo import message_line
from molmo2_ground.cli import main
from molmo2_ground.integrations.zeromq import Publisher, Received
from molmo2_ground.live.saying import Numbering, messages_of
from molmo2_ground.messages import HealthMessage
from molmo2_ground.messages.schemas import schema_file
from tests.made_updates import live_track
from tests.zeromq_peers import ASKED, LOOPBACK, Keyring, fresh, health


class Speaking(Publisher):
    """Says its tracks with every heartbeat, from the thread of the heart."""

    def begin(self) -> None:
        def beat() -> HealthMessage:
            self.publish(fresh(0, live_track(), live_track(2, x_px=5.0)), questions=ASKED)
            return health()

        self.start_health(beat, period_s=0.02)


@pytest.fixture
def publisher() -> Iterator[Speaking]:
    with Speaking(LOOPBACK, stream_name="cam") as made:
        made.begin()
        yield made


def test_it_prints_a_line_a_message(publisher: Publisher, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["echo", publisher.endpoint, "tracks", "--count", "3", "--seconds", "20"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 3
    assert "cam/tracks" in lines[0]
    assert "people: person 1 at (160, 90) observed; person 2 at (5, 90) observed" in lines[0]
    assert " Hz, age " in lines[2]
    assert "cam/tracks: 3 received, 0 lost, 0 stale" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topic", "kinds"),
    [
        pytest.param(None, {"tracks", "health"}, id="everything"),
        pytest.param("health", {"health"}, id="kind"),
        pytest.param("cam", {"tracks", "health"}, id="stream"),
        pytest.param("cam/tracks", {"tracks"}, id="stream-and-kind"),
        pytest.param("molmo2/cam/tracks/", {"tracks"}, id="whole-topic"),
    ],
)
def test_topics_as_people_type_them(
    publisher: Publisher, capsys: pytest.CaptureFixture[str], topic: str | None, kinds: set[str]
) -> None:
    asked = [] if topic is None else [topic]
    assert main(["echo", publisher.endpoint, *asked, "--json", "--count", "8", "--seconds", "20"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["topic"].split("/")[2] for line in lines} == kinds
    for line in lines:
        body = line["message"]
        name = body.get("schema") or body["header"]["schema"]
        jsonschema.validate(body, json.loads(schema_file(name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("topic", ["cam/nonsense", "a/b/c", "molmo2/cam/tracks/x"])
def test_a_topic_that_there_is_not(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["echo", "tcp://127.0.0.1:1", topic]) == 2
    assert "a topic is molmo2/<stream name>/" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--seconds", "nan"], ["--seconds", "-1"], ["--count", "0"]])
def test_an_end_that_is_none(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["echo", "tcp://127.0.0.1:1", *option]) == 2
    assert option[0] in capsys.readouterr().err


@pytest.mark.slow
def test_it_says_why_nothing_comes(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["echo", "tcp://127.0.0.1:9", "--seconds", "0.2"]) == 1
    assert "nobody answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert main(["echo", publisher.endpoint, "points", "--seconds", "0.5"]) == 1
    assert "the publisher is alive and says nothing of this topic" in capsys.readouterr().err
    ring = Keyring.make(tmp_path / "keys", "robot")
    with Publisher(LOOPBACK, stream_name="cam", keys=ring.server) as guarded:
        guarded.start_health(health, period_s=0.05)
        assert main(["echo", guarded.endpoint, "--seconds", "1"]) == 1
        assert "does not let us in" in capsys.readouterr().err
        keys = ["--key", str(ring.folder / "clients/robot.key_secret")]
        assert main(["echo", guarded.endpoint, *keys]) == 2
        assert "go together" in capsys.readouterr().err
        keys += ["--server-key", str(ring.folder / "server.key")]
        assert main(["echo", guarded.endpoint, *keys, "--count", "1", "--seconds", "20"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.6\r\n"], ids=["silent", "another protocol"])
def test_another_program_at_the_address_is_told_from_nobody(
    greeting: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"

        def greet() -> None:
            kept.append(other.accept()[0])
            kept[0].sendall(greeting)

        kept: list[socket.socket] = []
        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        assert main(["echo", address, "--seconds", "1"]) == 1
        assert f"something is there at {address} and does not speak ZeroMQ" in capsys.readouterr().err
        thread.join()
        kept[0].close()


def test_lost_stale_and_dropped_stand_out() -> None:
    given = fresh(0, age_s=60, valid_s=1)
    object.__setattr__(given, "dropped", {"replaced": 14})
    (said,) = messages_of(given, questions=ASKED, numbering=Numbering())
    line = message_line(
        Received(stream="cam", kind="tracks", message=said.message, nbytes=9, lost=2, arrived_ns=0), hz=2.0
    )
    assert line.endswith("dropped 14 replaced, STALE, 9 B, LOST 2")


@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly(publisher: Publisher) -> None:
    command = [sys.executable, "-m", "molmo2_ground", "echo", publisher.endpoint, "tracks"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert "cam/tracks" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "received, 0 lost" in err
    assert "Traceback" not in err

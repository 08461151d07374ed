"""What tests of ZeroMQ share: a stream that others may control, health, and keys of two clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from molmo2_ground.integrations.zeromq.keys import (
    ClientKeys,
    ServerKeys,
    make_client_keys,
    make_server_keys,
)
from molmo2_ground.live.update import LiveTrack, Update
from molmo2_ground.messages import HealthMessage
from molmo2_ground.query import Query
from tests.made_updates import capture, live_track, update

LOOPBACK = "tcp://127.0.0.1:*"
ASKED = {"people": Query.track("people")}
PATIENCE_S = 20.0


def health() -> HealthMessage:
    """A stream that is well."""
    return HealthMessage(
        source="?",
        seq=0,
        epoch=1,
        pub_ns=0,
        state="connected",
        uptime_s=1.0,
        frame_age_ms=5.0,
        received=2,
        taken=1,
    )


def fresh(index: int = 0, *tracks: LiveTrack, age_s: float = 0.05, valid_s: float = 30.0) -> Update:
    """An update about a picture that was taken `age_s` ago."""
    taken_ns = time.time_ns() - int(age_s * 1e9)
    picture = capture(index, stamp_ns=taken_ns, recv_ns=taken_ns)
    return update(index, of=picture, tracks=tracks or (live_track(),), valid_ns=int(valid_s * 1e9))


def until(happened: Callable[[], bool], *, what: str, patience_s: float = PATIENCE_S) -> None:
    """Ask again and again until it has happened; fails the test when it does not."""
    end_s = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < end_s, f"did not happen within {patience_s:g} s: {what}"
        time.sleep(0.005)


@dataclass
class Keyring:
    """A server's keys and those of the clients that it lets in."""

    folder: Path
    server: ServerKeys
    clients: dict[str, ClientKeys]

    @classmethod
    def make(cls, folder: Path, *names: str) -> Keyring:
        make_server_keys(folder)
        clients = {
            name: ClientKeys.load(make_client_keys(folder, name), folder / "server.key") for name in names
        }
        return cls(folder=folder, server=ServerKeys.load(folder), clients=clients)


@dataclass
class FakeStream:
    """Obeys `Controls`."""

    questions: dict[str, Query] = field(default_factory=lambda: dict(ASKED))
    seen: Update | None = None
    broken: bool = False

    def add(self, query: Query, *, name: str | None = None) -> str:
        name = name or f"question-{len(self.questions)}"
        if name in self.questions:
            raise ValueError(f"a question of the name {name} is asked already")
        self.questions[name] = query
        return name

    def change(self, name: str, query: Query) -> None:
        self._check(name)
        self.questions[name] = query

    def remove(self, name: str) -> None:
        self._check(name)
        del self.questions[name]

    def health(self) -> HealthMessage:
        if self.broken:
            raise KeyError("somewhere deep")
        return health()

    def snapshot(self) -> Update | None:
        return self.seen

    def _check(self, name: str) -> None:
        if name not in self.questions:
            raise ValueError(f"no question is named {name}")

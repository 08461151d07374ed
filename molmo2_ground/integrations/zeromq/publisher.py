"""`Publisher`: updates of a stream go to everybody who subscribes, and nobody can hold it up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from molmo2_ground._optional import require
from molmo2_ground.clocks import Clocks
from molmo2_ground.integrations.zeromq.door import CHECK_S, Door
from molmo2_ground.integrations.zeromq.endpoint import DEFAULT_ENDPOINT
from molmo2_ground.integrations.zeromq.high_water import check_high_water
from molmo2_ground.integrations.zeromq.keys import ServerKeys
from molmo2_ground.integrations.zeromq.wire import to_wire
from molmo2_ground.live.saying import Numbering, Said, messages_of
from molmo2_ground.live.update import Update
from molmo2_ground.messages.health import HealthMessage
from molmo2_ground.messages.kinds import topic_name
from molmo2_ground.query import Query

_log = logging.getLogger(__name__)

HEALTH_S = 1.0

# A subscriber sends nothing but subscriptions, and ours are far shorter; a greeting with keys needs 400.
_LONGEST_FROM_SUBSCRIBER = 1024
_SEND_BUFFER = 256 * 1024


class Publisher:
    """A PUB socket for one stream.

    endpoint    `tcp://127.0.0.1:5556` or wherever; a star for the port takes a free one (`endpoint` tells).
    keys        who may listen; without them everybody who can reach the address.
    insecure    bind an address that other machines can reach, without keys.
    high_water  messages kept for a subscriber that does not keep up; it loses those after them, and sees that
                by `seq`. The others lose nothing, and `publish` does not wait.

    `publish` is for one thread; the others may be called from any. Raises `ValueError` for an address that
    may not be bound so and for a name that makes no topic, `OSError` when the address cannot be bound.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        stream_name: str,
        keys: ServerKeys | None = None,
        insecure: bool = False,
        high_water: int = 100,
        clocks: Clocks | None = None,
    ) -> None:
        check_high_water(high_water)
        topic_name(stream_name)
        self._zmq: Any = require("zmq", extra="live")
        self._stream_name, self._clocks = stream_name, clocks or Clocks()
        self._numbering, self._health_seq = Numbering(), 0
        self._options = {
            self._zmq.SNDHWM: high_water,
            self._zmq.MAXMSGSIZE: _LONGEST_FROM_SUBSCRIBER,
            # Subscriptions that one connection may get in with each of our messages: each costs memory.
            self._zmq.RCVHWM: 16,
            # Left to itself the kernel keeps megabytes for each subscriber that does not read.
            self._zmq.SNDBUF: _SEND_BUFFER,
        }
        self._lock = threading.Lock()  # ZeroMQ sockets are for one thread at a time
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sent = self._unsent = 0
        self._door = Door(endpoint, keys=keys, insecure=insecure)
        try:
            self._socket = self._door.open(self._zmq.PUB, self._options)
        except BaseException:
            self._door.close()
            raise
        if self._door.guarded:
            self._start(self._watch_keys, "keys")

    @property
    def endpoint(self) -> str:
        """The address that subscribers connect to."""
        return self._door.endpoint

    @property
    def stream_name(self) -> str:
        """The name in topics and headers, as it was given."""
        return self._stream_name

    @property
    def sent(self) -> int:
        """Messages handed to the socket so far, health included."""
        return self._sent

    @property
    def unsent(self) -> int:
        """Messages lost while the socket was opened anew, a key being revoked; seq shows them as a gap."""
        return self._unsent

    @property
    def refused(self) -> int:
        """Clients turned away because of their key; each of their tries counts."""
        return self._door.refused

    def publish(self, update: Update, *, questions: Mapping[str, Query]) -> tuple[Said, ...]:
        """Say an update to all subscribers, without waiting for any; what was said, as it was sent.

        questions: what is asked for, by name. Raises `ValueError` after `close`.
        """
        said = []
        for one in messages_of(
            update, questions=questions, numbering=self._numbering, source=self._stream_name
        ):
            sent = one.handed_over(self._clocks.unix_ns())
            self._send(to_wire(self._stream_name, sent.kind, sent.message))
            said.append(sent)
        return tuple(said)

    def start_health(self, health: Callable[[], HealthMessage], *, period_s: float = HEALTH_S) -> None:
        """Say `health()` at once and then every second from a thread of its own: the heartbeat.

        Its source, seq and pub_ns are filled in here. When it fails, none is sent and the log says why.
        """
        self._start(lambda: self._beat(health, period_s), "health")

    def close(self) -> None:
        """Stop the threads and let go of the address; closing again does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        for thread in self._threads:
            thread.join()
        with self._lock:
            if self._socket is not None:
                self._socket.close(0)
                self._socket = None
        self._door.close()

    def _send(self, data: bytes) -> None:
        with self._lock:
            if self._socket is None:
                if self._stop.is_set():
                    raise ValueError("this publisher is closed; make another one")
                self._unsent += 1
                return
            # A PUB socket never makes the sender wait: what a subscriber has no room for, it does not get.
            self._socket.send(data, self._zmq.DONTWAIT)
            self._sent += 1

    def _start(self, work: Callable[[], None], what: str) -> None:
        thread = threading.Thread(target=work, name=f"molmo2-publisher-{what}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _beat(self, health: Callable[[], HealthMessage], period_s: float) -> None:
        failed = False
        while not self._stop.is_set():
            try:
                self._say_health(health())
                failed = False
            except Exception:
                # Whatever is wrong with it, subscribers learn by its silence, and the stream goes on.
                if not failed and not self._stop.is_set():
                    _log.exception("no health message could be made; none is sent until one can")
                failed = True
            self._stop.wait(period_s)

    def _say_health(self, message: HealthMessage) -> None:
        told = message.model_copy(
            update={
                "source": topic_name(self._stream_name),
                "seq": self._health_seq,
                "pub_ns": self._clocks.unix_ns(),
            }
        )
        self._health_seq += 1
        self._send(to_wire(self._stream_name, "health", told))

    def _watch_keys(self) -> None:
        while not self._stop.wait(CHECK_S):
            if self._door.withdrawn():
                _log.info("a key was taken away: all connections of %s are made anew", self.endpoint)
                with self._lock:
                    self._socket.close(0)
                    self._socket = None
                opened = self._door.reopen(self._zmq.PUB, self._options, self._stop)
                with self._lock:
                    self._socket = opened
            with self._lock:
                if self._socket is not None:
                    # Whoever has come back is taken in now, not by the next message, which it would miss.
                    self._socket.getsockopt(self._zmq.EVENTS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

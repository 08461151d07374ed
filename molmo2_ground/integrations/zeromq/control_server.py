"""`ControlServer`: questions to a running stream are added, changed and removed over a socket."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from pydantic import ValidationError

from molmo2_ground._optional import require
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import GroundError
from molmo2_ground.integrations.zeromq.door import CHECK_S, Door
from molmo2_ground.integrations.zeromq.fault import first_fault
from molmo2_ground.integrations.zeromq.keys import ServerKeys
from molmo2_ground.integrations.zeromq.rate_limit import RateLimit
from molmo2_ground.live.saying import Numbering, messages_of
from molmo2_ground.live.update import Update
from molmo2_ground.messages import EventMessage, HealthMessage
from molmo2_ground.messages.control import (
    REQUEST,
    AddRequest,
    AnyRequest,
    ChangeRequest,
    ControlReply,
    PingRequest,
    Question,
    RemoveRequest,
    SnapshotRequest,
    StatusRequest,
)
from molmo2_ground.messages.kinds import spelt
from molmo2_ground.query import Query

_log = logging.getLogger(__name__)

DEFAULT_CONTROL = "tcp://127.0.0.1:5557"

LONGEST_REQUEST = 16 * 1024
"""Bytes; whoever sends more is disconnected."""

MOST_QUESTIONS = 32

_POLL_MS = 50
_AT_ONCE = 64  # requests between two looks at whether to stop


class Controls(Protocol):
    """What a stream lets others do; called from the server's thread."""

    @property
    def questions(self) -> Mapping[str, Query]:
        """What is asked now, by name."""
        ...

    def add(self, query: Query, *, name: str | None = None) -> str:
        """Ask one more; its name. Raises `ValueError` for a name that is taken."""
        ...

    def change(self, name: str, query: Query) -> None:
        """Ask something else under a name. Raises `ValueError` for a name that is not there."""
        ...

    def remove(self, name: str) -> None:
        """Ask no longer. Raises `ValueError` for a name that is not there."""
        ...

    def health(self) -> HealthMessage:
        """How the stream is."""
        ...

    def snapshot(self) -> Update | None:
        """What is known now; None before the first picture."""
        ...


class ControlServer:
    """A ROUTER socket with a thread that answers one request after another.

    endpoint, keys, insecure: as for `Publisher`. Requests are JSON (`messages.control`) in one part, or after
    an empty part as REQ sockets send them. What cannot be read gets a reply that says why, what is too long
    ends its connection, and a peer that asks too fast gets told so; all are counted, none is fatal.
    Raises `ValueError` and `OSError` as `Publisher` does.
    """

    def __init__(
        self,
        endpoint: str,
        controls: Controls,
        *,
        keys: ServerKeys | None = None,
        insecure: bool = False,
        limit: RateLimit | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self._zmq: Any = require("zmq", extra="live")
        self._controls, self._limit, self._clocks = controls, limit or RateLimit(), clocks or Clocks()
        self._counts: Counter[str] = Counter()
        self._options = {
            self._zmq.MAXMSGSIZE: LONGEST_REQUEST,
            self._zmq.RCVHWM: 32,
            self._zmq.SNDHWM: 32,
        }
        self._stop = threading.Event()
        self._door = Door(endpoint, keys=keys, insecure=insecure)
        try:
            self._socket = self._door.open(self._zmq.ROUTER, self._options)
        except BaseException:
            self._door.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="molmo2-control", daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """The address that clients connect to."""
        return self._door.endpoint

    @property
    def counts(self) -> dict[str, int]:
        """Requests so far: `done`, `failed` and `unreadable` (both told why), `too_fast` and `dropped`.

        `too_fast`: one peer, which was told; `dropped`: all together, with no reply. `unsent`: replies that
        nobody took.
        """
        return dict(self._counts)

    def close(self) -> None:
        """Stop answering and let go of the address; closing again does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        self._door.close()

    def _serve(self) -> None:
        checked_ns = self._clocks.monotonic_ns()
        try:
            while not self._stop.is_set():
                if self._socket.poll(_POLL_MS):
                    self._answer_waiting()
                now_ns = self._clocks.monotonic_ns()
                if now_ns - checked_ns >= CHECK_S * 1e9:
                    checked_ns = now_ns
                    self._shut_out()
        finally:
            if self._socket is not None:
                self._socket.close(0)

    def _shut_out(self) -> None:
        if self._door.withdrawn():
            self._socket.close(0)
            self._socket = None
            self._socket = self._door.reopen(self._zmq.ROUTER, self._options, self._stop)

    def _answer_waiting(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                peer, *parts = self._socket.recv_multipart(self._zmq.DONTWAIT)
            except self._zmq.Again:
                return
            now_ns = self._clocks.monotonic_ns()
            if not self._limit.all_may(now_ns):
                self._counts["dropped"] += 1
                continue
            reply = self._reply(peer, parts, now_ns)
            envelope = [peer, b""] if len(parts) > 1 else [peer]
            try:
                self._socket.send_multipart(
                    [*envelope, reply.model_dump_json(by_alias=True).encode()], self._zmq.DONTWAIT
                )
            except self._zmq.ZMQError as error:
                # Gone, or not reading what it asked for: nobody else is to wait for it.
                self._counts["unsent"] += 1
                _log.debug("a reply was not sent: %s", error)

    def _reply(self, peer: bytes, parts: list[bytes], now_ns: int) -> ControlReply:
        if not self._limit.may(peer, now_ns):
            return self._refuse("too_fast", "", "too many requests; wait a second and ask again")
        if len(parts) > 2 or (len(parts) == 2 and parts[0]) or not parts:
            return self._refuse("unreadable", "", "a request is one part of JSON, or an empty part before it")
        try:
            request = REQUEST.validate_json(parts[-1])
        except ValidationError as error:
            return self._refuse("unreadable", "", f"not a request: {first_fault(error, told_apart=True)}")
        try:
            reply = self._do(request)
        except (ValueError, GroundError) as error:
            return self._refuse("failed", request.id, " ".join(str(error).split())[:500])
        except Exception as error:
            _log.exception("the request %s failed", request.do)
            return self._refuse("failed", request.id, f"unexpected {type(error).__name__}; the log has more")
        self._counts["done"] += 1
        return reply

    def _refuse(self, why: str, request_id: str, error: str) -> ControlReply:
        self._counts[why] += 1
        return ControlReply(id=request_id, ok=False, error=error, at_ns=self._clocks.unix_ns())

    def _do(self, request: AnyRequest) -> ControlReply:
        controls = self._controls
        done: dict[str, Any] = {}
        match request:
            case AddRequest():
                if len(controls.questions) >= MOST_QUESTIONS:
                    raise ValueError(f"{MOST_QUESTIONS} questions are asked already; remove one first")
                done["name"] = controls.add(request.query.to_query(), name=request.name)
            case ChangeRequest():
                controls.change(request.name, request.query.to_query())
                done["name"] = request.name
            case RemoveRequest():
                controls.remove(request.name)
                done["name"] = request.name
            case StatusRequest():
                done["health"] = spelt(controls.health())
            case SnapshotRequest():
                done["messages"] = self._snapshot()
        if not isinstance(request, StatusRequest | SnapshotRequest | PingRequest):
            done["questions"] = {name: Question.of(query) for name, query in controls.questions.items()}
        return ControlReply(id=request.id, ok=True, at_ns=self._clocks.unix_ns(), **done)

    def _snapshot(self) -> tuple[Any, ...] | None:
        update = self._controls.snapshot()
        if update is None:
            return None
        said = messages_of(update, questions=self._controls.questions, numbering=Numbering())
        handed = [one.handed_over(self._clocks.unix_ns()).message for one in said]
        return tuple(message for message in handed if not isinstance(message, EventMessage))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""`ControlClient`: talks to a stream's `ControlServer`."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from molmo2_ground._optional import require
from molmo2_ground._wanted import NUMBER
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import BackendError
from molmo2_ground.integrations.zeromq.fault import first_fault
from molmo2_ground.integrations.zeromq.keys import ClientKeys
from molmo2_ground.integrations.zeromq.link import Link
from molmo2_ground.messages import HealthMessage
from molmo2_ground.messages.control import (
    AddRequest,
    AnyRequest,
    ChangeRequest,
    ControlReply,
    PingRequest,
    Question,
    QuestionsRequest,
    RemoveRequest,
    SnapshotRequest,
    StatusRequest,
)
from molmo2_ground.query import Query

_LONGEST_REPLY = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """How far the server is: there and back in milliseconds, and how many nanoseconds its clock is ahead.

    The offset is right within half of the way there and back.
    """

    round_trip_ms: float
    clock_offset_ns: int


class ControlClient:
    """One connection, for one thread. Requests wait `timeout_s` for their reply, then raise `TimeoutError`.

    A request that timed out is not delivered later: it was either done already or never will be.
    What the server refuses raises `ValueError` with its words.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        keys: ClientKeys | None = None,
        timeout_s: float = 5.0,
        clocks: Clocks | None = None,
    ) -> None:
        NUMBER.check("timeout_s", timeout_s)
        if not 0 < timeout_s < math.inf:
            raise ValueError(f"timeout_s is a finite number of seconds above 0; got {timeout_s}")
        self._zmq: Any = require("zmq", extra="live")
        self._endpoint, self._timeout_s, self._clocks = endpoint, timeout_s, clocks or Clocks()
        options = {self._zmq.MAXMSGSIZE: _LONGEST_REPLY, self._zmq.SNDHWM: 4}
        self._link = Link(endpoint, self._zmq.DEALER, keys=keys, options=options)

    def add(self, query: Query | str, *, name: str | None = None) -> str:
        """Ask one more question, words: what to follow; the name that it got."""
        reply = self.request(_made(AddRequest, query=_question(query), name=name))
        return reply.name or ""

    def change(self, name: str, query: Query | str) -> None:
        """Ask something else under this name; words: what to follow."""
        self.request(_made(ChangeRequest, name=name, query=_question(query)))

    def remove(self, name: str) -> None:
        """Ask it no longer."""
        self.request(_made(RemoveRequest, name=name))

    def questions(self) -> dict[str, Query]:
        """What is asked now, by name."""
        found = self.request(QuestionsRequest(id=_new_id())).questions or {}
        return {name: question.to_query() for name, question in found.items()}

    def status(self) -> HealthMessage:
        """How the stream is."""
        health = self.request(StatusRequest(id=_new_id())).health
        if health is None:
            raise BackendError(f"{self._endpoint} answered a request for its health without one")
        return health

    def snapshot(self) -> tuple[Any, ...] | None:
        """Messages about the newest picture; None before the first. See `ControlReply`."""
        return self.request(SnapshotRequest(id=_new_id())).messages

    def ping(self) -> Ping:
        """How long a request takes, and how far the server's clock is from ours."""
        asked_ns, from_ns = self._clocks.unix_ns(), self._clocks.monotonic_ns()
        reply = self.request(PingRequest(id=_new_id()))
        took_ns = self._clocks.monotonic_ns() - from_ns
        return Ping(round_trip_ms=took_ns / 1e6, clock_offset_ns=reply.at_ns - (asked_ns + took_ns // 2))

    def request(self, request: AnyRequest) -> ControlReply:
        """Send one and wait for its reply. Raises `TimeoutError`, `ValueError`, `BackendError`."""
        until_ns = self._clocks.monotonic_ns() + int(self._timeout_s * 1e9)
        socket = self._link.socket
        socket.send(request.model_dump_json(by_alias=True).encode())
        while (left_ms := (until_ns - self._clocks.monotonic_ns()) // 1_000_000) > 0:
            if not socket.poll(left_ms):
                break
            reply = self._read(socket.recv_multipart()[-1])
            if reply.id not in (request.id, ""):
                continue  # of a request that was given up
            if not reply.ok:
                raise ValueError(reply.error)
            return reply
        state, reached = self._link.state(), self._link.reached
        self._link.renew()  # what was not delivered must not be done when the server comes back
        why = "nobody may be there"
        if state == "refused":
            why = "it does not let us in: the wrong key, or none"
        elif state == "connecting" and reached:
            why = "what is there does not speak ZeroMQ, or hangs; is this the control address?"
        raise TimeoutError(f"{self._endpoint} did not answer within {self._timeout_s:g} s; {why}")

    def close(self) -> None:
        """Let go of the connection."""
        self._link.close()

    def _read(self, data: bytes) -> ControlReply:
        try:
            return ControlReply.model_validate_json(data)
        except ValidationError as error:
            raise BackendError(
                f"{self._endpoint} answered with what is no reply: {first_fault(error)}"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _new_id() -> str:
    return secrets.token_hex(8)


def _made(kind: Callable[..., AnyRequest], **fields: object) -> AnyRequest:
    try:
        return kind(id=_new_id(), **fields)
    except ValidationError as error:
        raise ValueError(f"this cannot be asked for: {first_fault(error)}") from None


def _question(query: Query | str) -> Question:
    query = Query.track(query) if isinstance(query, str) else query
    if not isinstance(query, Query):
        raise ValueError(f"a question is a Query or words; got {query!r}")
    try:
        return Question.of(query)
    except ValidationError as error:
        raise ValueError(f"this cannot be asked for: {first_fault(error)}") from None

"""`Door`: one address of this machine, bound, with or without keys."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from typing import Any

from molmo2_ground._optional import require
from molmo2_ground._wanted import YES_OR_NO, Wanted
from molmo2_ground.integrations.zeromq.allow_list import AllowList
from molmo2_ground.integrations.zeromq.endpoint import check_bind, is_ipv6
from molmo2_ground.integrations.zeromq.keys import ServerKeys

CHECK_S = 0.5
"""Seconds between looks at the allow list: a key taken away is shut out within this and one reopening."""

_KEYS = Wanted("a ServerKeys", (ServerKeys,), or_none=True)
_DOMAIN = "molmo2-ground"
_REOPEN_S = 0.02
_ADVICE = {
    errno.EADDRINUSE: "another program has it: choose another port, or end that program",
    errno.EADDRNOTAVAIL: "this machine has no such address: 127.0.0.1 is for programs on it",
    errno.EACCES: "ports below 1024 are the system's: choose one above",
}


def check_free(endpoint: str) -> None:
    """Bind the endpoint and let go of it again. Raises `OSError` when it is taken or is not ours.

    Only of TCP: a file that is bound anew is taken from who has it.
    """
    if not endpoint.startswith("tcp://"):
        return
    door = Door(endpoint, keys=None, insecure=True)
    try:
        door.open(require("zmq", extra="live").PUB, {}).close(0)
    finally:
        door.close()


class Door:
    """Makes the bound sockets of one server, in a context of its own.

    The socket has no lingering; peers that do not finish their greeting within 3 s, or do not answer for
    30 s, are let go. With keys, only clients of the allow list get past the greeting. ZeroMQ cannot end one
    connection of many, so a key that is taken away ends all of them: the server closes its socket and opens
    another (`reopen`), to which the others come back by themselves.
    Raises `ValueError` for an address that may not be bound so, `OSError` when it cannot be.
    """

    def __init__(self, endpoint: str, *, keys: ServerKeys | None, insecure: bool) -> None:
        _KEYS.check("keys", keys)
        YES_OR_NO.check("insecure", insecure)
        self._zmq: Any = require("zmq", extra="live")
        self._endpoint = check_bind(endpoint, with_keys=keys is not None, insecure=insecure)
        self._keys = keys
        self._context = self._zmq.Context()
        self._allow: AllowList | None = None
        self._authenticator: Any = None
        if keys is not None:
            self._allow = AllowList(keys.allowed)
            thread: Any = require("zmq.auth.thread", extra="live")
            self._authenticator = thread.ThreadAuthenticator(self._context)
            self._authenticator.configure_curve_callback(_DOMAIN, self._allow)
            self._authenticator.start()

    @property
    def endpoint(self) -> str:
        """The address, with the port that was really bound."""
        return self._endpoint

    @property
    def guarded(self) -> bool:
        """Whether clients need keys."""
        return self._allow is not None

    @property
    def refused(self) -> int:
        """Clients turned away for their key; each of their tries counts."""
        return 0 if self._allow is None else self._allow.refused

    def withdrawn(self) -> bool:
        """Whether the key of a client that was let in has been taken away since the last call."""
        return self._allow is not None and self._allow.withdrawn()

    def open(self, kind: int, options: Mapping[int, int]) -> Any:
        """A bound socket of this kind. Raises `OSError` when the address is taken or is not ours."""
        zmq = self._zmq
        socket = self._context.socket(kind)
        try:
            general = {
                zmq.LINGER: 0,
                zmq.BACKLOG: 512,
                zmq.HANDSHAKE_IVL: 3_000,
                zmq.HEARTBEAT_IVL: 5_000,
                zmq.HEARTBEAT_TIMEOUT: 30_000,
                # Of peers that speak the oldest ZMTP, which has no heartbeats, TCP finds out.
                zmq.TCP_KEEPALIVE: 1,
                zmq.TCP_KEEPALIVE_IDLE: 30,
                zmq.TCP_KEEPALIVE_INTVL: 10,
                zmq.TCP_KEEPALIVE_CNT: 3,
                zmq.IPV6: int(is_ipv6(self._endpoint)),
            }
            for option, value in {**general, **options}.items():
                socket.setsockopt(option, value)
            if self._keys is not None:
                socket.curve_server = True
                socket.curve_publickey, socket.curve_secretkey = self._keys.public, self._keys.secret
                socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN.encode())
                socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without our authenticator nobody gets in
            socket.bind(self._endpoint)
            self._endpoint = socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        except zmq.ZMQError as error:
            socket.close(0)
            advice = _ADVICE.get(error.errno or 0, "choose another address")
            raise OSError(
                error.errno, f"{os.strerror(error.errno)}: nothing can be bound to {self._endpoint}; {advice}"
            ) from error
        return socket

    def reopen(self, kind: int, options: Mapping[int, int], stop: threading.Event) -> Any:
        """As `open`, at the address that a socket has just left, which it frees a moment later.

        Waits until it is free, however long that takes; None once `stop` is set.
        """
        while not stop.is_set():
            try:
                return self.open(kind, options)
            except OSError:
                stop.wait(_REOPEN_S)
        return None

    def close(self) -> None:
        """End the authenticator and the context; sockets must be closed by then."""
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.term()

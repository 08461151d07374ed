"""`Link`: a connecting socket that says whether it got through, and is made anew when it was turned away."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from molmo2_ground._optional import require
from molmo2_ground._wanted import Wanted
from molmo2_ground.integrations.zeromq.endpoint import check_endpoint, is_ipv6
from molmo2_ground.integrations.zeromq.keys import ClientKeys

LinkState = Literal["connecting", "connected", "refused"]
"""`refused`: somebody is there and does not let us in: no key, a wrong one, one not allowed, or no ZeroMQ."""

_KEYS = Wanted("a ClientKeys", (ClientKeys,), or_none=True)


class Link:
    """One socket in a context of its own; for one thread. Raises `ValueError` for what is no address."""

    def __init__(
        self,
        endpoint: str,
        kind: int,
        *,
        keys: ClientKeys | None,
        options: Mapping[int, int],
        subscriptions: tuple[bytes, ...] = (),
    ) -> None:
        _KEYS.check("keys", keys)
        self._zmq: Any = require("zmq", extra="live")
        self._endpoint, self._kind, self._keys = check_endpoint(endpoint), kind, keys
        self._options, self._subscriptions = options, subscriptions
        self._context = self._zmq.Context()
        self._state: LinkState = "connecting"
        self._turned_away = False
        self._reached = False
        self._closed = False
        try:
            self._open()
        except BaseException:
            self._context.destroy(linger=0)
            raise

    @property
    def socket(self) -> Any:
        """The socket. Raises `ValueError` when it is closed."""
        if self._closed:
            raise ValueError("it is closed; make another one")
        return self._socket

    @property
    def turned_away(self) -> bool:
        """Whether the server said no to our key: ZeroMQ does not try again by itself; `renew` does."""
        self.state()
        return self._turned_away

    @property
    def reached(self) -> bool:
        """Whether something took our connection, be it a publisher or any other program."""
        self.state()
        return self._reached

    def state(self) -> LinkState:
        """How the connection is now."""
        while not self._closed and self._monitor.poll(0):
            self._note(self._parse(self._monitor.recv_multipart())["event"])
        return self._state

    def renew(self) -> None:
        """Drop the connection, and what was sent and not delivered with it, and connect again."""
        if not self._closed:
            self._shut()
            # ZeroMQ closes in a thread of its own, which may connect and deliver once more before it gets to
            # that; the end of the context waits for it.
            self._context.term()
            self._context = self._zmq.Context()
            self._open()

    def close(self) -> None:
        """Let go of everything; closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._shut()
            self._context.term()

    def _note(self, event: int) -> None:
        zmq = self._zmq
        refusals = (
            zmq.EVENT_HANDSHAKE_FAILED_AUTH,
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        )
        if event in (zmq.EVENT_CONNECTED, zmq.EVENT_CLOSED):  # closed: it could not be opened
            self._reached = event == zmq.EVENT_CONNECTED
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._state = "connected"
        elif event in refusals:
            self._state = "refused"
            self._turned_away = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        elif event in (zmq.EVENT_DISCONNECTED, zmq.EVENT_CONNECT_RETRIED) and self._state == "connected":
            self._state = "connecting"

    def _open(self) -> None:
        zmq = self._zmq
        self._parse = require("zmq.utils.monitor", extra="live").parse_monitor_message
        socket = self._context.socket(self._kind)
        general = {
            zmq.LINGER: 0,
            zmq.RECONNECT_IVL: 100,
            zmq.RECONNECT_IVL_MAX: 2_000,
            **self._watched(),
            zmq.IPV6: int(is_ipv6(self._endpoint)),
        }
        for option, value in {**general, **self._options}.items():  # before connecting: later is too late
            socket.setsockopt(option, value)
        if self._keys is not None:
            socket.curve_publickey, socket.curve_secretkey = self._keys.public, self._keys.secret
            socket.curve_serverkey = self._keys.server
        for prefix in self._subscriptions:
            socket.subscribe(prefix)
        self._monitor = socket.get_monitor_socket()
        self._socket = socket
        self._turned_away = False
        try:
            socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            self._shut()
            raise ValueError(f"{self._endpoint} is no address to connect to: {error}") from error

    def _watched(self) -> dict[int, int]:
        """Options by which a peer that is gone without a word is noticed within some ten seconds.

        A subscriber that is too busy to read stops its input, and with it the answers to ZeroMQ's own
        heartbeats: libzmq then takes the peer for gone, and aborts the process at the next read (its issue
        3937, seen with 4.3.5). So the system asks there, whose answers do not wait for anybody to read.
        """
        zmq = self._zmq
        if self._kind != zmq.SUB:
            return {zmq.HEARTBEAT_IVL: 2_000, zmq.HEARTBEAT_TIMEOUT: 6_000}
        return {
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: 3,
            zmq.TCP_KEEPALIVE_INTVL: 2,
            zmq.TCP_KEEPALIVE_CNT: 3,
        }

    def _shut(self) -> None:
        with suppress(self._zmq.ZMQError):  # the socket may never have been connected
            self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)

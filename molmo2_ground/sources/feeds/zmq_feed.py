"""`ZmqFeed`: pictures that a camera publishes over ZeroMQ, with the sender's own times."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from threading import Event
from typing import Any
from urllib.parse import parse_qs

from molmo2_ground._optional import require
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds.address import Address
from molmo2_ground.sources.feeds.camera_clock import CameraClock
from molmo2_ground.sources.feeds.failures import RefusedError, StalledError
from molmo2_ground.sources.feeds.feed import Timeouts
from molmo2_ground.sources.feeds.picture_arrival import PictureArrival
from molmo2_ground.sources.feeds.sent_picture import MAX_LIVE_PIXELS, MalformedError, SentPicture, read_parts

_LOG = logging.getLogger(__name__)

# A raw picture of the largest size, and room for a header.
_MAX_MESSAGE_BYTES = 3 * MAX_LIVE_PIXELS + 65536
_HIGH_WATER = 4
_POLL_MS = 50


class ZmqFeed:
    """Subscribes to `zmq+tcp://host:port` or `zmq+ipc://path`; `?camera=NAME&topic=TEXT` choose what is read.

    camera  name of the camera in the messages; empty: the only one.  topic  what the messages begin with.
    """

    paced = True
    reopens = True

    def __init__(
        self, address: Address, *, camera: str = "", topic: str = "", clocks: Clocks | None = None
    ) -> None:
        self.name, self._address, self._clocks = address.name, address, clocks or Clocks()
        asked = parse_qs(address.query.reveal())
        if unknown := sorted(set(asked) - {"camera", "topic"}):
            raise RefusedError(f"{self.name}: ?camera= and ?topic= are known; got {len(unknown)} others")
        self._camera = camera or asked.get("camera", [""])[0]
        self._topic = topic or asked.get("topic", [""])[0]

    def connect(self, timeouts: Timeouts) -> ZmqConnection:
        """Subscribe. ZeroMQ connects in the background, so this says nothing of the other side."""
        zmq = require("zmq", extra="live")
        socket = zmq.Context.instance().socket(zmq.SUB)
        socket.linger = 0
        socket.rcvhwm = _HIGH_WATER  # before it connects, or it does not hold
        socket.maxmsgsize = _MAX_MESSAGE_BYTES
        socket.subscribe(self._topic)
        problem = ""
        try:
            socket.connect(self._address.location.reveal())
        except zmq.ZMQError as error:
            socket.close()
            problem = zmq.strerror(error.errno)
        if problem:
            raise RefusedError(f"{self.name}: ZeroMQ cannot connect there ({problem})")
        return ZmqConnection(socket, self, timeouts)

    def read(self, parts: list[bytes]) -> SentPicture | None:
        """What a message brings of our camera."""
        return read_parts(parts, camera=self._camera)

    @property
    def clocks(self) -> Clocks:
        """By which arrivals are stamped."""
        return self._clocks


class ZmqConnection:
    """One subscription. losses: `malformed` messages, pictures `repeated` for want of a newer one."""

    def __init__(self, socket: Any, feed: ZmqFeed, timeouts: Timeouts) -> None:
        self._socket, self._feed, self._timeouts = socket, feed, timeouts
        self._zmq = require("zmq", extra="live")
        self.losses: Counter[str] = Counter()
        self._closed = Event()
        self._last: tuple[int, int] | None = None
        self._camera_clock = CameraClock(feed.name, each_tells=True)

    def arrivals(self) -> Iterator[PictureArrival]:
        """Pictures as they come; raises `StalledError` when none comes in time, malformed messages or not,
        and when the camera's clock leaps ahead.
        """
        clocks = self._feed.clocks
        try:
            good_ns, patience_s = clocks.monotonic_ns(), self._timeouts.open_s
            while not self._closed.is_set():
                if self._socket.poll(_POLL_MS):
                    arrival = self._read()
                    if arrival is not None:
                        yield arrival
                        good_ns, patience_s = clocks.monotonic_ns(), self._timeouts.read_s
                        continue
                if clocks.monotonic_ns() - good_ns > patience_s * 1e9:
                    raise StalledError(f"{self._feed.name}: no picture for {patience_s:g} s")
        finally:
            # A socket belongs to the thread that uses it.
            self._socket.close()

    def close(self) -> None:
        """Subscribe no more; the reading thread lets go of the socket."""
        self._closed.set()

    def _read(self) -> PictureArrival | None:
        clocks = self._feed.clocks
        parts = self._socket.recv_multipart()
        recv_ns, monotonic_ns = clocks.unix_ns(), clocks.monotonic_ns()
        try:
            sent = self._feed.read(parts)
        except MalformedError as error:
            self.losses["malformed"] += 1
            if self.losses["malformed"] == 1:
                _LOG.warning("%s: a message is no picture: %s", self._feed.name, error)
            return None
        if sent is None:
            return None
        stamp = (sent.epoch, sent.stamp_ns or 0)
        if sent.stamp_ns is not None and stamp == self._last:
            # lerobot's sender sends the picture that it has, also when there is no newer one.
            self.losses["repeated"] += 1
            return None
        if self._last is not None and sent.epoch != self._last[0]:
            raise SourceError(f"{self._feed.name}: the camera was started anew")
        self._last = stamp
        return PictureArrival(
            stamp_ns=self._stamp_ns(sent, recv_ns=recv_ns),
            clock=sent.clock,
            recv_ns=recv_ns,
            monotonic_ns=monotonic_ns,
            width_px=sent.width_px,
            height_px=sent.height_px,
            paint=self._painting(sent),
        )

    def _stamp_ns(self, sent: SentPicture, *, recv_ns: int) -> int | None:
        if sent.clock != "unix":  # no clock that ours could be held against
            return sent.stamp_ns
        return self._camera_clock.stamp_ns(sent.stamp_ns, recv_ns=recv_ns)

    def _painting(self, sent: SentPicture) -> Any:
        name = self._feed.name

        def paint() -> Any:
            try:
                return sent.paint()
            except (OSError, ValueError, SyntaxError) as error:
                raise SourceError(f"{name}: a picture is damaged ({error})") from error

        return paint

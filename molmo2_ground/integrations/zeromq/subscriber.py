"""`Subscriber`: what a publisher says of its stream, the newest of each question and nothing too old."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, get_args

from molmo2_ground._optional import require
from molmo2_ground._wanted import NUMBER, WHOLE
from molmo2_ground.clocks import Clocks
from molmo2_ground.integrations.zeromq.endpoint import DEFAULT_ENDPOINT
from molmo2_ground.integrations.zeromq.high_water import check_high_water
from molmo2_ground.integrations.zeromq.keys import ClientKeys
from molmo2_ground.integrations.zeromq.link import Link, LinkState
from molmo2_ground.integrations.zeromq.topic_log import TopicLog
from molmo2_ground.integrations.zeromq.wire import from_wire
from molmo2_ground.messages import HealthMessage
from molmo2_ground.messages.kinds import MODEL_OF, ROOT, Kind, Message, topic_name, topic_of

Keep = Literal["newest", "every"]

_LONGEST_MESSAGE = 32 * 1024 * 1024
_RENEW_S = 1.0
_SLICE_MS = 250
_MOST_AT_ONCE = 10_000  # read before the first is given: a publisher that floods must not hold us up
_MOST_QUESTIONS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message that arrived.

    stream      name of the stream.  kind  of the topic.  nbytes  of it on the wire.
    lost        messages of its topic that were sent before it and never arrived.
    arrived_ns  monotonic nanoseconds by which it had not arrived yet: where it waited to be read, the moment
                of reading before. So an age that is counted from here is never too small.
    """

    stream: str
    kind: Kind
    message: Message
    nbytes: int
    lost: int
    arrived_ns: int

    @property
    def question(self) -> str:
        """Name of the question; empty for health."""
        return "" if isinstance(self.message, HealthMessage) else self.message.header.question


class Subscriber:
    """A SUB socket, for one thread; it has no thread of its own and reads when it is asked.

    endpoint  where the publisher is.  stream  its name, None for whichever.  kinds  which topics.
    keys      ours, where the publisher wants some.
    keep      `newest`: of each question's tracks, points, count and masks only the newest is given, the
              others count as superseded; events are all given. `every`: all, in order.
    clock_offset_ns  nanoseconds by which the publisher's clock is ahead of ours; 0 on one machine, and where
              both are kept by PTP or NTP; `ControlClient.ping` measures it. None: the clocks cannot be
              compared, and a message may be used for as long after its arrival as it could be when it was
              sent; how long it was on its way is then not known. So is a message from the future taken.
    max_age_s whatever its clock says, nothing is given that arrived longer ago than this.
    silence_s without a heartbeat for so long, `alive` is False.

    A lasting publisher may be started later or again: connecting is retried for ever.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        stream: str | None = None,
        kinds: Sequence[Kind] = ("tracks", "points", "count", "masks", "events"),
        keys: ClientKeys | None = None,
        keep: Keep = "newest",
        clock_offset_ns: int | None = 0,
        max_age_s: float = 5.0,
        silence_s: float = 3.0,
        high_water: int = 1000,
        clocks: Clocks | None = None,
    ) -> None:
        WHOLE.or_nothing().check("clock_offset_ns", clock_offset_ns)
        check_high_water(high_water)
        for name, seconds in (("max_age_s", max_age_s), ("silence_s", silence_s)):
            NUMBER.check(name, seconds)
            if not 0 < seconds < math.inf:
                raise ValueError(f"{name} is a finite number of seconds above 0; got {seconds}")
        if keep not in get_args(Keep):
            raise ValueError(f"keep is one of {', '.join(get_args(Keep))}; got {keep!r}")
        topics = _subscriptions(stream, kinds)
        zmq: Any = require("zmq", extra="live")
        self._zmq, self._clocks, self._keep = zmq, clocks or Clocks(), keep
        self._offset_ns, self._max_age_ns = clock_offset_ns, int(max_age_s * 1e9)
        self._silence_ns = int(silence_s * 1e9)
        self._wanted = frozenset(kinds)
        options = {zmq.RCVHWM: high_water, zmq.MAXMSGSIZE: _LONGEST_MESSAGE}
        self._link = Link(endpoint, zmq.SUB, keys=keys, options=options, subscriptions=topics)
        self._logs: dict[tuple[str, Kind], TopicLog] = {}
        self._unreadable = 0
        self._events: deque[Received] = deque(maxlen=high_water)
        self._untaken: dict[tuple[str, Kind, str], Received] = {}
        self._newest: dict[tuple[str, Kind, str], Received] = {}
        self._beat: Received | None = None
        self._empty_ns = self._renewed_ns = self._clocks.monotonic_ns()

    @property
    def link(self) -> LinkState:
        """Whether we are connected, still trying, or turned away."""
        return self._link.state()

    @property
    def reached(self) -> bool:
        """Whether something took our connection; while `link` is `connecting` it has said nothing we know."""
        return self._link.reached

    @property
    def alive(self) -> bool:
        """Whether a heartbeat was sent within the last `silence_s`."""
        self._drain()
        return self._beats()

    @property
    def health(self) -> HealthMessage | None:
        """What the newest heartbeat said, however old it is; `alive` says whether to believe it."""
        self._drain()
        return (
            None
            if self._beat is None or not isinstance(message := self._beat.message, HealthMessage)
            else message
        )

    @property
    def unreadable(self) -> int:
        """What arrived and was no message of ours, or of one more stream or question than anybody has."""
        return self._unreadable

    @property
    def logs(self) -> dict[tuple[str, Kind], TopicLog]:
        """Counts by stream and kind: received, lost, stale, restarts."""
        return dict(self._logs)

    @property
    def lost(self) -> int:
        """Messages that were sent and never arrived, over all topics that are listened to."""
        return sum(log.lost for log in self._logs.values())

    def latest(self, kind: Kind, *, question: str | None = None, stream: str | None = None) -> Any:
        """The newest message of a kind that may still be acted on, or None; asking again gives it again.

        question, stream: of this one only; otherwise of whichever was newest.
        """
        self._drain()
        found = [
            received
            for (name, its, asked), received in self._newest.items()
            if its == kind and question in (None, asked) and stream in (None, name)
        ]
        fresh = [received for received in found if self.is_fresh(received)]
        return max(fresh, key=_when).message if fresh else None

    def is_fresh(self, received: Received) -> bool:
        """Whether a message may be acted on now."""
        message, waited_ns = received.message, self._clocks.monotonic_ns() - received.arrived_ns
        if isinstance(message, HealthMessage):
            return waited_ns <= self._max_age_ns
        header = message.header
        if header.status == "stale" or waited_ns > self._max_age_ns:
            return False
        there_ns = self._there_ns(header.pub_ns)
        if there_ns is None:
            return waited_ns <= header.valid_until_ns - header.pub_ns
        return there_ns <= header.valid_until_ns

    def receive(self, timeout_s: float | None = None, *, stale_too: bool = False) -> Received | None:
        """The next message, oldest first; None when none came in time. Without `timeout_s` it waits for ever.

        Stale ones are counted and left out, except events, which stay true, and unless `stale_too`.
        """
        until_ns = None if timeout_s is None else self._after_ns(timeout_s)
        while True:
            emptied = self._drain()
            while (received := self._next()) is not None:
                stale = received.kind not in ("events", "health") and not self.is_fresh(received)
                self._log_of(received).stale += stale
                if stale_too or not stale:
                    return received
            left_ms = _SLICE_MS
            if until_ns is not None:
                left_ms = min(left_ms, -((self._clocks.monotonic_ns() - until_ns) // 1_000_000))
            if left_ms <= 0:
                return None
            if self._link.socket.poll(left_ms) and emptied:
                # Nothing was waiting before, so what is there now has just come.
                self._empty_ns = self._clocks.monotonic_ns()

    def wait_alive(self, timeout_s: float) -> bool:
        """Wait for the first heartbeat; False when none came in time."""
        until_ns = self._after_ns(timeout_s)
        while not self.alive:
            left_ms = (until_ns - self._clocks.monotonic_ns()) // 1_000_000
            if left_ms <= 0:
                return False
            self._link.socket.poll(min(left_ms, _SLICE_MS))
        return True

    def close(self) -> None:
        """Let go of the connection; closing again does nothing."""
        self._link.close()

    def __iter__(self) -> Iterator[Received]:
        """Messages as `receive` gives them, without end."""
        while True:
            received = self.receive()
            assert received is not None  # without a timeout it waits
            yield received

    def _after_ns(self, timeout_s: float) -> int:
        """The moment so many seconds from now, monotonic nanoseconds."""
        NUMBER.check("timeout_s", timeout_s)
        if not math.isfinite(timeout_s):
            raise ValueError(f"timeout_s is a finite number of seconds; got {timeout_s}")
        return self._clocks.monotonic_ns() + int(timeout_s * 1e9)

    def _beats(self) -> bool:
        if self._beat is None or not isinstance(message := self._beat.message, HealthMessage):
            return False
        there_ns = self._there_ns(message.pub_ns)
        if there_ns is None:
            return self._clocks.monotonic_ns() - self._beat.arrived_ns <= self._silence_ns
        return there_ns - message.pub_ns <= self._silence_ns

    def _there_ns(self, pub_ns: int) -> int | None:
        """The publisher's clock now; None where it cannot be told from ours.

        What it says to have sent later than now shows that its clock is further ahead than we were told: by
        that clock what is old would be fresh for so long.
        """
        if self._offset_ns is None:
            return None
        there_ns = self._clocks.unix_ns() + self._offset_ns
        return None if pub_ns > there_ns else there_ns

    def _next(self) -> Received | None:
        """The next that has not been given: all events, of others what is newest; oldest arrival first."""
        oldest = min(self._untaken.values(), key=_when, default=None)
        if self._events and (oldest is None or _when(self._events[0]) <= _when(oldest)):
            return self._events.popleft()
        if oldest is not None:
            del self._untaken[oldest.stream, oldest.kind, oldest.question]
        return oldest

    def _drain(self) -> bool:
        """Read all that waits; whether nothing is left."""
        now_ns = self._clocks.monotonic_ns()
        if self._link.turned_away and now_ns - self._renewed_ns > _RENEW_S * 1e9:
            self._renewed_ns = now_ns
            self._link.renew()
        socket, since_ns = self._link.socket, self._empty_ns
        for _ in range(_MOST_AT_ONCE):
            if self._keep == "every" and self._events:
                return False  # given before more is read, so that what is not taken waits in the socket
            now_ns = self._clocks.monotonic_ns()
            try:
                data = socket.recv(self._zmq.DONTWAIT)
            except self._zmq.Again:
                self._empty_ns = now_ns
                return True
            self._take(data, since_ns)
        return False

    def _take(self, data: bytes, since_ns: int) -> None:
        try:
            stream, kind, message = from_wire(data)
        except ValueError:
            self._unreadable += 1
            return
        if (stream, kind) not in self._logs and len(self._logs) >= _MOST_QUESTIONS:
            self._unreadable += 1
            return
        log = self._logs.setdefault((stream, kind), TopicLog())
        if isinstance(message, HealthMessage):
            lost = log.take(message.seq, message.epoch)
        else:
            lost = log.take(message.header.seq, message.header.epoch)
        received = Received(
            stream=stream, kind=kind, message=message, nbytes=len(data), lost=lost, arrived_ns=since_ns
        )
        if kind == "health":
            self._beat = received
        if kind not in self._wanted:
            return
        place = (stream, kind, received.question)
        if not self._has_room(place):
            self._unreadable += 1
            return
        self._newest[place] = received
        if kind == "events" or self._keep == "every":
            log.superseded += len(self._events) == self._events.maxlen
            self._events.append(received)
        else:
            log.superseded += place in self._untaken
            self._untaken[place] = received

    def _has_room(self, place: tuple[str, Kind, str]) -> bool:
        """Whether one more question may be remembered; old ones go, so that names cannot fill the memory."""
        if place not in self._newest and len(self._newest) >= _MOST_QUESTIONS:
            self._newest = {at: kept for at, kept in self._newest.items() if self.is_fresh(kept)}
        return place in self._newest or len(self._newest) < _MOST_QUESTIONS

    def _log_of(self, received: Received) -> TopicLog:
        return self._logs[received.stream, received.kind]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _when(received: Received) -> int:
    message = received.message
    return message.pub_ns if isinstance(message, HealthMessage) else message.header.pub_ns


def _subscriptions(stream: str | None, kinds: Sequence[Kind]) -> tuple[bytes, ...]:
    """Prefixes of the topics; the heartbeat is always among them."""
    listed = isinstance(kinds, Collection) and not isinstance(kinds, str)
    if not listed or not kinds or not all(kind in get_args(Kind) for kind in kinds):
        raise ValueError(f"kinds are a list of one or more of {', '.join(MODEL_OF)}; got {kinds!r}")
    if stream is None:
        return (ROOT.encode(),)  # a name in the middle cannot be left open; the others are left out here
    topic_name(stream)
    return tuple(topic_of(stream, kind).encode() for kind in dict.fromkeys((*kinds, "health")))

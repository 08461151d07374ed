"""`Ingest`: a thread that reads a live source, connects it anew when it is lost, and keeps count."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from threading import Event, Lock, Thread, current_thread
from types import TracebackType
from typing import Self

from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.messages.health import FeedState, StatusEvent
from molmo2_ground.sources.feeds.backoff import Backoff
from molmo2_ground.sources.feeds.capture import Capture
from molmo2_ground.sources.feeds.failures import RefusedError, StalledError, WholeFileError
from molmo2_ground.sources.feeds.feed import (
    Arrival,
    CanBeHeld,
    Connection,
    CountsLosses,
    Feed,
    Interruptible,
    Timeouts,
)
from molmo2_ground.sources.feeds.thinning import Thinning
from molmo2_ground.sources.feeds.waiting_room import Policy, Totals, WaitingRoom

_LOG = logging.getLogger(__name__)

# Status events that nobody drains are not kept for weeks.
_MOST_EVENTS = 1000
# A camera may be away for days: attempts that fail like those before are logged once a minute.
_LOGGED_ATTEMPTS, _LOGGED_EVERY_NS = 3, 60_000_000_000
# How long `close` waits for a source that cannot be interrupted (a user's own function).
_CLOSE_S = 2.0


class Ingest:
    """Reads `feed` in a thread of its own from `start` to `close`, or until the feed is over.

    policy    see `Policy`; a source that is not paced waits instead of losing pictures, whatever the policy.
    capacity  how many pictures may wait under `every`.
    rate_hz   how many pictures a second are enough, by their stamps; the others are counted as `rate`.

    Pictures that are left out are counted by reason: `rate`, `replaced`, `full`, `out_of_order` (its stamp is
    not later than the one before), `closed` (came while closing), and those of `CountsLosses`.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        policy: Policy = "latest",
        capacity: int = 64,
        rate_hz: float | None = None,
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self._feed = feed
        self._room = WaitingRoom(policy=policy, capacity=capacity, waits=not feed.paced)
        self._thinning = None if rate_hz is None else Thinning(rate_hz)
        self._timeouts, self._backoff = timeouts or Timeouts(), backoff or Backoff()
        self._clocks = clocks or Clocks()
        self._stop, self._lock = Event(), Lock()
        self._events: deque[StatusEvent] = deque(maxlen=_MOST_EVENTS)
        self._connection: Connection | None = None
        self._thread: Thread | None = None
        self._state: FeedState = "connecting"
        self._epoch: int | None = None
        self._connections, self._index = 0, 0
        self._newest_monotonic_ns: int | None = None
        self._last_stamp_ns: int | None = None
        self._last_good_ns, self._showed, self._let_in = 0, False, False
        self._failure: SourceError | None = None
        self._logged_reason, self._logged_ns = "", 0
        # Connections in a row that brought nothing, and whether the last of them sent a file.
        self._fruitless, self._sent_file, self._trouble = 0, False, ""

    # --- what anyone may ask

    @property
    def name(self) -> str:
        """What the source is called in messages: no passwords."""
        return self._feed.name

    @property
    def state(self) -> FeedState:
        """How the source is now."""
        return self._state

    @property
    def epoch(self) -> int | None:
        """Of the newest connection: unix milliseconds at which it was opened; None before the first."""
        return self._epoch

    @property
    def connections(self) -> int:
        """How many times the source was connected."""
        return self._connections

    @property
    def newest_monotonic_ns(self) -> int | None:
        """When the newest picture arrived, by the monotonic clock; None before the first."""
        return self._newest_monotonic_ns

    @property
    def totals(self) -> Totals:
        """Pictures received, taken, waiting, and dropped by reason, of one moment."""
        return self._room.totals

    @property
    def ended(self) -> bool:
        """Whether the feed is over, failed or closed, and nothing is left to take."""
        return self._room.is_over

    @property
    def failure(self) -> SourceError | None:
        """Why the feed was given up; None when it was not."""
        return self._failure

    @property
    def trouble(self) -> str:
        """Why it was lost the last time, without its name; empty when it never was."""
        return self._trouble

    def take(self, timeout_s: float) -> Capture | None:
        """The next picture by the policy; None when nothing came in time, or nothing will (`ended`)."""
        return self._room.take(timeout_s)

    def drain_dropped(self) -> dict[str, int]:
        """How many pictures were left out since the call before, by reason."""
        return self._room.drain_dropped()

    def drain_events(self) -> tuple[StatusEvent, ...]:
        """Changes of state since the call before, oldest first; the newest thousand when there are more."""
        with self._lock:
            events = tuple(self._events)
            self._events.clear()
        return events

    # --- its life

    def start(self) -> Self:
        """Begin to read; once."""
        if self._thread is not None:
            raise RuntimeError("an ingest is started once; make another one")
        self._thread = Thread(target=self._run, name=f"ingest {self.name}", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop reading and let go of the source, whatever it is doing; closing again does nothing.

        Returns when the thread has ended; a user's own function that does not return is left behind after
        two seconds, with a warning.
        """
        self._stop.set()
        self._room.close()
        if isinstance(self._feed, Interruptible):
            self._feed.interrupt()
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.close()
        if self._thread is not None and self._thread is not current_thread():
            self._thread.join(_CLOSE_S)
            if self._thread.is_alive():
                _LOG.warning("%s does not return; its thread is left behind", self.name)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- in the thread

    def _run(self) -> None:
        try:
            self._read_until_over()
        except SourceError as error:
            self._give_up(error)
        except Exception as error:
            _LOG.exception("reading %s failed in a way that it should not", self.name)
            self._give_up(SourceError(f"{self.name}: reading failed ({type(error).__name__}); see the log"))
        finally:
            self._room.close()

    def _give_up(self, error: SourceError) -> None:
        self._failure = error
        self._tell("failed", reason=str(error))

    def _read_until_over(self) -> None:
        self._tell("connecting")
        waits_s, attempt = self._backoff.waits_s(), 0
        while not self._stop.is_set():
            self._showed = self._let_in = False
            lost = self._one_connection()
            if self._stop.is_set() or lost is None:
                self._tell("ended", reason="closed" if self._stop.is_set() else "it is over")
                return
            self._sent_file = isinstance(lost, WholeFileError)
            if self._showed and not self._sent_file:
                waits_s, attempt, self._fruitless = self._backoff.waits_s(), 0, 0
            elif self._let_in:  # a server that only lets us in, or sends a file, is not back yet
                self._fruitless += 1
            attempt = self._wait(waits_s, attempt, lost)

    def _one_connection(self) -> SourceError | None:
        """Connect, read to the end, let go. Returns why it is to be connected anew, None when it is over."""
        reopens = self._feed.reopens
        try:
            connection = self._feed.connect(self._timeouts)
        except SourceError as error:
            if not reopens or (isinstance(error, RefusedError) and not self._connections):
                if self._stop.is_set():
                    return None
                raise
            return error
        with self._lock:
            self._connection = connection
        try:
            if self._stop.is_set():
                connection.close()  # it was opened while closing, which knew nothing of it
            else:
                self._begin_epoch()
            self._read(connection)
        except SourceError as error:
            if isinstance(error, StalledError) and not self._stop.is_set():
                self._tell("stalled", reason=str(error))
            if not reopens and not self._stop.is_set():
                raise
            return error
        finally:
            with self._lock:
                self._connection = None
            connection.close()
        return SourceError(f"{self.name}: the other side ended the stream") if reopens else None

    def _wait(self, waits_s: Iterator[float], attempt: int, lost: SourceError) -> int:
        """Wait before the next attempt and return its number; raises `lost` when there is to be none."""
        wait_s = next(waits_s, None)
        if wait_s is None:
            raise lost
        self._tell("reconnecting", attempt=attempt + 1, reason=str(lost))
        self._stop.wait(wait_s)
        return attempt + 1

    def _begin_epoch(self) -> None:
        opened_ms = self._clocks.unix_ns() // 1_000_000
        # A clock that was set back must not make an older epoch come after a newer one.
        self._epoch = opened_ms if self._epoch is None else max(opened_ms, self._epoch + 1)
        self._connections, self._let_in = self._connections + 1, True
        self._last_stamp_ns, self._last_good_ns = None, self._clocks.monotonic_ns()
        if self._thinning is not None:
            self._thinning.restart()
        self._tell("connected")

    def _read(self, connection: Connection) -> None:
        counted: dict[str, int] = {}
        try:
            for arrival in connection.arrivals():
                counted = self._count_losses(connection, counted)
                if self._stop.is_set():
                    self._room.left_out("closed")
                    return
                self._receive(arrival)
        finally:
            self._count_losses(connection, counted)

    def _count_losses(self, connection: Connection, counted: dict[str, int]) -> dict[str, int]:
        losses = dict(connection.losses) if isinstance(connection, CountsLosses) else {}
        for reason, count in losses.items():
            if more := count - counted.get(reason, 0):
                self._index += more
                self._room.left_out(reason, more)
        return losses

    def _receive(self, arrival: Arrival) -> None:
        decoded_ns = self._clocks.unix_ns()
        index, self._index = self._index, self._index + 1
        self._newest_monotonic_ns = arrival.monotonic_ns
        stamp_ns = arrival.recv_ns if arrival.stamp_ns is None else arrival.stamp_ns
        if self._last_stamp_ns is not None and stamp_ns <= self._last_stamp_ns:
            self._room.left_out("out_of_order")
            self._check_clock(arrival, back_s=(self._last_stamp_ns - stamp_ns) / 1e9)
            return
        if not self._showed and self._fruitless >= _LOGGED_ATTEMPTS and not self._sent_file:
            _LOG.info("%s: pictures come again", self.name)  # the log did not say that it is connected
        self._last_stamp_ns, self._last_good_ns, self._showed = stamp_ns, arrival.monotonic_ns, True
        held_ns = arrival.held_ns if isinstance(arrival, CanBeHeld) else 0
        if self._thinning is not None and not self._thinning.wants(stamp_ns - held_ns):
            self._room.left_out("rate")
            return
        assert self._epoch is not None
        self._room.bring(
            Capture(
                index=index,
                epoch=self._epoch,
                stamp_ns=stamp_ns,
                clock=arrival.clock,
                stamped_by="arrival" if arrival.stamp_ns is None else "camera",
                recv_ns=arrival.recv_ns,
                decoded_ns=decoded_ns,
                monotonic_ns=arrival.monotonic_ns,
                width_px=arrival.width_px,
                height_px=arrival.height_px,
                paint=arrival.paint,
                held_ns=held_ns,
            )
        )

    def _check_clock(self, arrival: Arrival, *, back_s: float) -> None:
        # A clock that was set back for good would have every picture left out from now on: another epoch
        # lets it begin again.
        if arrival.monotonic_ns - self._last_good_ns > self._timeouts.read_s * 1e9:
            raise StalledError(
                f"{self.name}: its clock went back by {back_s:.1f} s, so no picture could be used for "
                f"{self._timeouts.read_s:g} s"
            )

    def _tell(self, state: FeedState, *, attempt: int = 0, reason: str = "") -> None:
        event = StatusEvent(
            state=state, at_ns=self._clocks.unix_ns(), epoch=self._epoch, attempt=attempt, reason=reason
        )
        with self._lock:
            self._state = state
            self._events.append(event)
        words = f" (attempt {attempt})" if attempt else ""
        reason = reason.removeprefix(f"{self.name}: ")
        level = logging.INFO if state in ("connecting", "connected", "ended") else logging.WARNING
        if state in ("stalled", "reconnecting", "failed"):
            self._trouble = reason
        if self._is_told_already(state, attempt, reason):
            level = logging.DEBUG
        _LOG.log(level, "%s: %s%s%s", self.name, state, words, f": {reason}" if reason else "")

    def _is_told_already(self, state: FeedState, attempt: int, reason: str) -> bool:
        """Whether the log has said so of late: one more attempt that failed like those before."""
        if state == "connected":  # and lost again, most likely: that is what is told
            return self._fruitless >= _LOGGED_ATTEMPTS
        now_ns = self._clocks.monotonic_ns()
        if (
            state in ("stalled", "reconnecting")
            and (attempt or self._fruitless + 1) > _LOGGED_ATTEMPTS
            and reason == self._logged_reason
            and now_ns - self._logged_ns < _LOGGED_EVERY_NS
        ):
            return True
        self._logged_reason, self._logged_ns = reason, now_ns
        return False

"""`HealthMeter`: counts what happens to a live stream and says how it is."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from molmo2_ground.clocks import Clocks
from molmo2_ground.live.latency import Histogram, Latencies
from molmo2_ground.live.update import Look, Update
from molmo2_ground.messages.health import FeedState, HealthMessage, StatusEvent
from molmo2_ground.sources.feeds.waiting_room import Totals

_MOST_EVENTS = 64  # between two messages; older ones make way and are counted
_MOST_RECENT = 16
_RATE_WINDOW_S = 10.0


class Figures(Protocol):
    """What the meter reads; `StreamFigures` is one."""

    @property
    def totals(self) -> Totals:
        """Pictures since the start."""
        ...

    @property
    def tokens(self) -> int:
        """Read and written by the model since the start."""
        ...

    @property
    def state(self) -> FeedState:
        """Of the camera."""
        ...

    @property
    def epoch(self) -> int | None:
        """Unix milliseconds at which it was connected; None before."""
        ...

    @property
    def connections(self) -> int:
        """Times that it was connected."""
        ...

    @property
    def newest_monotonic_ns(self) -> int | None:
        """When its newest picture arrived; None before the first."""
        ...


class HealthMeter:
    """The figures of one stream; any thread may note and read, memory is constant.

    source  the stream's name. figures: what source and loop count themselves.
    latencies  by stage; one of its own when none is handed in.
    """

    def __init__(
        self,
        source: str,
        *,
        figures: Figures,
        latencies: Latencies | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.source = source
        self._figures = figures
        self._clocks = clocks or Clocks()
        self.latencies = latencies or Latencies(clocks=self._clocks)
        self._lock = threading.Lock()
        self._started_ns = self._clocks.monotonic_ns()
        self._seq = 0
        self._looks: Counter[str] = Counter()
        self._looked = self._updates = self._stale = self._watched = self._followed = 0
        self._parse_errors: Counter[str] = Counter()
        self._events: deque[StatusEvent] = deque(maxlen=_MOST_EVENTS)
        self._recent: deque[StatusEvent] = deque(maxlen=_MOST_RECENT)
        self._events_lost = 0
        self._made: deque[int] = deque(maxlen=2048)
        self._questions: dict[str, str] = {}

    def take(self, update: Update) -> None:
        """Count one update: its looks and events, and how long its stages took."""
        self.latencies.add_all(update.timings_ms)
        with self._lock:
            self._updates += 1
            self._stale += update.stale
            self._watched += len(update.events)
            self._followed = len(update.tracks)
            self._made.append(self._clocks.monotonic_ns())
            for look in update.looks:
                self._count(look)

    def _count(self, look: Look) -> None:
        self._looked += 1
        self._looks.update(look.reasons)
        if look.result is None:
            self._parse_errors["unreadable"] += 1
            return
        report = look.result.receipt.report
        self._parse_errors["rejected"] += len(report.rejected)
        self._parse_errors["truncated"] += report.truncated
        self._parse_errors["repeats_cut"] += report.repeats_cut

    def published(self, ms: float) -> None:
        """Note how long it took from a finished update to the hand-over to its socket, milliseconds."""
        self.latencies.add("published", ms)

    def saw(self, events: Iterable[StatusEvent]) -> None:
        """Note changes of the camera's state, for the next message.

        Of more than 64 between two messages the oldest make way; `extra["events_lost"]` counts them.
        """
        with self._lock:
            for event in events:
                self._events_lost += len(self._events) == _MOST_EVENTS
                self._events.append(event)
                self._recent.append(event)

    def ask(self, questions: Mapping[str, str]) -> None:
        """Note which questions are asked now: by name, their words."""
        with self._lock:
            self._questions = dict(questions)

    def message(self) -> HealthMessage:
        """The next message: counts up `seq`, and takes the changes of state noted since the one before.

        For the one place that sends messages; everybody else uses `peek`.
        """
        with self._lock:
            events = tuple(self._events)
            self._events.clear()
            seq, self._seq = self._seq, self._seq + 1
        return self._message(seq, events)

    def peek(self) -> HealthMessage:
        """The same without taking anything: `seq` is that of the message that comes next."""
        with self._lock:
            events, seq = tuple(self._events), self._seq
        return self._message(seq, events)

    def _message(self, seq: int, events: tuple[StatusEvent, ...]) -> HealthMessage:
        figures, now_ns = self._figures, self._clocks.monotonic_ns()
        totals, newest_ns = figures.totals, figures.newest_monotonic_ns
        with self._lock:
            looks, questions = dict(self._looks), dict(self._questions)
            extra = {
                "updates": self._updates,
                "updates_per_s": self._rate(now_ns),
                "stale": self._stale,
                "followed": self._followed,
                "watch_events": self._watched,
                "looked": self._looked,
                "parse_errors": {kind: count for kind, count in self._parse_errors.items() if count},
                "events_lost": self._events_lost,
            }
        return HealthMessage(
            source=self.source,
            seq=seq,
            epoch=figures.epoch,
            pub_ns=self._clocks.unix_ns(),
            state=figures.state,
            uptime_s=(now_ns - self._started_ns) / 1e9,
            frame_age_ms=None if newest_ns is None else max(0.0, (now_ns - newest_ns) / 1e6),
            received=totals.received,
            taken=totals.taken,
            dropped=dict(totals.dropped),
            looks=looks,
            tokens=figures.tokens,
            questions=questions,
            latency_ms=self.latencies.quantiles(),
            connections=figures.connections,
            events=events,
            extra=extra,
        )

    def _rate(self, now_ns: int) -> float:
        """Updates a second over the last 10 seconds, or since the start when that is shorter."""
        span_s = min(_RATE_WINDOW_S, (now_ns - self._started_ns) / 1e9)
        recent = sum(at_ns >= now_ns - int(_RATE_WINDOW_S * 1e9) for at_ns in self._made)
        return round(recent / span_s, 3) if span_s > 0 else 0.0

    @property
    def recent_events(self) -> tuple[StatusEvent, ...]:
        """The last changes of the camera's state, at most 16, whether or not they went into a message."""
        with self._lock:
            return tuple(self._recent)

    def histograms(self) -> dict[str, Histogram]:
        """By stage, how long it took since the start."""
        return self.latencies.histograms()

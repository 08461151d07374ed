"""A `LiveTracker` run in simulated time: a model that takes so long, and everything that came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from molmo2_ground.backends.base import Backend
from molmo2_ground.live.carrier import Carrier
from molmo2_ground.live.flow_carrier import FlowCarrier
from molmo2_ground.live.ledger import LedgerEntry
from molmo2_ground.live.looker import LookAnswer, answer
from molmo2_ground.live.tracker import LiveRules, LiveTracker
from molmo2_ground.live.update import Look, Update
from molmo2_ground.query import Decoding, Query
from molmo2_ground.sources.feeds.capture import Capture
from tests.live_scenes import BEGIN_NS, HandClock


@dataclass
class LiveRun:
    """Captures go in as they arrive; `latency_s`: how long every look takes."""

    backend: Backend
    rules: LiveRules = field(default_factory=LiveRules)
    carrier: Carrier | None = field(default_factory=FlowCarrier)
    latency_s: float = 0.0
    questions: Mapping[str, Query] = field(default_factory=lambda: {"things": Query.track("things")})
    clock: HandClock = field(default_factory=HandClock)
    updates: list[Update] = field(default_factory=list)
    keep: bool = True
    busy: tuple[float, LookAnswer] | None = None

    def __post_init__(self) -> None:
        self.tracker = LiveTracker(
            name="street",
            rules=self.rules,
            limits=self.backend.limits,
            resize=self.backend.resize_frame,
            carrier=self.carrier,
            clocks=self.clock.clocks,
        )
        for name, query in self.questions.items():
            self.tracker.set_question(name, query)

    def run(self, captures: Iterable[Capture]) -> LiveRun:
        for capture in captures:
            self.take(capture)
        return self

    def take(self, capture: Capture) -> Update | None:
        arrived_s = (capture.recv_ns - BEGIN_NS) / 1e9
        self.clock.to(max(arrived_s, self.clock.now_ns / 1e9))
        now_s = self.clock.now_ns / 1e9
        if self.busy is not None and self.busy[0] <= now_s + 1e-9:
            self.tracker.answered(self.busy[1])
            self.busy = None
            if self.carrier is None:
                self._keep(self.tracker.update())
        if not self.tracker.take(capture):
            return None
        if self.busy is None:
            request = self.tracker.due()
            if request is not None:
                done = answer(self.backend, request, decoding=Decoding(), clocks=self.clock.clocks)
                if self.rules.wait:
                    self.tracker.answered(done)
                else:
                    self.busy = (now_s + self.latency_s, done)
        return self._keep(self.tracker.update())

    def _keep(self, update: Update | None) -> Update | None:
        if update is not None and self.keep:
            self.updates.append(update)
        return update

    @property
    def ledger(self) -> list[LedgerEntry]:
        return [entry for update in self.updates for entry in update.ledger]

    @property
    def looks(self) -> list[Look]:
        return [look for update in self.updates for look in update.looks]

    @property
    def ids(self) -> list[int]:
        return sorted({track.object_id for update in self.updates for track in update.tracks})

    @property
    def dropped(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for update in self.updates:
            total.update(update.dropped)
        return total

    def reasons(self) -> Counter[str]:
        return Counter(reason for look in self.looks for reason in look.reasons)

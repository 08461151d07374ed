"""`Stream`: a live source, a model, and what is known now, one update for each picture.

Three threads: the source's (`Ingest`) reads pictures, the model's (`Looker`) answers, and the caller's, in
`for update in stream`, does the rest. A caller that is slow with an update makes the source leave pictures
out by its policy; nothing piles up.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from molmo2_ground.analytics.rules import Rules
from molmo2_ground.backends.base import Backend
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.live.carrier import Carrier
from molmo2_ground.live.clip_ring import ClipRing
from molmo2_ground.live.health import HealthMeter
from molmo2_ground.live.looker import Looker
from molmo2_ground.live.questions import Questions
from molmo2_ground.live.stream_figures import StreamFigures
from molmo2_ground.live.tracker import LiveRules, LiveTracker
from molmo2_ground.live.update import Update, WatchEvent
from molmo2_ground.live.watch import Watch
from molmo2_ground.live.watching import Watching
from molmo2_ground.messages.health import HealthMessage, StatusEvent
from molmo2_ground.query import Decoding, Query
from molmo2_ground.sources.feeds.ingest import Ingest
from molmo2_ground.sources.feeds.waiting_room import Totals

_LOG = logging.getLogger(__name__)

# How long the loop waits for a picture before it sees to answers and changed questions: while the model is
# at work, and otherwise.
_BUSY_S = 0.02
_IDLE_S = 0.1
_MOST_EVENTS = 256
_CLOSE_S = 5.0


class Stream:
    """An iterator of `Update`; use it in a `with` block, or close it. Made by `molmo2_ground.stream`.

    One thread iterates; all else may be called from any. A changed question holds from the next picture on.
    """

    def __init__(
        self,
        ingest: Ingest,
        backend: Backend,
        *,
        name: str,
        questions: Mapping[str, Query],
        rules: LiveRules,
        carrier: Carrier | None,
        watches: Iterable[Watch] = (),
        watch_rules: Rules | None = None,
        clips: ClipRing | None = None,
        decoding: Decoding | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.name = name
        clocks = clocks or Clocks()
        self._ingest, self._rules = ingest, rules
        self._questions = Questions(questions, fps=rules.fps)
        self._tracker = LiveTracker(
            name=name,
            rules=rules,
            limits=backend.limits,
            resize=backend.resize_frame,
            carrier=carrier,
            clocks=clocks,
        )
        self._looker = Looker(backend, decoding=decoding, clocks=clocks)
        self._waits_for_looks = carrier is None
        self._watching, self.clips = Watching(watches, rules=watch_rules), clips
        self._vetted: tuple[Watch, ...] = ()
        self._ended_with: tuple[WatchEvent, ...] = ()
        self._figures = StreamFigures(ingest, self._tracker)
        self.meter = HealthMeter(name, figures=self._figures, clocks=clocks)
        self._lock = threading.RLock()
        self._stepping = threading.RLock()  # held while the loop works: nothing is let go of under it
        self._events: deque[StatusEvent] = deque(maxlen=_MOST_EVENTS)
        self._snapshot: Update | None = None
        self._started = self._closed = self._let_go = False

    # --- iteration

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Update:
        """The next update, waited for as long as it takes.

        Ends when the source is over (a file, an iterator) or the stream is closed. Raises `SourceError` when
        the source was given up, and what the model raised that is no answer; the stream is closed then.
        """
        if self._closed:
            self.close()  # whoever closed it may not have been able to wait for this thread
            raise StopIteration
        try:
            self._start()
            while not self._closed:
                with self._stepping:
                    update = None if self._closed else self._step()
                self._gather_events()
                if update is not None:
                    return update
                if self._over:
                    break
        except BaseException:
            self.close()
            raise
        failure = self._ingest.failure
        self.close()
        if failure is not None:
            raise SourceError(str(failure)) from failure
        raise StopIteration

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # For those who break out of the loop and forget the stream; one that was never made has nothing to
        # close.
        if getattr(self, "_started", False):
            self.close()

    def close(self) -> None:
        """Let go of the source and stop; nothing keeps running. Closing again does nothing.

        Any thread may close it. The one that iterates is waited for, and so is a look that is under way, each
        up to 5 seconds, and whoever else closes it meanwhile: a program that ends while the model's thread
        runs is ended by the system. An iterating thread that takes longer lets go itself when it comes back.
        """
        self._closed = True
        self._ingest.close()
        if not self._stepping.acquire(timeout=2 * _CLOSE_S):
            return
        try:
            if not self._let_go:
                self._let_go = True
                self._let_go_of_all()
        finally:
            self._stepping.release()

    def _let_go_of_all(self) -> None:
        self._looker.close(wait_s=_CLOSE_S)
        self._gather_events()
        self._ended_with = self._watching.close()
        if self.clips is not None:
            if self._snapshot is not None:
                self._ended_with = self.clips.take(self._snapshot, self._ended_with)
            self.clips.close()
        self._tracker.close()

    # --- what any thread may ask

    @property
    def questions(self) -> dict[str, Query]:
        """What is asked, by name."""
        return self._questions.asked

    def add(self, query: Query | str, *, name: str | None = None) -> str:
        """Ask this too, from the next picture on; words alone are followed. Returns its name.

        Raises `ValueError` when the name is taken or the question cannot be asked of a stream.
        """
        return self._questions.add(query, name=name)

    def change(self, name: str, query: Query | str) -> None:
        """Ask this in place of what `name` asked; its things are given up. `ValueError`: no such name."""
        self._questions.change(name, query)

    def remove(self, name: str) -> None:
        """Ask this no more; its things are given up. Raises `ValueError` when there is no such name."""
        self._questions.remove(name)

    @property
    def watches(self) -> tuple[Watch, ...]:
        """What is watched for."""
        return self._watching.watches

    def watch(self, watch: Watch) -> None:
        """Watch for this too, from the next update on. Raises `ValueError` for a name that is taken."""
        self._watching.add(watch)

    def unwatch(self, name: str) -> None:
        """Watch for this no more. Raises `ValueError` for a name that there is not."""
        self._watching.remove(name)

    @property
    def ended_with(self) -> tuple[WatchEvent, ...]:
        """Events that were certain only because the stream was over; no update holds them."""
        return self._ended_with

    def snapshot(self) -> Update | None:
        """The newest update, None before the first."""
        return self._snapshot

    def health(self) -> HealthMessage:
        """How source, loop and model are; takes nothing from what a publisher sends (`meter.message`)."""
        self._gather_events()
        return self.meter.peek()

    def drain_events(self) -> tuple[StatusEvent, ...]:
        """Changes of the source's state since the call before, the newest 256 when there are more."""
        self._gather_events()
        with self._lock:
            events = tuple(self._events)
            self._events.clear()
        return events

    @property
    def totals(self) -> Totals:
        """Pictures since the start; received == taken + waiting + all of dropped, between two updates.

        taken: those that an update is about. dropped: by the source's reasons and the loop's (`late`,
        `unlooked`, and a `damaged` one whose pixels could not be made).
        """
        return self._figures.totals

    @property
    def trouble(self) -> str:
        """Why the source was lost the last time, without passwords; empty when it never was."""
        return self._figures.trouble

    @property
    def tokens(self) -> int:
        """Read and written by the model so far; what the questions of a look share counts once."""
        return self._figures.tokens

    # --- the loop

    def _start(self) -> None:
        with self._lock:
            if self._started or self._closed:
                return
            self._started = True
            self._ingest.start()

    @property
    def _over(self) -> bool:
        """Nothing comes any more; without a carrier, a last look may still be under way."""
        return self._ingest.ended and not (self._waits_for_looks and self._looker.busy)

    def _step(self) -> Update | None:
        """See to one picture or one answer; an update when there is one."""
        for name, query in self._questions.changes():
            self._tracker.set_question(name, query)
            self._watching.forget(name)
            self.meter.ask({name: query.phrase for name, query in self.questions.items()})
        answer = self._looker.take()
        if answer is not None:
            self._tracker.answered(answer)
            if self._waits_for_looks:
                return self._made()
        capture = self._ingest.take(_BUSY_S if self._looker.busy else _IDLE_S)
        if capture is None and self._ingest.ended and self._waits_for_looks:
            self._ask()
            answer = self._looker.take(_IDLE_S)
            if answer is not None:
                self._tracker.answered(answer)
            return self._made()
        taken = capture is not None and self._tracker.take(capture)
        if taken or capture is None:
            self._ask()
        return self._made() if taken else None

    def _ask(self) -> None:
        """Ask the model if there is reason to, and wait for it where the policy says so."""
        if self._looker.busy:
            return
        request = self._tracker.due()
        if request is None:
            return
        if self._rules.wait:
            self._tracker.answered(self._looker.answer(request))
        else:
            self._looker.ask(request)

    def _made(self) -> Update | None:
        update = self._tracker.update(dropped=self._ingest.drain_dropped())
        if update is None:
            return None
        self._vet_watches(update.size_px)
        events = self._watching.take(update)
        if self.clips is not None:
            events = self.clips.take(update, events)
        if events:
            update = replace(update, events=events)
        self._snapshot = update
        self.meter.take(update)
        return update

    def _vet_watches(self, size_px: tuple[int, int]) -> None:
        """Say of watches that are new what speaks against their ever being told."""
        watches, before = self._watching.watches, self._vetted
        if watches == before:
            return
        self._vetted = watches
        for watch in watches:
            if watch not in before:
                for caution in watch.cautions(self.questions, size_px=size_px):
                    _LOG.warning("%s: the watch %r may never be told: %s", self.name, watch.name, caution)

    def _gather_events(self) -> None:
        with self._lock:
            events = self._ingest.drain_events()
            self._events.extend(events)
            self.meter.saw(events)  # in here, so that two threads tell them in order

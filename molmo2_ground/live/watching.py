"""`Watching`: updates of a stream go in, what its watches were waiting for comes out."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from molmo2_ground.analytics.rules import Rules
from molmo2_ground.live.event_finder import LEAST_STEP_S
from molmo2_ground.live.update import Update, WatchEvent
from molmo2_ground.live.watch import Watch
from molmo2_ground.live.watcher import Moment, Watcher


class Watching:
    """The watches of one stream; any thread may add and remove, one takes the updates.

    A thing has a sample in an update unless its state is `predicted`: then nothing was seen of it, and it is
    hidden. A reconnect is a gap, passed over when it is no longer than the grace time of `rules`. Events are
    those of `molmo2_ground.analytics` by these rules; memory is bounded by what is in sight.
    """

    def __init__(self, watches: Iterable[Watch] = (), *, rules: Rules | None = None) -> None:
        self._rules = rules or Rules()
        self._lock = threading.Lock()
        self._watchers: dict[str, Watcher] = {}
        self._epoch: int | None = None
        self._last_s: float | None = None
        self._newest: Update | None = None
        self._looks: dict[str, int] = {}
        self._looked: frozenset[str] = frozenset()  # by answers that came with updates that were skipped
        self.skipped = 0  # updates at the time of the one before: nothing can happen between them
        for watch in watches:
            self.add(watch)

    @property
    def watches(self) -> tuple[Watch, ...]:
        """In the order in which they were added."""
        with self._lock:
            return tuple(watcher.watch for watcher in self._watchers.values())

    def add(self, watch: Watch) -> None:
        """Watch for this too, from the next update on. Raises `ValueError` for a name that is taken."""
        with self._lock:
            if watch.name in self._watchers:
                raise ValueError(f"watches have different names; there is one called {watch.name!r}")
            self._watchers[watch.name] = Watcher(watch, rules=self._rules)

    def remove(self, name: str) -> None:
        """Watch for this no more. Raises `ValueError` for a name that there is not."""
        with self._lock:
            if name not in self._watchers:
                known = ", ".join(map(repr, self._watchers)) or "none"
                raise ValueError(f"there is no watch called {name!r}; there are: {known}")
            del self._watchers[name]

    def forget(self, question: str) -> None:
        """The question is not asked any more: what was known of its things is forgotten, without events."""
        with self._lock:
            self._looks.pop(question, None)
            for watcher in self._watchers.values():
                watcher.forget(question)

    @property
    def silenced(self) -> dict[str, int]:
        """How many events were held back by `cooldown_s`, by name of the watch."""
        with self._lock:
            return {name: watcher.silenced for name, watcher in self._watchers.items()}

    def take(self, update: Update) -> tuple[WatchEvent, ...]:
        """What the watches saw in this update, in the order of the watches; its own `events` are not read."""
        with self._lock:
            for look in update.looks:
                if look.result is not None:
                    self._looks[look.question] = look.stamp_ns
            found: list[WatchEvent] = []
            if self._epoch is not None and update.epoch != self._epoch:
                found += self._reconnected(update)
            self._epoch = update.epoch
            if self._last_s is not None and update.time_s - self._last_s < LEAST_STEP_S:
                self.skipped += 1
                self._looked |= Moment.of(update).looked
                return tuple(found)
            self._last_s, self._newest = update.time_s, update
            moment = Moment.of(update, looked=self._looked)
            self._looked = frozenset()
            for watcher in self._watchers.values():
                found += self._told(watcher, watcher.take(moment), update)
            return tuple(found)

    def close(self) -> tuple[WatchEvent, ...]:
        """What is certain because the stream is over, by the last update; nothing is remembered after."""
        with self._lock:
            return tuple(self._ended())

    def _reconnected(self, update: Update) -> list[WatchEvent]:
        """Another connection: a gap; when its times begin anew, what was before is over."""
        if self._last_s is not None and update.time_s < self._last_s:
            found = self._ended()
            self._last_s = None
            return found
        for watcher in self._watchers.values():
            watcher.cut()
        return []

    def _ended(self) -> list[WatchEvent]:
        found: list[WatchEvent] = []
        newest = self._newest
        if newest is None or self._last_s is None:
            return found
        for watcher in self._watchers.values():
            found += self._told(watcher, watcher.close(self._last_s), newest)
        return found

    def _told(self, watcher: Watcher, told: Iterable[tuple[str, object]], update: Update) -> list[WatchEvent]:
        return [
            WatchEvent(
                watch=watcher.watch.name,
                question=question,
                event=event,  # type: ignore[arg-type]
                stamp_ns=update.stamp_ns,
                source_index=update.capture.index,
                receipt_of=self._looks.get(question),
            )
            for question, event in told
        ]

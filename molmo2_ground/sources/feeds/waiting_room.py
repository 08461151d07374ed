"""`WaitingRoom`: pictures between the thread that reads and the one that uses them, all accounted for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Condition
from typing import Literal

from molmo2_ground._wanted import WHOLE
from molmo2_ground.sources.feeds.capture import Capture

Policy = Literal["latest", "every", "block"]
"""latest: one picture waits and a newer one replaces it. every: up to the capacity wait, and when there is
no room the newest is refused. block: one waits, and so does the reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Since the start; received == taken + waiting + all dropped, always."""

    received: int
    taken: int
    waiting: int
    dropped: Mapping[str, int]


class WaitingRoom:
    """Holds pictures by a policy, and counts those that are left out by reason. Any thread may call.

    waits  True: whoever brings a picture waits for room, whatever the policy (a source that can wait loses
           nothing).
    """

    def __init__(self, *, policy: Policy, capacity: int, waits: bool) -> None:
        if policy not in ("latest", "every", "block"):
            raise ValueError(f"policy must be latest, every or block; got {policy!r}")
        WHOLE.check("capacity", capacity)
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1; got {capacity}")
        self._room = capacity if policy == "every" else 1
        self._waits, self._replaces = waits or policy == "block", policy == "latest"
        self._changed = Condition()
        self._captures: deque[Capture] = deque()
        self._received = self._taken = 0
        self._dropped: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._closed = False

    @property
    def totals(self) -> Totals:
        """All counts, of one moment."""
        with self._changed:
            return Totals(
                received=self._received,
                taken=self._taken,
                waiting=len(self._captures),
                dropped=dict(self._dropped),
            )

    def left_out(self, reason: str, count: int = 1) -> None:
        """Count pictures that came and are not kept."""
        with self._changed:
            self._received += count
            self._drop(reason, count)

    def bring(self, capture: Capture) -> None:
        """Let a picture in, by the policy."""
        with self._changed:
            if self._waits:
                self._changed.wait_for(lambda: self._closed or len(self._captures) < self._room)
            self._received += 1
            if self._closed:
                self._drop("closed")
            elif len(self._captures) < self._room:
                self._captures.append(capture)
            elif self._replaces:
                self._captures[0] = capture
                self._drop("replaced")
            else:
                self._drop("full")
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Capture | None:
        """The picture that waits longest; None when none came in time, or none will."""
        with self._changed:
            self._changed.wait_for(lambda: self._captures or self._closed, timeout=timeout_s)
            if not self._captures:
                return None
            self._taken += 1
            capture = self._captures.popleft()
            self._changed.notify_all()
            return capture

    def drain_dropped(self) -> dict[str, int]:
        """How many were left out since the call before, by reason."""
        with self._changed:
            untold, self._untold = dict(self._untold), Counter()
            return untold

    def close(self) -> None:
        """Nothing comes any more: nobody waits from here on. What is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more and nothing is left."""
        with self._changed:
            return self._closed and not self._captures

    def _drop(self, reason: str, count: int = 1) -> None:
        self._dropped[reason] += count
        self._untold[reason] += count

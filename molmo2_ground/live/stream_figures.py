"""`StreamFigures`: what the threads of one stream have counted, each picture and each token once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from molmo2_ground.live.tracker import LiveTracker
from molmo2_ground.messages.health import FeedState
from molmo2_ground.sources.feeds.ingest import Ingest
from molmo2_ground.sources.feeds.waiting_room import Totals


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """Read by any thread; written by the source's and the loop's."""

    ingest: Ingest
    tracker: LiveTracker

    @property
    def totals(self) -> Totals:
        """Pictures since the start; received == taken + waiting + all of dropped, between two updates.

        taken: those that an update is about. dropped: by the source's reasons and the loop's.
        """
        totals, left_out = self.ingest.totals, dict(self.tracker.left_out)
        return Totals(
            received=totals.received,
            taken=totals.taken - sum(left_out.values()),
            waiting=totals.waiting,
            dropped=dict(Counter(totals.dropped) + Counter(left_out)),
        )

    @property
    def tokens(self) -> int:
        """Read and written by the model; what the questions of a look share counts once."""
        return self.tracker.tokens

    @property
    def state(self) -> FeedState:
        """Of the camera."""
        return self.ingest.state

    @property
    def trouble(self) -> str:
        """Why the camera was lost the last time; empty when it never was."""
        return self.ingest.trouble

    @property
    def epoch(self) -> int | None:
        """Unix milliseconds at which it was connected; None before."""
        return self.ingest.epoch

    @property
    def connections(self) -> int:
        """Times that it was connected."""
        return self.ingest.connections

    @property
    def newest_monotonic_ns(self) -> int | None:
        """When its newest picture arrived; None before the first."""
        return self.ingest.newest_monotonic_ns

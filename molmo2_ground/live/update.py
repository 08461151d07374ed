"""`Update`: what is known at one picture of a live source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from molmo2_ground.analytics import Event
from molmo2_ground.live.ledger import LedgerEntry
from molmo2_ground.messages.header import StampClock, StampedBy
from molmo2_ground.query import Query
from molmo2_ground.replay import Result
from molmo2_ground.results import Mask, State
from molmo2_ground.sources.feeds.capture import Capture


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveQuestion:
    """A question that is asked of a stream again and again, under a name that is its own."""

    name: str
    query: Query


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTrack:
    """One thing that is followed, in the update's picture.

    object_id    unique in the stream, over all questions; never used for another thing.
    question     name of the question that it answers. label: what the model calls it.
    x_px, y_px   pixels of the picture; x_norm, y_norm: shares of its width and height.
    state        `observed`: the model pointed to it in this very picture; `propagated`: followed here by
                 masks or flow from one in which it did; `predicted`: neither, moved straight on.
    observed_ns  stamp of the newest picture in which the model saw it. born_ns: of the first.
    mask         its pixels when masks are followed, else None.
    """

    object_id: int
    question: str
    label: str
    x_px: float
    y_px: float
    x_norm: float
    y_norm: float
    state: State
    observed_ns: int
    born_ns: int
    mask: Mask | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One answer of the model that came in since the update before.

    stamp_ns, source_index  of the newest picture that it was shown.
    reasons  why it was asked: `first`, `age`, `scene_cut`, `area_jump`, `point_outside`, `swap`, `lost`,
             `newcomer`, `question`, `reconnect`, `every`.
    result   `Tracks`, `Points` or `Count` with its receipt; times are seconds of the stream. None when the
             answer could not be read, or the question cannot be asked any more: then `error` says why.
    asked_ns, answered_ns  unix nanoseconds.
    recv_ns, epoch, clock, stamped_by  of that picture, as its `Capture` has them: the update's own picture
             is a later one, and may have come over another connection.
    """

    question: str
    stamp_ns: int
    source_index: int
    reasons: tuple[str, ...]
    result: Result | None
    error: str = ""
    asked_ns: int
    answered_ns: int
    recv_ns: int
    epoch: int
    clock: StampClock = "unix"
    stamped_by: StampedBy = "arrival"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """Something that a watch was waiting for happened.

    watch   name of the watch.   event   what happened (`molmo2_ground.analytics`), its times in seconds of
    the stream. stamp_ns, source_index  of the picture with which it became certain; when it happened, the
    event itself says. receipt_of  the look that it rests on, by stamp of its newest picture; None when it
    rests on followed places alone. clip  the file with what came before and after, once it is written.
    """

    watch: str
    question: str
    event: Event
    stamp_ns: int
    source_index: int
    receipt_of: int | None = None
    clip: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Update:
    """What is known at one picture; stamps of a stream's updates rise within an epoch.

    source       the stream's name. seq: number of the update, from 0.
    capture      the picture with its times; `capture.paint()` makes its pixels, size_px is its size.
    time_s       its time in seconds after the stream's first picture, as results of looks count it.
    sampled      True when the picture is one of those that the model may be shown (`fps` a second).
    tracks       everything that is followed, by object id. masks: of those that have one.
    looks        answers of the model that came in since the update before; usually of earlier pictures.
    events       what watches saw. ledger: births, returns, merges, deaths.
    dropped      pictures left out since the update before, by reason: `rate` (not asked for), `replaced`
                 (a newer one came, policy latest), `full` (no room, policy every), `late` (older than the
                 age allowed), `unlooked` (no carrier, and the model was busy), `out_of_order`, `closed`, and
                 what came and was no picture: `damaged`, `repeated`, `malformed`.
    made_ns      unix nanoseconds at which the update was made; age_ms: how old the picture was then.
    valid_until_ns  unix nanoseconds until which places may be acted on; stale: made later than that.
    timings_ms   by stage, see `live.latency.STAGES`: received (where the camera stamps), decoded, carried,
                 made; of looks: vision, prefill, decode, and what else their receipts name.
    waiting      why the model should be asked and is not: signs that wait for the token budget.
    """

    source: str
    seq: int
    capture: Capture
    time_s: float
    sampled: bool
    tracks: tuple[LiveTrack, ...]
    looks: tuple[Look, ...] = ()
    events: tuple[WatchEvent, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)
    made_ns: int
    age_ms: float
    valid_until_ns: int
    timings_ms: dict[str, float] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()

    @property
    def stamp_ns(self) -> int:
        """When the picture was taken, nanoseconds by `capture.clock`."""
        return self.capture.stamp_ns

    @property
    def epoch(self) -> int:
        """Unix milliseconds at which the picture's connection was opened."""
        return self.capture.epoch

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of the picture."""
        return self.capture.width_px, self.capture.height_px

    @property
    def masks(self) -> tuple[Mask, ...]:
        """Masks of the things that have one, by object id."""
        return tuple(track.mask for track in self.tracks if track.mask is not None)

    @property
    def stale(self) -> bool:
        """Whether the picture was too old to act on when the update was made."""
        return self.made_ns > self.valid_until_ns

    def of(self, question: str) -> tuple[LiveTrack, ...]:
        """The things that answer one question, by its name."""
        return tuple(track for track in self.tracks if track.question == question)

    def __repr__(self) -> str:
        words: dict[str, Any] = {"seq": self.seq, "time_s": round(self.time_s, 3), "tracks": len(self.tracks)}
        return f"Update({', '.join(f'{name}={value}' for name, value in words.items())})"

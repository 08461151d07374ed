"""`Identities`: who is who from one answer of the model to the next; ids are never used twice.

An answer's tracks are numbered anew in every window. A track is a known thing when both lie near each other
on the pictures that they share: places of earlier answers count, and so do places carried there since, the
later the more. What shares no picture with it (hidden, another connection) is looked for where it would be
by now, within a distance that widens with the time unseen, for as long as the grace time.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt

from molmo2_ground.live.carrier import LONGEST_LOOK_S, Anchor
from molmo2_ground.live.ledger import LedgerEntry, LedgerKind
from molmo2_ground.results import Sample, Track
from molmo2_ground.stitcher import (
    CARRY_GATE,
    CARRY_S,
    SHARED_GATE,
    apart_on_shared_frames,
    assign,
    velocity_norm_s,
)

GATE_PER_S = 0.03
WIDEST_GATE = 0.3
"""A thing unseen is taken up again within `CARRY_GATE` of where it should be, `GATE_PER_S` more for every
second unseen, at most `WIDEST_GATE`; all shares of the picture. What walks covers a few hundredths of it in
a second. Where one thing alone is missing and one alone was found, nothing can be mixed up: then the widest
holds at once, for what goes behind something is last seen in part, and its speed with it."""

MERGE_GATE = 0.015
MERGE_LOOKS = 3
"""Two ids of one question that lie so near each other (median over the pictures of a look, shares of the
picture) in so many looks one after another are one thing. One look may well put two that pass each other on
one spot."""

DEATH_LOOKS = 3
"""A thing is given up when so many looks one after another did not see it and the grace time is over: one
answer may forget a thing, and without looks nothing was unseen."""

_MOST_CUTS = 1000  # more than a window of a flickering picture has

FRESH_STEPS = 1.5
"""A thing whose last place in an answer is at most so many steps of the grid before the newest picture is
there now: an answer may leave the last picture out."""


@dataclass(slots=True, kw_only=True, eq=False)
class Thing:
    """One identity.

    samples      its places lately, by picture: the model's own, and in between those carried to sampled ones.
    observed_ns, observed_s, observed_index  the newest picture in which the model saw it.
    here         False while it is out of sight: the last look did not see it at its end, or the connection
                 was lost or the scene changed since.
    missed       looks one after another that did not see it at their end.
    """

    object_id: int
    question: str
    label: str
    born_ns: int
    observed_ns: int
    observed_s: float
    observed_index: int
    samples: list[Sample] = field(default_factory=list)
    here: bool = True
    missed: int = 0

    def take(self, sample: Sample) -> None:
        """A place in a picture, in place of the one known there; one that was carried replaces none."""
        same = [n for n, known in enumerate(self.samples) if known.source_index == sample.source_index]
        if same and sample.state != "observed":
            return
        for number in same:
            del self.samples[number]
        insort(self.samples, sample, key=lambda known: known.time_s)

    @property
    def observed(self) -> list[Sample]:
        """The places that the model said."""
        return [sample for sample in self.samples if sample.state == "observed"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joined:
    """What an answer changed: the ledger, where to follow things from, and what is out of sight now.

    An answer about a picture before an interruption says where things were there, and they are gone now.
    """

    ledger: tuple[LedgerEntry, ...]
    anchors: tuple[Anchor, ...]
    gone: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The newest picture that a look was shown.

    step_s    between two times of the grid.   stamps_ns: of the look's pictures, by number.
    """

    source_index: int
    time_s: float
    stamp_ns: int
    step_s: float
    stamps_ns: Mapping[int, int]

    def shows(self, track: Track) -> bool:
        """Whether a track of the answer reaches up to now."""
        return self.time_s - track.last.time_s <= FRESH_STEPS * self.step_s


class Identities:
    """Everything that is known by an id; give it each answer of each question in order."""

    def __init__(self, *, grace_s: float, keep_s: float) -> None:
        """grace_s: how long a thing may be unseen and still be itself. keep_s: places are kept so long."""
        self._grace_s, self._keep_s = grace_s, keep_s
        self._things: dict[int, Thing] = {}
        self._next_id = 1
        self._on_one_spot: dict[tuple[int, int], int] = {}
        # The first picture after the last interruption of any kind, and that after each cut lately.
        self._parted_index = 0
        self._cuts: deque[int] = deque(maxlen=_MOST_CUTS)
        self._asked_s = float("inf")  # of the newest picture of the look under way

    def __iter__(self) -> Iterator[Thing]:
        return iter(self._things.values())

    def __len__(self) -> int:
        return len(self._things)

    def get(self, object_id: int) -> Thing | None:
        """The thing of this id, None when there is none (any more)."""
        return self._things.get(object_id)

    def of(self, question: str) -> list[Thing]:
        """The things of one question, by id."""
        return [thing for thing in self._things.values() if thing.question == question]

    def sought(self, time_s: float) -> bool:
        """Whether something is out of sight that may come back within the grace time."""
        return any(not thing.here and self._may_return(thing, time_s) for thing in self._things.values())

    def _may_return(self, thing: Thing, time_s: float) -> bool:
        gone_s = time_s - thing.observed_s
        last, velocity = thing.samples[-1], velocity_norm_s(thing.observed)
        inside = (0 <= last.x_norm + velocity[0] * gone_s <= 1, 0 <= last.y_norm + velocity[1] * gone_s <= 1)
        return gone_s <= self._grace_s and all(inside)

    def note(self, object_id: int, sample: Sample) -> None:
        """A place to which a thing was carried in a sampled picture."""
        thing = self._things.get(object_id)
        if thing is not None:
            thing.take(sample)
            self._let_go(thing, sample.time_s)

    def asked(self, time_s: float | None) -> None:
        """A look is under way whose newest picture is that of this time, seconds; None: no look is.

        Places that its window shares stay until it has answered, for `LONGEST_LOOK_S` at most.
        """
        self._asked_s = float("inf") if time_s is None else time_s

    def interrupted(self, source_index: int, *, cut: bool) -> None:
        """From this picture on they share nothing with those before: another connection, or (`cut`) scene.

        What an answer still says of pictures before it brings nothing back into sight.
        """
        self._parted_index = source_index
        if cut:
            self._cuts.append(source_index)
        for thing in self._things.values():
            thing.here = False

    def _shows(self, seen: Seen, track: Track) -> bool:
        """Whether a track of the answer reaches up to its newest picture, in the scene of that."""
        return seen.shows(track) and not (track.last.source_index < self._parted_index <= seen.source_index)

    def _is_cut_off(self, thing: Thing, track: Track) -> bool:
        """Whether the scene changed between them: where a thing was says nothing of where it is."""
        return any(thing.observed_index < cut <= track.first.source_index for cut in self._cuts)

    def drop(self, question: str, *, stamp_ns: int, source_index: int, reason: str) -> Joined:
        """Give up everything of a question that is asked no more."""
        gone = self.of(question)
        ledger = tuple(
            self._death(thing, stamp_ns=stamp_ns, source_index=source_index, reason=reason) for thing in gone
        )
        return Joined(ledger=ledger, anchors=(), gone=tuple(thing.object_id for thing in gone))

    def join(self, question: str, tracks: Sequence[Track], seen: Seen, *, only_one: bool = False) -> Joined:
        """Take in an answer's tracks; their own numbers mean nothing beyond it.

        only_one: the question is about one thing, so that one known and one found are the same.
        """
        tracks = [track for track in sorted(tracks, key=lambda t: t.object_id) if track.samples]
        known = self.of(question)
        matches = self._match(known, tracks, only_one=only_one)
        ledger: list[LedgerEntry] = []
        seen_now: dict[int, Track] = {}
        for number, track in enumerate(tracks):
            thing: Thing
            reason = ""
            if number in matches:
                thing, reason = matches[number]
                away = not thing.here
            elif not self._shows(seen, track) or self._doubles(track, [tracks[n] for n in matches]):
                continue  # gone already, or named twice; the answer itself tells of both
            else:
                thing = self._born(question, track, seen)
                away = False
                ledger.append(self._entry("birth", thing, seen, self._why_new(known, track)))
            self._update(thing, track, seen)
            if away and thing.here:
                ledger.append(self._entry("return", thing, seen, reason))
            seen_now[thing.object_id] = track
        gone = [
            thing.object_id
            for thing in self.of(question)
            if thing.object_id not in seen_now or not thing.here
        ]
        merged = self._merges(question, seen_now, seen)
        dead = self._unseen(known, seen_now, seen)
        ledger += [*merged, *dead]
        gone += [entry.object_id for entry in merged]
        anchors = tuple(
            _anchor(known_thing, track)
            for object_id, track in sorted(seen_now.items())
            if (known_thing := self._things.get(object_id)) is not None and self._shows(seen, track)
        )
        return Joined(ledger=tuple(ledger), anchors=anchors, gone=tuple(dict.fromkeys(gone)))

    def _match(
        self, known: Sequence[Thing], tracks: Sequence[Track], *, only_one: bool
    ) -> dict[int, tuple[Thing, str]]:
        """For each track that is a known thing, by its place in `tracks`: the thing, and why."""
        matches: dict[int, tuple[Thing, str]] = {}
        shared = _table(known, tracks, lambda thing, track: apart_on_shared_frames(thing.samples, track))
        self._pair(matches, known, shared, SHARED_GATE, "on {0} shared pictures they lie {1:.1f} % apart")
        # Carried off by what is behind it, a thing may still be known by where the model itself saw it.
        own = _table(known, tracks, lambda thing, track: apart_on_shared_frames(thing.observed, track))
        self._pair(
            matches, known, own, SHARED_GATE, "on {0} pictures that both looks saw they lie {1:.1f} % apart"
        )
        one_each = len(known) == 1 and len(tracks) == 1
        if only_one and one_each and not matches and not self._is_cut_off(known[0], tracks[0]):
            matches[0] = (known[0], "one thing is asked for, one is known and one was found")
        ahead = _table(known, tracks, self._off_the_way)
        missing = [thing for thing in known if all(thing is not same for same, _ in matches.values())]
        alone = len(missing) == 1 and len(tracks) - len(matches) == 1
        # Seen apart by the model on one picture is proof of two things; a place carried there is none.
        ahead[0][own[1] > 0] = np.nan
        gates = np.full(ahead[1].shape, WIDEST_GATE) if alone else _gates(ahead[1])
        for row, column in self._open(matches, known, (ahead[0] / gates, ahead[1]), gate=1.0):
            matches[column] = (
                known[row],
                f"unseen for {ahead[1][row, column]:.1f} s it is {100 * ahead[0][row, column]:.1f} % off its "
                f"way (at most {100 * gates[row, column]:.0f} %)",
            )
        return matches

    def _pair(
        self,
        matches: dict[int, tuple[Thing, str]],
        known: Sequence[Thing],
        table: _Table,
        gate: float,
        words: str,
    ) -> None:
        for row, column in self._open(matches, known, table, gate=gate):
            found = words.format(int(table[1][row, column]), 100 * float(table[0][row, column]))
            matches[column] = (known[row], f"{found} (at most {100 * gate:.0f} %)")

    @staticmethod
    def _open(
        matches: Mapping[int, tuple[Thing, str]], known: Sequence[Thing], table: _Table, *, gate: float
    ) -> list[tuple[int, int]]:
        """Pairs (row, column) within the gate among those that have no match yet."""
        taken = {thing.object_id for thing, _ in matches.values()}
        distance = table[0].copy()
        distance[[row for row, thing in enumerate(known) if thing.object_id in taken]] = np.nan
        distance[:, list(matches)] = np.nan
        return assign(distance, gate)

    def _off_the_way(self, thing: Thing, track: Track) -> tuple[float, float]:
        """How far a track begins from where the thing may be by now, shares of the picture; the gap.

        It may have gone straight on or have stopped on the way: the distance is that to the line between.
        """
        first, seen = track.samples[0], thing.observed
        if self._is_cut_off(thing, track) or not seen:
            return float("nan"), 0.0
        before = [sample for sample in seen if sample.time_s <= first.time_s] or seen[:1]
        gap_s = abs(first.time_s - before[-1].time_s)
        if gap_s > self._grace_s:
            return float("nan"), gap_s
        # What goes behind something is seen in part at last, and a model may then point to something else
        # once: the way from the place before counts as well.
        ways = [before] if len(before) < 3 else [before, before[:-1]]
        return min(_off_way(way, first) for way in ways), gap_s

    @staticmethod
    def _doubles(track: Track, others: Sequence[Track]) -> bool:
        """Whether an answer names one thing twice: a new track on the spot of one that is known."""
        for other in others:
            apart, shared = apart_on_shared_frames(track.samples, other)
            if shared >= 2 and apart <= MERGE_GATE:
                return True
        return False

    def _born(self, question: str, track: Track, seen: Seen) -> Thing:
        object_id, self._next_id = self._next_id, self._next_id + 1
        thing = Thing(
            object_id=object_id,
            question=question,
            label=track.label,
            born_ns=seen.stamps_ns.get(track.first.source_index, seen.stamp_ns),
            observed_ns=seen.stamp_ns,
            observed_s=track.last.time_s,
            observed_index=track.last.source_index,
        )
        self._things[object_id] = thing
        return thing

    def _update(self, thing: Thing, track: Track, seen: Seen) -> None:
        last = track.last
        for sample in track.samples:
            thing.take(sample)
        if last.source_index >= thing.observed_index:
            thing.observed_index, thing.observed_s = last.source_index, last.time_s
            thing.observed_ns = seen.stamps_ns.get(last.source_index, seen.stamp_ns)
        thing.here = seen.shows(track) and last.source_index >= self._parted_index
        self._let_go(thing, seen.time_s)

    def _let_go(self, thing: Thing, time_s: float) -> None:
        """Forget places that no window to come shares, but for the last ones, which tell where it went."""
        asked_s = max(min(time_s, self._asked_s), time_s - LONGEST_LOOK_S)
        since_s = min(asked_s - self._keep_s, thing.samples[-1].time_s - CARRY_S)
        if thing.samples[0].time_s < since_s - 1.0:
            thing.samples = [sample for sample in thing.samples if sample.time_s >= since_s]

    def _merges(self, question: str, seen_now: Mapping[int, Track], seen: Seen) -> list[LedgerEntry]:
        entries = []
        for pair in list(self._on_one_spot):
            # A look that did not see both says nothing of one spot: what is counted is unbroken.
            if self._things[pair[0]].question == question and not seen_now.keys() >= set(pair):
                del self._on_one_spot[pair]
        for (a, first), (b, second) in combinations(sorted(seen_now.items()), 2):
            apart, shared = apart_on_shared_frames(first.samples, second)
            if not shared or apart > MERGE_GATE:
                self._on_one_spot.pop((a, b), None)
                continue
            looks = self._on_one_spot[a, b] = self._on_one_spot.get((a, b), 0) + 1
            if looks >= MERGE_LOOKS and a in self._things and b in self._things:
                reason = (
                    f"{looks} looks one after another saw both on one spot, the last {100 * apart:.1f} % "
                    f"apart (at most {100 * MERGE_GATE:.1f} %)"
                )
                entries.append(self._entry("merge", self._things[b], seen, reason, into=a))
                self._forget(b)
        return entries

    def _unseen(self, known: Sequence[Thing], seen_now: Mapping[int, Track], seen: Seen) -> list[LedgerEntry]:
        entries = []
        for thing in known:
            if thing.object_id not in self._things:
                continue
            track = seen_now.get(thing.object_id)
            at_its_end = track is not None and self._shows(seen, track)
            thing.here = thing.here and at_its_end
            thing.missed = 0 if at_its_end else thing.missed + 1
            if at_its_end:
                continue
            gone_s = seen.time_s - thing.observed_s
            if thing.missed >= DEATH_LOOKS and gone_s > self._grace_s:
                reason = (
                    f"{thing.missed} looks one after another did not see it, and it was last seen "
                    f"{gone_s:.1f} s ago (grace time {self._grace_s:g} s)"
                )
                entries.append(
                    self._death(thing, stamp_ns=seen.stamp_ns, source_index=seen.source_index, reason=reason)
                )
        return entries

    def _death(self, thing: Thing, *, stamp_ns: int, source_index: int, reason: str) -> LedgerEntry:
        self._forget(thing.object_id)
        return LedgerEntry(
            kind="death",
            object_id=thing.object_id,
            question=thing.question,
            stamp_ns=stamp_ns,
            source_index=source_index,
            reason=reason,
        )

    def _forget(self, object_id: int) -> None:
        self._things.pop(object_id, None)
        for pair in [pair for pair in self._on_one_spot if object_id in pair]:
            del self._on_one_spot[pair]

    @staticmethod
    def _entry(
        kind: LedgerKind, thing: Thing, seen: Seen, reason: str, *, into: int | None = None
    ) -> LedgerEntry:
        return LedgerEntry(
            kind=kind,
            object_id=thing.object_id,
            question=thing.question,
            stamp_ns=seen.stamp_ns,
            source_index=seen.source_index,
            reason=reason,
            into=into,
        )

    def _why_new(self, known: Sequence[Thing], track: Track) -> str:
        """Why a track is no known thing, with the figure of the nearest."""
        if not known:
            return "nothing was known of this question"
        apart = [(apart_on_shared_frames(thing.samples, track)[0], thing.object_id) for thing in known]
        near = min((pair for pair in apart if pair[0] == pair[0]), default=None)
        if near is None:
            return f"none of the {len(known)} known shares a picture with it or was near enough before"
        return (
            f"the nearest known, {near[1]}, is {100 * near[0]:.1f} % off (at most {100 * SHARED_GATE:.0f} %)"
        )


_Table = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
_Measure = Callable[[Thing, Track], tuple[float, float]]


def _off_way(before: Sequence[Sample], found: Sample) -> float:
    """How far a place is from the line between the last place before it and where that leads to by then."""
    last = before[-1]
    start = np.array([last.x_norm, last.y_norm])
    way = np.array(velocity_norm_s(before)) * (found.time_s - last.time_s)
    to = np.array([found.x_norm, found.y_norm]) - start
    length = float(way @ way)
    share = min(1.0, max(0.0, float(to @ way) / length)) if length > 0 else 0.0
    return float(np.hypot(*(to - share * way)))


def _gates(gaps_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far off its way a thing may be that was unseen for so long."""
    return np.minimum(CARRY_GATE + GATE_PER_S * gaps_s, WIDEST_GATE)


def _table(known: Sequence[Thing], tracks: Sequence[Track], measure: _Measure) -> _Table:
    """What `measure` says of every pair, float64[K, T] twice."""
    first = np.full((len(known), len(tracks)), np.nan)
    second = np.zeros((len(known), len(tracks)))
    for row, thing in enumerate(known):
        for column, track in enumerate(tracks):
            first[row, column], second[row, column] = measure(thing, track)
    return first, second


def _anchor(thing: Thing, track: Track) -> Anchor:
    """Where to follow a thing from: its last place, and how fast it has been going by the model's places."""
    last = track.last
    seen = [sample for sample in thing.observed if last.time_s - sample.time_s <= CARRY_S]
    return Anchor(
        object_id=thing.object_id,
        source_index=last.source_index,
        x_norm=last.x_norm,
        y_norm=last.y_norm,
        velocity_norm_s=velocity_norm_s(seen) if len(seen) > 1 else None,
    )

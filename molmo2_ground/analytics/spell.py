"""`Spell`: a time during which an object was there, short absences included.

Two samples that follow each other in what the model looked at, at most `sightings.LONGEST_STEP_S` apart, are
joined: the object went from the one to the other. Everything else between two samples is a gap, in which the
object was hidden or missed. A gap of at most `grace_s` seconds is passed over, a longer one ends the spell.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from molmo2_ground.results import Sample, Track, Tracks
from molmo2_ground.sightings import SAME_TIME_S, adjoin, looked_times_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """One object while it was there.

    samples   in order of time, one a frame.
    hidden    for each step from a sample to the next, whether it passes over a gap.
    not_before_s  when the model last looked and did not see it before the first sample; None when it did
              not look before.
    gone_by_s when the model first looked and did not see it after the last sample; None when it never
              looked again: the object may still have been there.
    """

    object_id: int
    label: str
    samples: tuple[Sample, ...]
    hidden: tuple[bool, ...]
    not_before_s: float | None
    gone_by_s: float | None

    @property
    def stretches(self) -> tuple[tuple[Sample, ...], ...]:
        """The samples, cut at every gap."""
        cut: list[list[Sample]] = [[self.samples[0]]]
        for hidden, sample in zip(self.hidden, self.samples[1:], strict=True):
            if hidden:
                cut.append([])
            cut[-1].append(sample)
        return tuple(tuple(part) for part in cut)

    def hidden_s(self, first: int, last: int) -> float:
        """Seconds of gaps between two samples, by their numbers."""
        steps = zip(self.hidden[first:last], pairwise(self.samples[first : last + 1]), strict=True)
        return sum(b.time_s - a.time_s for hidden, (a, b) in steps if hidden)


def looks_of(tracks: Tracks) -> tuple[float, ...]:
    """When the model looked, seconds; when the receipt does not say, whenever any object has a sample."""
    return looked_times_s(tracks.receipt, tracks.tracks)


def spells_of(track: Track, looked_s: Sequence[float], *, grace_s: float) -> tuple[Spell, ...]:
    """The spells of one object, in order of time.

    looked_s: when the model looked, seconds, rising. Of several samples in one frame the first counts.
    """
    by_frame: dict[int, Sample] = {}
    for sample in track.samples:
        by_frame.setdefault(sample.source_index, sample)
    samples = sorted(by_frame.values(), key=lambda sample: sample.time_s)
    if not samples:
        return ()
    groups: list[list[Sample]] = [[samples[0]]]
    hidden: list[list[bool]] = [[]]
    for earlier, later in pairwise(samples):
        gap = not adjoin(earlier.time_s, later.time_s, looked_s)
        if gap and later.time_s - earlier.time_s > grace_s + SAME_TIME_S:
            groups.append([])
            hidden.append([])
        else:
            hidden[-1].append(gap)
        groups[-1].append(later)
    return tuple(
        Spell(
            object_id=track.object_id,
            label=track.label,
            samples=tuple(group),
            hidden=tuple(gaps),
            not_before_s=_look_before(group[0].time_s, looked_s),
            gone_by_s=_look_after(group[-1].time_s, looked_s),
        )
        for group, gaps in zip(groups, hidden, strict=True)
    )


def _look_before(time_s: float, looked_s: Sequence[float]) -> float | None:
    place = bisect_left(looked_s, time_s - SAME_TIME_S)
    return looked_s[place - 1] if place else None


def _look_after(time_s: float, looked_s: Sequence[float]) -> float | None:
    place = bisect_right(looked_s, time_s + SAME_TIME_S)
    return looked_s[place] if place < len(looked_s) else None

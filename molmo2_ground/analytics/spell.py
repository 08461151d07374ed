"""`Spell`: a time during which an object was there, short absences included.

Two samples that follow each other in what the model looked at, at most `sightings.LONGEST_STEP_S` apart, are
joined: the object went from the one to the other. Everything else between two samples is a gap, in which the
object was hidden or missed. A gap of at most `grace_s` seconds is passed over, a longer one ends the spell.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from molmo2_ground.analytics.event import Appeared, Disappeared
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
    def steps(self) -> Iterator[tuple[Sample, bool]]:
        """Each sample, and whether the way to it passes over a gap; there is no way to the first."""
        return zip(self.samples, (False, *self.hidden), strict=True)

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
        if gap and ends_spell(earlier.time_s, later.time_s, grace_s=grace_s):
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
            not_before_s=look_before(group[0].time_s, looked_s),
            gone_by_s=look_after(group[-1].time_s, looked_s),
        )
        for group, gaps in zip(groups, hidden, strict=True)
    )


def ends_spell(earlier_s: float, later_s: float, *, grace_s: float) -> bool:
    """Whether a gap between two samples (seconds) is too long to be passed over."""
    return later_s - earlier_s > grace_s + SAME_TIME_S


def look_before(time_s: float, looked_s: Sequence[float]) -> float | None:
    """When the model last looked before a time (seconds; looked_s rising); None when it did not."""
    place = bisect_left(looked_s, time_s - SAME_TIME_S)
    return looked_s[place - 1] if place else None


def look_after(time_s: float, looked_s: Sequence[float]) -> float | None:
    """When the model first looked after a time (seconds; looked_s rising); None when it did not."""
    place = bisect_right(looked_s, time_s + SAME_TIME_S)
    return looked_s[place] if place < len(looked_s) else None


def appeared(object_id: int, label: str, first: Sample, not_before_s: float | None) -> Appeared:
    """The event with which a spell begins, by its first sample."""
    return Appeared(
        time_s=first.time_s, after_s=not_before_s, before_s=first.time_s, **_at(object_id, label, first)
    )


def disappeared(object_id: int, label: str, last: Sample, gone_by_s: float) -> Disappeared:
    """The event with which a spell ends, by its last sample."""
    return Disappeared(
        time_s=last.time_s, after_s=last.time_s, before_s=gone_by_s, **_at(object_id, label, last)
    )


def _at(object_id: int, label: str, sample: Sample) -> dict[str, Any]:
    return {
        "timing": "sample",
        "source_index": sample.source_index,
        "object_id": object_id,
        "label": label,
        "x_px": sample.x_px,
        "y_px": sample.y_px,
        "states": (sample.state,),
    }

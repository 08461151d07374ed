"""Whether an object is in a zone at a sample, and when between two samples that changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from shapely.geometry import LineString, Point

from molmo2_ground.analytics.event import Timing
from molmo2_ground.analytics.rules import By, Rules
from molmo2_ground.analytics.zone import Zone
from molmo2_ground.results import Mask, Masks, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """One object and one zone at one sample.

    share  of the mask's pixels that lie in the zone; None when the point decided.
    """

    inside: bool
    by: By
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """When between two samples an object changed sides, and where it was then."""

    time_s: float
    x_px: float
    y_px: float
    timing: Timing


class ZoneJudge:
    """Decides who is in one zone, by the rules."""

    def __init__(self, zone: Zone, *, rules: Rules, masks: Masks | None = None) -> None:
        self.zone = zone
        self._rules, self._masks = rules, masks
        self._pixels: dict[tuple[int, int], npt.NDArray[np.bool_]] = {}

    def at(self, object_id: int, sample: Sample) -> Presence:
        """Whether this object is in the zone at this sample."""
        mask = None if self._masks is None else self._masks.get(object_id, sample.source_index)
        return self.presence(sample, mask)

    def presence(self, sample: Sample, mask: Mask | None) -> Presence:
        """Whether an object is in the zone that is at this place and, where it has one, has this mask."""
        share = self._share(mask) if self._rules.by == "mask" else None
        if share is None:
            return Presence(inside=self.zone.holds(sample.x_px, sample.y_px), by="point")
        return Presence(inside=share >= self._rules.min_share, by="mask", share=share)

    def _share(self, mask: Mask | None) -> float | None:
        if mask is None or mask.flags or not mask.area_px:
            return None
        if mask.size_px not in self._pixels:
            self._pixels[mask.size_px] = self.zone.pixels(*mask.size_px)
        dense = mask.dense()
        return float(np.count_nonzero(dense & self._pixels[mask.size_px]) / np.count_nonzero(dense))

    def change(self, before: Sample, after: Sample, was: Presence, now: Presence) -> Change:
        """When an object went in or out between two samples of which one is inside and one is not."""
        share, timing = self._share_of_step(before, after, was, now)
        return Change(
            time_s=before.time_s + share * (after.time_s - before.time_s),
            x_px=before.x_px + share * (after.x_px - before.x_px),
            y_px=before.y_px + share * (after.y_px - before.y_px),
            timing=timing,
        )

    def _share_of_step(
        self, before: Sample, after: Sample, was: Presence, now: Presence
    ) -> tuple[float, Timing]:
        if was.share is not None and now.share is not None:
            return (self._rules.min_share - was.share) / (now.share - was.share), "line"
        held_before = self.zone.holds(before.x_px, before.y_px)
        if held_before == self.zone.holds(after.x_px, after.y_px):
            return 0.5, "middle"  # a mask decided at one end, the point at the other
        start, end = (before.x_px, before.y_px), (after.x_px, after.y_px)
        # The step runs in the zone from its inner end to the first border; how long that part is, says when.
        inner = Point(start if held_before else end)
        step = LineString([start, end])
        within = step.intersection(self.zone.shape)
        parts = [part for part in getattr(within, "geoms", [within]) if not part.is_empty]
        nearest = min(parts, key=inner.distance, default=None)
        run = 0.0 if nearest is None else min(1.0, nearest.length / step.length)
        return (run if held_before else 1 - run), "line"

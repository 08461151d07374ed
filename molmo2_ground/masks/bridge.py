"""A bridge: the frames between two looks of the model that follow each other and both saw an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from molmo2_ground.masks.mask_place import PlaceInBox
from molmo2_ground.masks.point_flow import FloatArray
from molmo2_ground.results import Mask, Masks, Sample, State, Track
from molmo2_ground.sightings import LONGEST_STEP_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A frame between two sightings, and how far on in time it is: 0 at the earlier, 1 at the later."""

    source_index: int
    time_s: float
    share: float


@dataclass(slots=True, kw_only=True, eq=False)
class Bridge:
    """One object between two neighbouring sightings, filled while the frames go by.

    number      of the track among the tracks.
    wants_flow  False when masks are known for all of it, or when it is too long to be held.
    """

    number: int
    object_id: int
    earlier: Sample
    later: Sample
    wants_flow: bool = True
    stops: list[Stop] = field(default_factory=list)

    @property
    def ends(self) -> tuple[int, int]:
        """Source indices of the two sightings."""
        return self.earlier.source_index, self.later.source_index

    def stop(self, source_index: int, time_s: float) -> None:
        """Take in a frame that lies between the two sightings."""
        span_s = self.later.time_s - self.earlier.time_s
        share = (time_s - self.earlier.time_s) / span_s if span_s > 0 else 0.5
        self.stops.append(Stop(source_index=source_index, time_s=time_s, share=min(1.0, max(0.0, share))))

    def filled(self, masks: Masks | None, flow: FloatArray | None, size_px: tuple[int, int]) -> list[Sample]:
        """Samples for the frames taken in: from a mask, else from flow, else on a straight line.

        flow: float64[number of stops, 2], shares of the picture; None or NaN where there is none.
        """
        filled: list[Sample] = []
        start, end = (place_at(sample, self.object_id, masks) for sample in (self.earlier, self.later))
        for number, stop in enumerate(self.stops):
            mask = usable_mask(masks, self.object_id, stop.source_index)
            place = None
            if start is not None and end is not None and mask is not None:
                place = start.towards(end, stop.share).in_mask(mask)
            state: State = "propagated"
            if place is None and flow is not None and np.isfinite(flow[number]).all():
                place = float(flow[number, 0]) * size_px[0], float(flow[number, 1]) * size_px[1]
            if place is None:
                if self.later.time_s - self.earlier.time_s > LONGEST_STEP_S:
                    continue
                place, state = self._on_line(stop), "interpolated"
            filled.append(carried_sample(stop.source_index, stop.time_s, place, size_px, state=state))
        return filled

    def _on_line(self, stop: Stop) -> tuple[float, float]:
        dx, dy = self.later.x_px - self.earlier.x_px, self.later.y_px - self.earlier.y_px
        return self.earlier.x_px + stop.share * dx, self.earlier.y_px + stop.share * dy


def bridges_of(track: Track, number: int, look: Mapping[int, int], masks: Masks | None) -> list[Bridge]:
    """The bridges of one track, in order; none over a look that did not see the object.

    look: the number of the look, by source index, of every frame that the model looked at.
    """
    seen = [sample for sample in track.samples if sample.state == "observed"]
    found = []
    for earlier, later in pairwise(seen):
        first, last = earlier.source_index, later.source_index
        if last - first < 2 or look[last] - look[first] != 1:
            continue
        known = [place_at(sample, track.object_id, masks) is not None for sample in (earlier, later)]
        by_masks = all(known) and all(
            usable_mask(masks, track.object_id, index) is not None for index in range(first + 1, last)
        )
        bridge = Bridge(number=number, object_id=track.object_id, earlier=earlier, later=later)
        bridge.wants_flow = not by_masks
        found.append(bridge)
    return found


def usable_mask(masks: Masks | None, object_id: int, source_index: int) -> Mask | None:
    """The object's mask in a frame, None where there is none, an empty one, or one that is in doubt."""
    mask = None if masks is None else masks.get(object_id, source_index)
    return mask if mask is not None and not mask.flags and mask.box_px is not None else None


def place_at(sample: Sample, object_id: int, masks: Masks | None) -> PlaceInBox | None:
    """Where a sighting lies in the mask of its frame; None without a mask that can be used."""
    mask = usable_mask(masks, object_id, sample.source_index)
    return None if mask is None else PlaceInBox.of(mask, x_px=sample.x_px, y_px=sample.y_px)


def carried_sample(
    source_index: int, time_s: float, place: tuple[float, float], size_px: tuple[int, int], *, state: State
) -> Sample:
    """A sample at a place in pixels of a picture of (width, height), kept within the picture."""
    x_px = min(max(place[0], 0.0), float(size_px[0]))
    y_px = min(max(place[1], 0.0), float(size_px[1]))
    return Sample(
        time_s=time_s,
        source_index=source_index,
        x_px=x_px,
        y_px=y_px,
        x_norm=x_px / size_px[0],
        y_norm=y_px / size_px[1],
        state=state,
    )

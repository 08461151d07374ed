"""`MaskCarrier`: places carried by masks; a thing is where it was within the box of its mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from molmo2_ground.live.carrier import PREDICT_S, VELOCITY_MEMORY_S, Anchor, Carried
from molmo2_ground.live.held_pictures import Held, HeldPictures
from molmo2_ground.live.live_picture import LivePicture
from molmo2_ground.masks.doubts import Doubts
from molmo2_ground.masks.mask_place import PlaceInBox
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.segmenter import BoolArray, Segmenter, Walk
from molmo2_ground.results import Mask, MaskFlag, State
from molmo2_ground.rle import Rle


@dataclass(slots=True, kw_only=True, eq=False)
class _Thing:
    """Where it is, shares of the picture, how it goes, and where in its mask's box the model pointed."""

    object_id: int
    x_norm: float
    y_norm: float
    velocity_norm_s: tuple[float, float]
    place: PlaceInBox | None = None
    lost_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Prepared:
    """A picture as the segmenter takes it; nbytes: of the whole picture, about what is held of it."""

    prepared: Any
    nbytes: int


class MaskCarrier:
    """Carries places by a segmenter's masks; obeys `Carrier`.

    A mask that is empty or that `Doubts` flags is not believed: its thing is lost, moved straight on for a
    short time, and the flag is told. Pictures are held as the segmenter prepares them.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._walk: Walk | None = None
        self._size_px = (0, 0)
        self._held: HeldPictures[_Prepared] = HeldPictures()
        self._things: dict[int, _Thing] = {}
        self._doubts = Doubts()
        self._last: tuple[Carried, ...] = ()

    def take(self, picture: LivePicture) -> tuple[Carried, ...]:
        """Carry everything into the next picture."""
        size_px = (picture.capture.width_px, picture.capture.height_px)
        if size_px != self._size_px:
            self.restart_pictures()
        self._size_px = size_px
        walk = self._started()
        frame = picture.frame
        prepared = _Prepared(prepared=walk.prepare(frame), nbytes=frame.rgb.nbytes)
        before = self._held.newest
        step_s = 0.0 if before is None else picture.time_s - before.time_s
        held = Held(source_index=picture.index, time_s=picture.time_s, sampled=picture.sampled, kept=prepared)
        self._held.add(held)
        masks = walk.step(prepared.prepared) if self._things else {}
        self._last = self._moved(masks, held, step_s=step_s)
        return self._last

    def restart(self, anchors: Sequence[Anchor]) -> tuple[Carried, ...]:
        """Follow things from where the model saw them to the newest picture; see `Carrier.restart`.

        All walk together from the earliest of these pictures, each thing from its own.
        """
        newest = self._held.newest
        if newest is None:
            return ()
        held = [anchor for anchor in anchors if self._held.at(anchor.source_index) is not None]
        if not held:
            return tuple(told for told in self._last if told.object_id in self._things)
        way = self._held.way(min(anchor.source_index for anchor in held))
        again, aside = self._set_aside(way, {anchor.object_id for anchor in held})
        stays = [told for told in self._last if told.object_id in aside]
        self._close_walk()
        before_s, reached = way[0].time_s, -1
        for here in way:
            due = [anchor for anchor in held if reached < anchor.source_index <= here.source_index]
            points = [self._point(a.object_id, a.x_norm, a.y_norm, here.source_index) for a in due]
            for object_id, thing in again.get(here.source_index, {}).items():
                thing.x_norm, thing.y_norm = here.places[object_id]
                self._things[object_id] = thing
                points.append(self._point(object_id, thing.x_norm, thing.y_norm, here.source_index))
            self._last = self._step(here, points, due, step_s=here.time_s - before_s)
            before_s, reached = here.time_s, here.source_index
        self._things |= aside
        self._last = tuple(sorted((*self._last, *stays), key=lambda told: told.object_id))
        return self._last

    def _set_aside(
        self, way: Sequence[Held[_Prepared]], anchored: Set[int]
    ) -> tuple[dict[int, dict[int, _Thing]], dict[int, _Thing]]:
        """Take everything out of what is followed, for a way that is gone again.

        Returns those that were not pointed to now and start again from where they were in the first picture
        of the way that shows them, by its number; and those that are lost, which stay where they are.
        """
        again: dict[int, dict[int, _Thing]] = {}
        aside: dict[int, _Thing] = {}
        for object_id, thing in self._things.items():
            if object_id in anchored:
                continue
            start = next((here.source_index for here in way if object_id in here.places), None)
            if thing.lost_s is None and start is not None:
                again.setdefault(start, {})[object_id] = thing
            else:
                aside[object_id] = thing
        self._things.clear()
        return again, aside

    def _step(
        self, here: Held[_Prepared], points: Sequence[PointPrompt], due: Sequence[Anchor], *, step_s: float
    ) -> tuple[Carried, ...]:
        """One picture of the way from an answer to now; things that are due begin in it."""
        masks = self._started().step(here.kept.prepared, sorted(points, key=lambda point: point.object_id))
        for anchor in due:
            self._things[anchor.object_id] = _begun(anchor)
        pointed = {point.object_id: point for point in points}
        return self._moved(masks, here, step_s=step_s, points=pointed, due=due)

    def expect(self, source_indices: Iterable[int]) -> None:
        """Hold what a look under way may be about; see `Carrier.expect`."""
        self._held.expect(source_indices)

    def places_in(self, source_index: int) -> Mapping[int, tuple[float, float]]:
        """Where things were followed to in a picture that is held."""
        return self._held.places_in(source_index)

    def forget(self, object_ids: Iterable[int]) -> None:
        """Follow these no longer."""
        for object_id in object_ids:
            self._things.pop(object_id, None)
            self._doubts.forget(object_id)
            if self._walk is not None:
                self._walk.forget(object_id)

    def restart_pictures(self) -> None:
        """Nothing is followed across a change of connection or scene."""
        self._close_walk()
        self._held.clear()
        self._things.clear()
        self._last = ()

    def close(self) -> None:
        """Let go of the pictures and of the walk."""
        self.restart_pictures()

    @property
    def held_bytes(self) -> int:
        """About how many bytes of pictures are held: as if each were held whole, which it need not be."""
        return sum(held.kept.nbytes for held in self._held)

    def _started(self) -> Walk:
        if self._walk is None:
            self._walk = self._segmenter.start(width_px=self._size_px[0], height_px=self._size_px[1])
        return self._walk

    def _close_walk(self) -> None:
        if self._walk is not None:
            self._walk.close()
        self._walk = None
        self._doubts = Doubts()

    def _point(self, object_id: int, x_norm: float, y_norm: float, source_index: int) -> PointPrompt:
        width, height = self._size_px
        return PointPrompt(
            object_id=object_id,
            source_index=source_index,
            x_px=min(max(x_norm, 0.0), 1.0) * width,
            y_px=min(max(y_norm, 0.0), 1.0) * height,
        )

    def _moved(
        self,
        masks: Mapping[int, BoolArray],
        held: Held[_Prepared],
        *,
        step_s: float,
        points: Mapping[int, PointPrompt] | None = None,
        due: Sequence[Anchor] = (),
    ) -> tuple[Carried, ...]:
        """Move every thing to where its mask is, or straight on where that is not to be believed."""
        points = points or {}
        seen = {anchor.object_id for anchor in due}
        found: dict[int, Mask] = {}
        flagged: dict[int, tuple[MaskFlag, ...]] = {}
        for object_id, thing in self._things.items():
            pixels = masks.get(object_id)
            point = points.get(object_id)
            flags: tuple[MaskFlag, ...] = ()
            if pixels is not None:
                flags = self._doubts.about(object_id, pixels, point, area_px=int(np.count_nonzero(pixels)))
            if pixels is not None and pixels.any() and not flags:
                found[object_id] = self._mask(object_id, pixels, held, observed=object_id in seen)
                self._place(thing, found[object_id], point, step_s=step_s, seen=object_id in seen)
                held.places[object_id] = (thing.x_norm, thing.y_norm)
                continue
            flagged[object_id] = flags
            if object_id not in seen:
                thing.x_norm += thing.velocity_norm_s[0] * step_s
                thing.y_norm += thing.velocity_norm_s[1] * step_s
            if thing.lost_s is None:
                thing.lost_s = held.time_s - step_s
        for object_id, flags in flagged.items():
            if flags and self._walk is not None:
                self._walk.forget(object_id)
        return self._told(held, found, flagged, seen=seen)

    def _place(
        self, thing: _Thing, mask: Mask, point: PointPrompt | None, *, step_s: float, seen: bool
    ) -> None:
        width, height = self._size_px
        thing.lost_s = None
        if point is not None:
            thing.place = PlaceInBox.of(mask, x_px=point.x_px, y_px=point.y_px)
        if point is None and thing.place is not None:
            x_px, y_px = thing.place.in_mask(mask)
            x_norm, y_norm = x_px / width, y_px / height
            if step_s > 0 and not seen:
                weight = min(1.0, step_s / VELOCITY_MEMORY_S)
                vx, vy = thing.velocity_norm_s
                vx += weight * ((x_norm - thing.x_norm) / step_s - vx)
                vy += weight * ((y_norm - thing.y_norm) / step_s - vy)
                thing.velocity_norm_s = (vx, vy)
            thing.x_norm, thing.y_norm = x_norm, y_norm

    def _mask(self, object_id: int, pixels: BoolArray, held: Held[_Prepared], *, observed: bool) -> Mask:
        counts = Rle.encode(pixels).counts
        assert isinstance(counts, bytes)
        return Mask(
            object_id=object_id,
            source_index=held.source_index,
            time_s=held.time_s,
            size_px=self._size_px,
            counts=counts.decode("ascii"),
            state="observed" if observed else "propagated",
        )

    def _told(
        self,
        held: Held[_Prepared],
        masks: Mapping[int, Mask],
        flags: Mapping[int, tuple[MaskFlag, ...]],
        *,
        seen: Iterable[int] = (),
    ) -> tuple[Carried, ...]:
        told = []
        seen = set(seen)
        for object_id, thing in sorted(self._things.items()):
            inside = 0 <= thing.x_norm <= 1 and 0 <= thing.y_norm <= 1
            if not inside or (thing.lost_s is not None and held.time_s - thing.lost_s > PREDICT_S):
                self.forget([object_id])
                continue
            state: State = "propagated" if thing.lost_s is None else "predicted"
            if object_id in seen:
                state = "observed"
            told.append(
                Carried(
                    object_id=object_id,
                    x_norm=thing.x_norm,
                    y_norm=thing.y_norm,
                    state=state,
                    mask=masks.get(object_id),
                    flags=flags.get(object_id, ()),
                )
            )
        return tuple(told)


def _begun(anchor: Anchor) -> _Thing:
    return _Thing(
        object_id=anchor.object_id,
        x_norm=anchor.x_norm,
        y_norm=anchor.y_norm,
        velocity_norm_s=anchor.velocity_norm_s or (0.0, 0.0),
    )

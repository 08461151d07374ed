"""`FlowCarrier`: places carried forward by sparse optical flow, a few milliseconds a picture.

Corners around a place are followed from each picture to the next and back again (`masks.point_flow`). Some
lie on the thing and some on what is behind it; where the thing goes next is not known yet, so those are
believed that go on as the thing has been going, and the place moves by their median. A corner that falls
behind the thing over several pictures is given up too. Fewer than three that agree: the thing is lost, and
moved straight on for a short time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from molmo2_ground.live.carrier import PREDICT_S, VELOCITY_MEMORY_S, Anchor, Carried
from molmo2_ground.live.held_pictures import Held, HeldPictures
from molmo2_ground.live.live_picture import LivePicture
from molmo2_ground.masks.point_flow import LEAST_CORNERS, FloatArray, Gray, corners_around, flow_step
from molmo2_ground.results import State

# All in working pixels (`point_flow.WORK_LONG_SIDE_PX`), and ours.
NEAREST_CORNERS = 10
"""Corners nearest to the place are the likeliest to lie on the thing, whose size nobody told."""
FEW_CORNERS = 5
OFF_PX = 1.2  # a thing drawn or sensed in whole pixels steps by one more now and then
OFF_PX_S = 15.0  # the model's scatter of a few pixels over half a second, as a speed
OFF_SHARE = 0.5  # what turns or brakes within one step
BEHIND_PX = 3.0
"""So far a corner may fall behind the thing since it was picked, or by `BEHIND_SHARE` of the way."""
BEHIND_SHARE = 0.15
SHIFT_SHARE = 0.03
"""The model's place and the one carried to the same picture lie at most this far apart (shares of the
picture) when both mean one spot of one thing: then the place now is put right by the difference. Farther
apart, the way from the model's picture to the newest is gone again."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Thing:
    """place_px: float64[2], as results count. velocity_px_s: None until known. lost_s: since when."""

    object_id: int
    place_px: FloatArray
    corners: npt.NDArray[np.float32]
    offsets: FloatArray
    velocity_px_s: FloatArray | None
    went_px: float = 0.0
    state: State = "propagated"
    lost_s: float | None = None


@dataclass(slots=True, eq=False)
class FlowCarrier:
    """Carries places through gray pictures of at most 640 pixels; obeys `Carrier`.

    Held: at most `MOST_HELD` gray pictures, 0.23 MB each at 640 × 360.
    """

    _held: HeldPictures[Gray] = field(default_factory=HeldPictures)
    _things: dict[int, _Thing] = field(default_factory=dict)

    def take(self, picture: LivePicture) -> tuple[Carried, ...]:
        """Carry everything into the next picture."""
        gray, before = picture.gray.gray, self._held.newest
        if before is not None and before.kept.shape != gray.shape:
            self.restart_pictures()
        elif before is not None:
            _carry(list(self._things.values()), before, gray, picture.time_s)
        carried = self._carried(gray, picture.time_s)
        places = {c.object_id: (c.x_norm, c.y_norm) for c in carried if c.state == "propagated"}
        self._held.add(
            Held(
                source_index=picture.index,
                time_s=picture.time_s,
                sampled=picture.sampled,
                kept=gray,
                places=places,
            )
        )
        return carried

    def restart(self, anchors: Sequence[Anchor]) -> tuple[Carried, ...]:
        """Follow things from where the model saw them to the newest picture; see `Carrier.restart`."""
        newest = self._held.newest
        if newest is None:
            return ()
        walked: dict[int, list[Anchor]] = {}
        for anchor in anchors:
            if not self._put_right(anchor, newest):
                walked.setdefault(anchor.source_index, []).append(anchor)
        for source_index, group in walked.items():
            way = self._held.way(source_index)
            if not way:
                continue  # the picture is gone: nothing says where the thing went since
            begun = [_thing(anchor, way[0].kept) for anchor in group]
            self._held.forget_places([thing.object_id for thing in begun], since=source_index)
            _note_places(begun, way[0])
            for before, after in pairwise(way):
                _carry(begun, before, after.kept, after.time_s)
                _note_places(begun, after)
            self._things |= {thing.object_id: thing for thing in begun}
        return self._carried(newest.kept, newest.time_s)

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

    def restart_pictures(self) -> None:
        """Nothing is followed across a change of connection or scene."""
        self._held.clear()
        self._things.clear()

    def close(self) -> None:
        """Let go of the pictures."""
        self.restart_pictures()

    @property
    def held_bytes(self) -> int:
        """Bytes of the gray pictures held."""
        return sum(held.kept.nbytes for held in self._held)

    def _put_right(self, anchor: Anchor, newest: Held[Gray]) -> bool:
        """Move a thing that has been carried since by what it was off in the model's picture; else False."""
        thing, then = self._things.get(anchor.object_id), self._held.at(anchor.source_index)
        if thing is None or thing.lost_s is not None or then is None or anchor.object_id not in then.places:
            return False
        x_norm, y_norm = then.places[anchor.object_id]
        off = np.array([anchor.x_norm - x_norm, anchor.y_norm - y_norm])
        if float(np.hypot(*off)) > SHIFT_SHARE:
            return False
        height, width = newest.kept.shape
        thing.place_px = thing.place_px + off * (width, height)
        _pick_corners(thing, newest.kept)
        self._held.move_places(anchor.object_id, since=anchor.source_index, by=(float(off[0]), float(off[1])))
        if newest.source_index == anchor.source_index:
            thing.state = "observed"
        return True

    def _carried(self, gray: Gray, time_s: float) -> tuple[Carried, ...]:
        """What is to be told of the newest picture; what left it or was lost too long ago is let go of."""
        height, width = gray.shape
        carried = []
        for object_id, thing in sorted(self._things.items()):
            x_norm, y_norm = float(thing.place_px[0] / width), float(thing.place_px[1] / height)
            inside = 0 <= x_norm <= 1 and 0 <= y_norm <= 1
            if not inside or (thing.lost_s is not None and time_s - thing.lost_s > PREDICT_S):
                del self._things[object_id]
                continue
            carried.append(Carried(object_id=object_id, x_norm=x_norm, y_norm=y_norm, state=thing.state))
        return tuple(carried)


def _note_places(things: Iterable[_Thing], held: Held[Gray]) -> None:
    """Keep where things are in a held picture, as far as they could be followed."""
    height, width = held.kept.shape
    for thing in things:
        if thing.lost_s is None:
            held.places[thing.object_id] = (
                float(thing.place_px[0] / width),
                float(thing.place_px[1] / height),
            )


def _thing(anchor: Anchor, gray: Gray) -> _Thing:
    height, width = gray.shape
    size = np.array([width, height], dtype=np.float64)
    velocity = None if anchor.velocity_norm_s is None else np.array(anchor.velocity_norm_s) * size
    thing = _Thing(
        object_id=anchor.object_id,
        place_px=np.array([anchor.x_norm, anchor.y_norm]) * size,
        corners=np.zeros((0, 2), dtype=np.float32),
        offsets=np.zeros((0, 2)),
        velocity_px_s=velocity,
        state="observed",
    )
    _pick_corners(thing, gray)
    return thing


def _pick_corners(thing: _Thing, gray: Gray) -> None:
    """Corners nearest to the place, in place of those that it had."""
    middle = thing.place_px - 0.5  # OpenCV counts from the middle of the first pixel
    corners = corners_around(gray, middle)
    far = np.hypot(*(corners - middle).T)
    thing.corners = corners[np.argsort(far, kind="stable")[:NEAREST_CORNERS]]
    thing.offsets = thing.corners - thing.place_px
    thing.went_px = 0.0


def _carry(things: list[_Thing], before: Held[Gray], after: Gray, time_s: float) -> None:
    """Move things from one picture into the next, the corners of all of them in one run of flow."""
    step_s = time_s - before.time_s
    followed = [thing for thing in things if thing.lost_s is None]
    for thing in things:
        if thing.lost_s is not None and thing.velocity_px_s is not None:
            thing.place_px = thing.place_px + thing.velocity_px_s * step_s
    if not followed:
        return
    corners = np.concatenate([thing.corners for thing in followed])
    if len(corners):
        there, kept = flow_step(before.kept, after, corners)
    else:
        there, kept = corners, np.zeros(0, dtype=np.bool_)
    ends = np.cumsum([len(thing.corners) for thing in followed])
    for thing, end in zip(followed, ends, strict=True):
        own = slice(end - len(thing.corners), end)
        _move(thing, there[own], kept[own], step_s=step_s, lost_s=before.time_s)
        if thing.lost_s is None and len(thing.corners) < FEW_CORNERS:
            _pick_corners(thing, after)


def _middle(moves: FloatArray) -> FloatArray:
    """The median of float64[n, 2] along n; numpy's own takes ten times as long on so few."""
    ordered, count = np.sort(moves, axis=0), len(moves)
    middle: FloatArray = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return middle


def _move(
    thing: _Thing,
    there: npt.NDArray[np.float32],
    kept: npt.NDArray[np.bool_],
    *,
    step_s: float,
    lost_s: float,
) -> None:
    """Move one thing by the corners that go on as it has been going."""
    moves = there.astype(np.float64) - thing.corners
    thing.state = "propagated"
    velocity = thing.velocity_px_s
    agrees = kept.copy()
    if velocity is not None or np.count_nonzero(kept) >= LEAST_CORNERS:
        # Seen once, a thing goes as the corners nearest to its place do, which are sorted by that.
        expected = _middle(moves[kept][:FEW_CORNERS]) if velocity is None else velocity * step_s
        speed = float(np.hypot(*expected))
        off = np.hypot(*(moves - expected).T)
        agrees &= off <= max(OFF_PX, OFF_PX_S * step_s, OFF_SHARE * speed)
    if np.count_nonzero(agrees) < LEAST_CORNERS:
        thing.lost_s, thing.state = lost_s, "predicted"
        if velocity is not None:
            thing.place_px = thing.place_px + velocity * step_s
        return
    move = _middle(moves[agrees])
    thing.place_px = thing.place_px + move
    thing.went_px += float(np.hypot(*move))
    behind = np.hypot(*(there - thing.place_px - thing.offsets).T)
    stays = agrees & (behind <= max(BEHIND_PX, BEHIND_SHARE * thing.went_px))
    thing.corners, thing.offsets = there[stays], thing.offsets[stays]
    if step_s > 0:
        weight = min(1.0, step_s / VELOCITY_MEMORY_S)
        seen = move / step_s
        thing.velocity_px_s = seen if velocity is None else (1 - weight) * velocity + weight * seen

"""`Scene`: one toy street, a function of time: its pictures and the exact truth about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from molmo2_ground.train.toy.actors import Actor, ActorState, Pose
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX
from molmo2_ground.train.toy.occluders import Occluder
from molmo2_ground.train.toy.sprites import HEADING_STEP_DEG, turned
from molmo2_ground.train.toy.stamp import Bytes, Stamp, claim, lay, overlap

# The part of the silhouette that must show for an actor to count as visible.
VISIBLE_SHARE = 0.35
# A point of the truth lies this far inside the visible part where it is wide enough, pixels.
_INSIDE_PX = 3.0


class _Placed(NamedTuple):
    """A stamp, where its top left corner lies, pixels, and whose its solid pixels are, 0 for nobody's."""

    stamp: Stamp
    left_px: int
    top_px: int
    id_: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """One toy street of 640 x 360 pixels.

    actors      in the order of their ids; they are drawn in this order, later ones on top.
    background  uint8[360, 640, 3], the empty ground.
    occluders   drawn on top of the actors, in this order.
    sun         which way shadows fall, an index into `sprites.SUNS`.
    """

    seed: int
    duration_s: float
    actors: tuple[Actor, ...]
    background: Bytes
    occluders: tuple[Occluder, ...]
    sun: int

    def render(self, time_s: float) -> tuple[Bytes, Bytes]:
        """The picture and the id map of one time, as `picture` and `id_map` give each alone."""
        placed = self._all_placed(time_s)
        return self._picture(placed), _id_map(placed)

    def picture(self, time_s: float) -> Bytes:
        """What the camera sees, uint8[360, 640, 3]."""
        return self._picture(self._all_placed(time_s))

    def id_map(self, time_s: float) -> Bytes:
        """Whose pixel each one of the picture is, uint8[360, 640], 0 for nobody's."""
        return _id_map(self._all_placed(time_s))

    def truth(self, time_s: float, ids: Bytes) -> tuple[ActorState, ...]:
        """What the frame with this id map shows of each actor, in the order of their ids."""
        return tuple(self._state(actor, time_s, ids) for actor in self.actors)

    def pose(self, object_id: int, time_s: float) -> Pose:
        """Where an actor is, in sight or not."""
        return self.actors[object_id - 1].motion.pose(time_s)

    def silhouette_px(self, object_id: int, time_s: float) -> int:
        """Pixels that the whole silhouette of an actor would cover, in sight or not."""
        return self._placed(self.actors[object_id - 1], time_s)[0].area_px

    def _all_placed(self, time_s: float) -> list[_Placed]:
        """Everything that is drawn, from below to the top."""
        return [
            *(_Placed(*self._placed(actor, time_s), actor.object_id) for actor in self.actors),
            *(_Placed(o.stamp, o.left_px, o.top_px, 0) for o in self.occluders),
        ]

    def _picture(self, placed: Sequence[_Placed]) -> Bytes:
        rgb = self.background.copy()
        for item in placed:
            lay(item.stamp, item.left_px, item.top_px, rgb=rgb)
        return rgb

    def _placed(self, actor: Actor, time_s: float) -> tuple[Stamp, int, int]:
        pose = actor.motion.pose(time_s)
        step = round(pose.heading_deg / HEADING_STEP_DEG) % (360 // HEADING_STEP_DEG)
        stamp = turned(actor.kind, actor.colour, actor.size, actor.shade, step, self.sun)
        height, width = stamp.solid.shape
        return stamp, round(pose.x_px - width / 2), round(pose.y_px - height / 2)

    def _state(self, actor: Actor, time_s: float, ids: Bytes) -> ActorState:
        stamp, left, top = self._placed(actor, time_s)
        part = overlap(stamp, left, top, (FRAME_HEIGHT_PX, FRAME_WIDTH_PX))
        shown = None if part is None else ids[part.in_frame] == actor.object_id
        count = 0 if shown is None else cv2.countNonZero(shown)
        if part is None or shown is None or count == 0:
            pose = actor.motion.pose(time_s)
            x, y = pose.x_px, pose.y_px
        else:
            column, row = _place_inside(np.asarray(shown, dtype=np.uint8))
            x, y = part.in_frame[1].start + column + 0.5, part.in_frame[0].start + row + 0.5
        share = count / stamp.area_px
        return ActorState(
            object_id=actor.object_id,
            time_s=time_s,
            x_px=float(x),
            y_px=float(y),
            visible=share >= VISIBLE_SHARE,
            visible_share=share,
        )


def _id_map(placed: Sequence[_Placed]) -> Bytes:
    ids = np.zeros((FRAME_HEIGHT_PX, FRAME_WIDTH_PX), np.uint8)
    for item in placed:
        claim(item.stamp, item.left_px, item.top_px, ids=ids, id_=item.id_)
    return ids


def _place_inside(mask: Bytes) -> tuple[int, int]:
    """Column and row inside a mask (not empty), nearest to its centroid, off its edges where it is wide."""
    moments = cv2.moments(mask, binaryImage=True)
    x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    column, row = round(x), round(y)
    near = int(_INSIDE_PX)
    around = mask[max(row - near, 0) : row + near + 1, max(column - near, 0) : column + near + 1]
    if around.size == (2 * near + 1) ** 2 and around.all():
        return column, row
    # The border of the picture is an edge like any other: hence the frame of zeros.
    depth = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
    depth = depth[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= min(_INSIDE_PX, 0.8 * float(depth.max())))
    best = int(np.argmin((columns - x) ** 2 + (rows - y) ** 2))
    return int(columns[best]), int(rows[best])

"""`Actor`: one thing in the street, what it looks like and where it is at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from molmo2_ground.train.toy.path import Floats, Path

Kind = Literal["car", "bus", "bike", "person", "ball", "dog"]
Colour = Literal["red", "blue", "green", "yellow", "white", "black", "orange", "purple"]
Size = Literal["small", "normal", "large"]

KINDS: tuple[Kind, ...] = get_args(Kind)
COLOURS: tuple[Colour, ...] = get_args(Colour)
SIZES: tuple[Size, ...] = get_args(Size)

SIZE_SCALE: dict[Size, float] = {"small": 0.8, "normal": 1.0, "large": 1.25}

# Length along the heading and width across it, pixels, for the normal size.
KIND_SIZE_PX: dict[Kind, tuple[float, float]] = {
    "car": (84.0, 44.0),
    "bus": (130.0, 50.0),
    "bike": (58.0, 28.0),
    "person": (36.0, 42.0),
    "ball": (34.0, 34.0),
    "dog": (52.0, 25.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Where a thing is: its centre in pixels and its heading, degrees clockwise from +x on the screen."""

    x_px: float
    y_px: float
    heading_deg: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Motion:
    """A path and how far along it a thing is at which time.

    times_s, distances_px  float64[K], a rising table, read with straight lines between its entries.
    """

    path: Path
    times_s: Floats
    distances_px: Floats

    def pose(self, time_s: float) -> Pose:
        """The pose at one time."""
        x, y, heading = self.path.place(float(np.interp(time_s, self.times_s, self.distances_px)))
        return Pose(x_px=x, y_px=y, heading_deg=math.degrees(heading))

    def poses(self, times_s: Floats) -> tuple[Floats, Floats, Floats]:
        """Places at these times: x pixels, y pixels, heading radians, float64[K] each."""
        return self.path.at(np.interp(times_s, self.times_s, self.distances_px))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Actor:
    """One thing in the street.

    object_id  from 1, the value of its pixels in a frame's id map.
    moving     it moves at some time of the clip; False stands still all the time.
    shade      0 to 2, a small variation of its colour that the questions never name.
    """

    object_id: int
    kind: Kind
    colour: Colour
    size: Size
    moving: bool
    motion: Motion
    shade: int = 1

    @property
    def size_px(self) -> tuple[float, float]:
        """Length along the heading and width across it, pixels."""
        length, width = KIND_SIZE_PX[self.kind]
        scale = SIZE_SCALE[self.size]
        return length * scale, width * scale


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorState:
    """What a frame shows of one actor.

    x_px, y_px     a place inside the visible part, nearest to its centroid; the actor's own centre
                   when nothing shows. (0, 0) is the outer corner of the top left pixel.
    visible        at least 35 % of the whole silhouette shows.
    visible_share  the part of the whole silhouette that shows, 0 to 1.
    """

    object_id: int
    time_s: float
    x_px: float
    y_px: float
    visible: bool
    visible_share: float

"""`Layout`: where roads, pavements and footpaths run in one scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from molmo2_ground.train.toy.path import Path, bezier, make_path, turn

FRAME_WIDTH_PX = 640
FRAME_HEIGHT_PX = 360

Plan = Literal["horizontal", "vertical", "crossing", "curve", "park", "plaza"]

# Roads start and end this far outside the picture, so that a bus is out of sight there.
_OUTSIDE_PX = 130.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Road:
    """A road of two lanes: its middle, half its width and the width of the pavement on each side, pixels."""

    middle: Path
    half_width_px: float
    pavement_px: float

    def covers(self, x_px: float, y_px: float, *, margin_px: float) -> bool:
        """Whether a place lies on the asphalt or within `margin_px` of it."""
        x, y, _ = self.middle.at(np.linspace(0.0, self.middle.length_px, 40))
        return float(np.hypot(x - x_px, y - y_px).min()) < self.half_width_px + margin_px


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """The ground plan.

    lanes       what vehicles drive along, in their direction, turns at crossings included.
    bike_lanes  the same near the kerb.
    walks       pavements and footpaths, for people, dogs and bikes.
    footpaths   the part of `walks` that is paved by itself, away from roads.
    zebras      lines along which people cross a road, from kerb to kerb.
    junction    (x0, y0, x1, y1) pixels where two roads cross, free of markings; None without one.
    """

    plan: Plan
    roads: tuple[Road, ...] = ()
    lanes: tuple[Path, ...] = ()
    bike_lanes: tuple[Path, ...] = ()
    walks: tuple[Path, ...] = ()
    footpaths: tuple[Path, ...] = ()
    zebras: tuple[Path, ...] = ()
    junction: tuple[float, float, float, float] | None = None


def make_layout(rng: np.random.Generator) -> Layout:
    """A random ground plan."""
    draw = rng.random()
    plans: tuple[tuple[Plan, float], ...] = (
        ("horizontal", 0.26),
        ("vertical", 0.42),
        ("crossing", 0.62),
        ("curve", 0.80),
    )
    for plan, share in plans:
        if draw < share:
            return _with_roads(plan, rng)
    return _without_roads("park" if draw < 0.93 else "plaza", rng)


def fixed_layout(*, y_px: float, half_width_px: float, pavement_px: float) -> Layout:
    """One straight road from left to right with its middle at this height."""
    road = Road(middle=_straight_x(y_px), half_width_px=half_width_px, pavement_px=pavement_px)
    return _finish("horizontal", (road,), np.random.default_rng(0), side=1.0, zebra=False)


def _straight_x(y_px: float) -> Path:
    return make_path([(-_OUTSIDE_PX, y_px), (FRAME_WIDTH_PX + _OUTSIDE_PX, y_px)])


def _straight_y(x_px: float) -> Path:
    return make_path([(x_px, -_OUTSIDE_PX), (x_px, FRAME_HEIGHT_PX + _OUTSIDE_PX)])


def _with_roads(plan: Plan, rng: np.random.Generator) -> Layout:
    half, pavement = float(rng.uniform(58, 68)), float(rng.uniform(34, 48))
    width, height = FRAME_WIDTH_PX, FRAME_HEIGHT_PX
    across, down = _straight_x(rng.uniform(0.3, 0.7) * height), _straight_y(rng.uniform(0.22, 0.78) * width)
    middles: tuple[Path, ...]
    if plan == "horizontal":
        middles = (across,)
    elif plan == "vertical":
        middles = (down,)
    elif plan == "crossing":
        middles = (across, down)
    elif rng.random() < 0.6:
        ys = rng.uniform(0.05, 0.95, 4) * height
        middles = (bezier([(-_OUTSIDE_PX, ys[0]), (190, ys[1]), (450, ys[2]), (width + _OUTSIDE_PX, ys[3])]),)
    else:
        xs = rng.uniform(0.2, 0.8) * width + rng.uniform(-130, 130, 4)
        middles = (
            bezier([(xs[0], -_OUTSIDE_PX), (xs[1], 110), (xs[2], 250), (xs[3], height + _OUTSIDE_PX)]),
        )
    roads = tuple(Road(middle=m, half_width_px=half, pavement_px=pavement) for m in middles)
    side = 1.0 if rng.random() < 0.75 else -1.0
    return _finish(plan, roads, rng, side=side, zebra=rng.random() < 0.55)


def _finish(
    plan: Plan, roads: tuple[Road, ...], rng: np.random.Generator, *, side: float, zebra: bool
) -> Layout:
    half, pavement = roads[0].half_width_px, roads[0].pavement_px
    ways = [way for road in roads for way in (road.middle, road.middle.reversed())]
    lanes = [way.offset(side * half * 0.48) for way in ways]
    junction = None
    if len(roads) == 2:
        for a in lanes[:2]:
            for b in lanes[2:]:
                lanes += [turn(a, b, radius_px=half * 0.8), turn(b, a, radius_px=half * 0.8)]
        x, y = roads[1].middle.points_px[0, 0], roads[0].middle.points_px[0, 1]
        junction = (float(x - half), float(y - half), float(x + half), float(y + half))
    beside = half + pavement / 2
    return Layout(
        plan=plan,
        roads=roads,
        lanes=tuple(lanes),
        bike_lanes=tuple(way.offset(side * half * 0.74) for way in ways),
        walks=tuple(road.middle.offset(sign * beside) for road in roads for sign in (-1.0, 1.0)),
        zebras=tuple(_zebras(roads, junction, rng)) if zebra else (),
        junction=junction,
    )


def _zebras(
    roads: tuple[Road, ...], junction: tuple[float, float, float, float] | None, rng: np.random.Generator
) -> list[Path]:
    found = []
    for road in roads:
        middle, half = road.middle, road.half_width_px
        if junction is None:
            places = [float(rng.uniform(0.3, 0.7)) * middle.length_px]
        else:
            flat = abs(math.cos(middle.headings_rad[0])) > 0.5
            low, high = (junction[0], junction[2]) if flat else (junction[1], junction[3])
            places = [low + _OUTSIDE_PX - 26, high + _OUTSIDE_PX + 26]
        for place in places:
            x, y, heading = middle.place(place)
            right = (-math.sin(heading) * half, math.cos(heading) * half)
            found.append(make_path([(x - right[0], y - right[1]), (x + right[0], y + right[1])]))
    return found


def _without_roads(plan: Plan, rng: np.random.Generator) -> Layout:
    paths = []
    for index in range(int(rng.integers(1, 3))):
        width, height = FRAME_WIDTH_PX, FRAME_HEIGHT_PX
        if index == 0:
            ys = rng.uniform(0.1, 0.9, 4) * height
            paths.append(bezier([(-90, ys[0]), (200, ys[1]), (440, ys[2]), (width + 90, ys[3])]))
        else:
            xs = rng.uniform(0.1, 0.9, 4) * width
            paths.append(bezier([(xs[0], -90), (xs[1], 120), (xs[2], 240), (xs[3], height + 90)]))
    return Layout(plan=plan, walks=tuple(paths), footpaths=tuple(paths) if plan == "park" else ())

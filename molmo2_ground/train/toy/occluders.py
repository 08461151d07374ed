"""What stands above the ground and hides what passes below: tree crowns and footbridges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX, Layout
from molmo2_ground.train.toy.path import Floats
from molmo2_ground.train.toy.sprites import SUNS
from molmo2_ground.train.toy.stamp import Bytes, Stamp, make_stamp

TREE_LOOKS = 5
# From any place in the picture a bridge reaches past the opposite corner.
_BRIDGE_REACH_PX = 900
# Distance from the bridge's edge, colour and thickness of the lines of a railing, pixels.
_RAILING = ((4.0, (74, 68, 62), 6), (4.0, (196, 190, 180), 2), (11.0, (112, 104, 94), 3))
_CROWNS = ((74, 96, 56), (88, 104, 58), (66, 88, 60), (98, 106, 62), (82, 92, 48))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A tree: the middle of its crown, the crown's radius, pixels, and which of the looks it has."""

    x_px: int
    y_px: int
    radius_px: int
    look: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A footbridge: a band with railings through a place, its direction (degrees) and width, pixels."""

    x_px: float
    y_px: float
    heading_deg: float
    width_px: float
    wooden: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Occluder:
    """A stamp and where its top left corner lies, pixels."""

    stamp: Stamp
    left_px: int
    top_px: int


def plan_trees(layout: Layout, rng: np.random.Generator) -> tuple[Tree, ...]:
    """Some trees, their crowns beside or partly over roads and paths."""
    trees: list[Tree] = []
    wanted = int(rng.choice([0, 1, 2, 3, 4, 5], p=[0.22, 0.2, 0.22, 0.18, 0.12, 0.06]))
    for _ in range(wanted * 4):
        if len(trees) == wanted:
            break
        x, y = int(rng.integers(10, FRAME_WIDTH_PX - 10)), int(rng.integers(10, FRAME_HEIGHT_PX - 10))
        radius = int(rng.integers(34, 60))
        on_road = any(road.covers(x, y, margin_px=8) for road in layout.roads)
        apart = all(math.hypot(t.x_px - x, t.y_px - y) > t.radius_px + radius - 12 for t in trees)
        if apart and not on_road:
            trees.append(Tree(x_px=x, y_px=y, radius_px=radius, look=int(rng.integers(TREE_LOOKS))))
    return tuple(trees)


def plan_bridge(layout: Layout, rng: np.random.Generator) -> Bridge | None:
    """A footbridge across a road or a path in some scenes."""
    lines = [road.middle for road in layout.roads] or list(layout.footpaths)
    if not lines or rng.random() > 0.3:
        return None
    line = lines[int(rng.integers(len(lines)))]
    x, y, heading = line.place(float(rng.uniform(0.28, 0.72)) * line.length_px)
    tilt_deg = float(rng.uniform(-8, 8)) if rng.random() < 0.4 else 0.0
    return Bridge(
        x_px=x,
        y_px=y,
        heading_deg=round((math.degrees(heading) + 90) / 90) * 90 + tilt_deg,
        width_px=float(rng.uniform(56, 150)),
        wooden=bool(rng.random() < 0.5),
    )


def build(trees: tuple[Tree, ...], bridge: Bridge | None, *, sun: int) -> tuple[tuple[Occluder, ...], Bytes]:
    """The occluders, lowest first, and the shadow they throw on the ground, uint8[360, 640]."""
    shadow = np.zeros((FRAME_HEIGHT_PX, FRAME_WIDTH_PX), np.uint8)
    right, down = SUNS[sun]
    found = []
    if bridge is not None:
        found.append(_bridge(bridge))
        corners = _corners(bridge, bridge.width_px) + np.array([right * 2, down * 2])
        cv2.fillConvexPoly(shadow, np.round(corners).astype(np.int32), 255)
    for tree in trees:
        stamp = _crown(tree.look, tree.radius_px // 4 * 4)
        left, top = tree.x_px - stamp.solid.shape[1] // 2, tree.y_px - stamp.solid.shape[0] // 2
        found.append(Occluder(stamp=stamp, left_px=left, top_px=top))
        centre = (tree.x_px + right * 3, tree.y_px + down * 3)
        cv2.circle(shadow, centre, tree.radius_px, 255, -1)
    if found:
        shadow = np.asarray(cv2.blur(shadow, (13, 13)), dtype=np.uint8)
    return tuple(found), shadow


@lru_cache(maxsize=128)
def _crown(look: int, radius_px: int) -> Stamp:
    """A crown of leaves: many soft dabs, lighter towards the light, and a piece of trunk below."""
    rng = np.random.default_rng([31, look, radius_px])
    scale, half = 4, radius_px + 10
    side = 2 * half * scale
    rgb, cover = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)

    def dab(x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
        centre = (int((x + half) * scale), int((y + half) * scale))
        cv2.circle(rgb, centre, int(radius * scale), colour, -1)
        cv2.circle(cover, centre, int(radius * scale), 255, -1)

    base = np.array(_CROWNS[look])
    for layer in range(4):
        spread, tone = 1.0 - 0.22 * layer, 0.72 + 0.15 * layer
        for _ in range(26 - 4 * layer):
            angle, reach = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0.25, 1)) * 0.78 * spread
            shade = base * tone * rng.uniform(0.92, 1.1)
            dab(
                math.cos(angle) * reach * radius_px - layer * 1.5,
                math.sin(angle) * reach * radius_px - layer * 2.0,
                radius_px * rng.uniform(0.14, 0.24) * (1.15 - 0.12 * layer),
                (int(shade[0]), int(shade[1]), int(shade[2])),
            )
        if layer == 0:
            dab(0, 0, radius_px * 0.78, (int(base[0] * 0.76), int(base[1] * 0.76), int(base[2] * 0.76)))
    size = (2 * half, 2 * half)
    ink = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    opacity = np.asarray(cv2.resize(cover, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    solid = cv2.threshold(opacity, 127, 255, cv2.THRESH_BINARY)[1]
    return make_stamp(ink, opacity, np.asarray(solid, dtype=np.uint8))


def _axes(bridge: Bridge) -> tuple[Floats, Floats]:
    """Unit vectors along and across the bridge."""
    angle = math.radians(bridge.heading_deg)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([cos, sin]), np.array([-sin, cos])


def _corners(bridge: Bridge, width_px: float) -> Floats:
    along, across = _axes(bridge)
    middle = np.array([bridge.x_px, bridge.y_px])
    long, side = along * _BRIDGE_REACH_PX, across * width_px / 2
    return np.array([middle - long - side, middle + long - side, middle + long + side, middle - long + side])


def _bridge(bridge: Bridge) -> Occluder:
    """Planks or slabs between two railings."""
    outline = np.round(_corners(bridge, bridge.width_px)).astype(np.int32)
    left, top, width, height = cv2.boundingRect(outline)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, FRAME_WIDTH_PX), min(top + height, FRAME_HEIGHT_PX)
    shape = (max(y1 - y0, 1), max(x1 - x0, 1))
    cover = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(cover, outline - np.array([x0, y0]), 255)
    rgb = np.full((*shape, 3), (150, 128, 104) if bridge.wooden else (158, 156, 150), np.uint8)
    along, across = _axes(bridge)
    middle = np.array([bridge.x_px - x0, bridge.y_px - y0])
    half = bridge.width_px / 2
    joint, spacing = ((120, 100, 80), 14) if bridge.wooden else ((130, 128, 124), 40)
    # Only joints that can lie in the picture: none is farther from the middle than its diagonal.
    for place in range(-740 // spacing * spacing, 740, spacing):
        at = middle + along * place
        _line(rgb, at - across * half, at + across * half, joint, 2)
    for sign in (-1.0, 1.0):
        for inset, tone, thickness in _RAILING:
            at, long = middle + across * sign * (half - inset), along * _BRIDGE_REACH_PX
            _line(rgb, at - long, at + long, tone, thickness)
    rgb[cover == 0] = 0
    return Occluder(stamp=make_stamp(rgb, cover, cover), left_px=x0, top_px=y0)


def _line(rgb: Bytes, start: Floats, end: Floats, colour: tuple[int, int, int], thickness_px: int) -> None:
    first, second = (round(start[0]), round(start[1])), (round(end[0]), round(end[1]))
    cv2.line(rgb, first, second, colour, thickness_px, cv2.LINE_AA)

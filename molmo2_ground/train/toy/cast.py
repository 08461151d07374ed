"""Who is in a scene and how each one moves: actors drawn at random, kept when there is room for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from molmo2_ground.train.toy.actors import (
    COLOURS,
    KIND_SIZE_PX,
    KINDS,
    SIZE_SCALE,
    SIZES,
    Actor,
    Colour,
    Kind,
    Motion,
    Size,
)
from molmo2_ground.train.toy.background import Pad
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX, Layout
from molmo2_ground.train.toy.path import Floats, Path, bezier, make_path
from molmo2_ground.train.toy.stamp import Bytes

# Number of actors and how often: mostly 1 to 6, none to a dozen.
_NUMBERS = np.array([0.04, 0.14, 0.17, 0.16, 0.13, 0.10, 0.08, 0.06, 0.045, 0.03, 0.02, 0.015, 0.01])
_SPEED_PX_S: dict[Kind, tuple[float, float]] = {
    "car": (55, 160),
    "bus": (45, 110),
    "bike": (45, 110),
    "person": (20, 46),
    "ball": (50, 170),
    "dog": (30, 85),
}
_STANDS_STILL: dict[Kind, float] = {
    "car": 0.33,
    "bus": 0.25,
    "bike": 0.25,
    "person": 0.25,
    "ball": 0.4,
    "dog": 0.25,
}
_VEHICLES: frozenset[Kind] = frozenset({"car", "bus", "bike"})
_TABLE_STEP_S = 0.1
_TRIES = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What an actor is to look like, before it has a place."""

    kind: Kind
    colour: Colour
    size: Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The actors of a scene and the paved places under parked ones."""

    actors: tuple[Actor, ...]
    pads: tuple[Pad, ...]


@dataclass(slots=True, kw_only=True)
class _Room:
    """The places of those already cast: three discs along each one's heading, at every time looked at."""

    times_s: Floats
    discs_px: list[Floats] = field(default_factory=list)
    radii_px: list[float] = field(default_factory=list)

    def discs(self, motion: Motion, size_px: tuple[float, float]) -> Floats:
        """float64[T, 3, 2]: the middles of the discs."""
        x, y, heading = motion.poses(self.times_s)
        reach = (size_px[0] - size_px[1]) / 2 * np.array([-1.0, 0.0, 1.0])
        ahead_x, ahead_y = np.cos(heading)[:, None] * reach, np.sin(heading)[:, None] * reach
        return np.stack([x[:, None] + ahead_x, y[:, None] + ahead_y], axis=2)

    def crowded(self, discs: Floats, radius_px: float, *, still: bool) -> bool:
        """True when the newcomer would stand on somebody at the start or for long."""
        if not self.discs_px:
            return False
        others = np.stack(self.discs_px)  # [A, T, 3, 2]
        gaps = discs[None, :, :, None, :] - others[:, :, None, :, :]
        nearest = np.sqrt((gaps**2).sum(axis=-1).min(axis=(2, 3)))  # [A, T]
        touching = nearest < (np.array(self.radii_px)[:, None] + radius_px) * 0.92
        middle = discs[:, 1]
        inside = (
            (middle[:, 0] > -20)
            & (middle[:, 0] < FRAME_WIDTH_PX + 20)
            & (middle[:, 1] > -20)
            & (middle[:, 1] < FRAME_HEIGHT_PX + 20)
        )
        touching &= inside[None, :]
        step = float(self.times_s[1] - self.times_s[0])
        allowed = 0.25 if still else 0.6
        return bool(touching[:, 0].any() or touching.sum(axis=1).max() * step > allowed)

    def take(self, discs: Floats, radius_px: float) -> None:
        self.discs_px.append(discs)
        self.radii_px.append(radius_px)


def make_cast(
    layout: Layout, hidden: Bytes, rng: np.random.Generator, *, duration_s: float, max_actors: int
) -> Cast:
    """Draw the actors. `hidden` is uint8[360, 640], not 0 where trees and bridges hide the ground."""
    count = min(int(rng.choice(len(_NUMBERS), p=_NUMBERS / _NUMBERS.sum())), max_actors)
    room = _Room(times_s=np.arange(0.0, duration_s + 1e-6, max(0.2, duration_s / 40)))
    found: list[tuple[Look, Motion, bool]] = []
    pads: list[Pad] = []
    for look in _looks(count, rng):
        length, width = (side * SIZE_SCALE[look.size] for side in KIND_SIZE_PX[look.kind])
        for _ in range(_TRIES):
            still = bool(rng.random() < _STANDS_STILL[look.kind])
            motion, pad = _motion(look, layout, rng, still=still, duration_s=duration_s)
            pose = motion.pose(0.0)
            if pad and any(r.covers(pose.x_px, pose.y_px, margin_px=length / 2) for r in layout.roads):
                continue
            discs = room.discs(motion, (length, width))
            if _unseen(discs, hidden, still=still) or room.crowded(discs, width / 2, still=still):
                continue
            room.take(discs, width / 2)
            found.append((look, motion, not still))
            if pad:
                pads.append(Pad(pose=pose, length_px=length + 26, width_px=width + 22))
            break
    # Long things first: what is small must not vanish under what is large.
    found.sort(key=lambda item: -KIND_SIZE_PX[item[0].kind][0] * SIZE_SCALE[item[0].size])
    actors = tuple(
        Actor(
            object_id=number,
            kind=look.kind,
            colour=look.colour,
            size=look.size,
            moving=moving,
            motion=motion,
            shade=int(rng.integers(3)),
        )
        for number, (look, motion, moving) in enumerate(found, start=1)
    )
    return Cast(actors=actors, pads=tuple(pads))


def _looks(count: int, rng: np.random.Generator) -> list[Look]:
    """Kinds, colours and sizes; often several of a kind or of a colour, so that both words are needed."""
    if count == 0:
        return []
    kinds = [KINDS[i] for i in rng.choice(len(KINDS), count, p=[0.27, 0.12, 0.15, 0.18, 0.14, 0.14])]
    colours = [COLOURS[i] for i in rng.integers(len(COLOURS), size=count)]
    sizes = [SIZES[i] for i in rng.choice(3, count, p=[0.2, 0.6, 0.2])]
    theme = rng.random()
    shared = int(rng.integers(2, max(count, 2) + 1))
    if theme < 0.35:  # several of one kind in different colours
        order = rng.permutation(len(COLOURS))
        for index in range(min(shared, count)):
            kinds[index] = kinds[0]
            colours[index] = COLOURS[int(order[index % len(COLOURS)])]
    elif theme < 0.5:  # several of one colour, of any kind
        colours[:shared] = [colours[0]] * len(colours[:shared])
    elif theme < 0.62:  # several that only their place tells apart
        kinds[:shared] = [kinds[0]] * len(kinds[:shared])
        colours[:shared] = [colours[0]] * len(colours[:shared])
    elif theme < 0.7:  # everything of one kind
        kinds = [kinds[0]] * count
    looks = [Look(kind=k, colour=c, size=s) for k, c, s in zip(kinds, colours, sizes, strict=True)]
    return [looks[i] for i in rng.permutation(count)]


def _unseen(discs: Floats, hidden: Bytes, *, still: bool) -> bool:
    """True when the actor would hardly ever be in the picture, or stands still where something hides it."""
    middle = discs[:, 1]
    inside = (
        (middle[:, 0] > 12)
        & (middle[:, 0] < FRAME_WIDTH_PX - 12)
        & (middle[:, 1] > 12)
        & (middle[:, 1] < FRAME_HEIGHT_PX - 12)
    )
    if inside.sum() < max(3, 0.25 * len(inside)):
        return True
    if not still:
        return False
    columns = np.clip(discs[0, :, 0], 0, FRAME_WIDTH_PX - 1).astype(int)
    rows = np.clip(discs[0, :, 1], 0, FRAME_HEIGHT_PX - 1).astype(int)
    return bool(hidden[rows, columns].any())


def _motion(
    look: Look, layout: Layout, rng: np.random.Generator, *, still: bool, duration_s: float
) -> tuple[Motion, bool]:
    """A way to move, and whether a paved place belongs under it."""
    path, on_ground = _path(look.kind, layout, rng, still=still)
    times = np.arange(0.0, duration_s + 2 * _TABLE_STEP_S, _TABLE_STEP_S)
    if still:
        place = float(rng.uniform(0.1, 0.9)) * path.length_px
        pad = on_ground and look.kind in ("car", "bus") and layout.plan != "plaza"
        return Motion(path=path, times_s=times, distances_px=np.full(len(times), place)), pad
    low, high = _SPEED_PX_S[look.kind]
    speed = float(rng.uniform(low, high))
    if rng.random() < 0.55:
        start = float(rng.uniform(0.05, 0.85)) * path.length_px
    else:  # comes in later, or is about to leave
        start = float(rng.uniform(-0.6 * speed * duration_s, path.length_px))
    travelled = np.concatenate([[0.0], np.cumsum(_speeds(look.kind, times, rng, duration_s)[1:])])
    return Motion(path=path, times_s=times, distances_px=start + travelled * speed * _TABLE_STEP_S), False


def _speeds(kind: Kind, times_s: Floats, rng: np.random.Generator, duration_s: float) -> Floats:
    """Speed as a share of the full one, float64[K]: steady, with a stop, starting late or ending early."""
    ones = np.ones_like(times_s)
    if kind == "ball":
        # Balls lose speed evenly and may come to rest.
        return np.clip(1 - times_s / float(rng.uniform(0.7, 3.0)) / max(duration_s, 3.0), 0, 1)
    draw = rng.random()
    if draw < 0.5 or duration_s < 3:
        return ones
    moment, ramp = float(rng.uniform(0.2, 0.8)) * duration_s, 0.7
    if draw < 0.8:
        half = float(rng.uniform(0.5, 1.6))
        return np.clip((np.abs(times_s - moment) - half) / ramp, 0, 1)
    if draw < 0.9:
        return np.clip((times_s - moment * 0.6) / ramp, 0, 1)
    return np.clip((moment - times_s) / ramp, 0, 1)


def _path(kind: Kind, layout: Layout, rng: np.random.Generator, *, still: bool) -> tuple[Path, bool]:
    """A way to go along, and whether it runs over open ground."""
    draw = rng.random()
    if kind in ("car", "bus"):
        if layout.lanes and draw < (0.5 if still else 0.96):
            straight = 2 * len(layout.roads)
            turning = len(layout.lanes) > straight and rng.random() < 0.5
            low, high = (straight, len(layout.lanes)) if turning else (0, straight)
            return layout.lanes[int(rng.integers(low, high))], False
        return _roam(rng, bend_px=60.0), True
    if kind == "bike" and layout.bike_lanes and draw < 0.5:
        return layout.bike_lanes[int(rng.integers(len(layout.bike_lanes)))], False
    if kind == "ball":
        return _roam(rng, bend_px=15.0), True
    if layout.zebras and draw < 0.15 and kind != "bike":
        zebra = layout.zebras[int(rng.integers(len(layout.zebras)))]
        ends = zebra.points_px
        step = (ends[1] - ends[0]) / zebra.length_px
        long = make_path([ends[0] - step * 60, ends[1] + step * 60])
        return (long if rng.random() < 0.5 else long.reversed()), False
    if layout.walks and draw < 0.72:
        walk = layout.walks[int(rng.integers(len(layout.walks)))]
        return _wobbled(walk if rng.random() < 0.5 else walk.reversed(), rng), False
    return _roam(rng, bend_px=130.0), True


def _wobbled(path: Path, rng: np.random.Generator) -> Path:
    """Nobody walks like a ruler: a slow sway around the path."""
    x, y, _ = path.at(np.linspace(0.0, path.length_px, 28))
    width_px, swings, phase = (float(v) for v in rng.uniform([3, 4, 0], [9, 11, 6]))
    sway = width_px * np.sin(np.linspace(phase, phase + swings, 28))
    return make_path(np.stack([x, y], axis=1)).offset(sway)


def _roam(rng: np.random.Generator, *, bend_px: float) -> Path:
    """A gentle curve over open ground, from one edge region to any other."""
    angle = float(rng.uniform(0, 2 * math.pi))
    centre = rng.uniform(0.25, 0.75, 2) * (FRAME_WIDTH_PX, FRAME_HEIGHT_PX)
    along = np.array([math.cos(angle), math.sin(angle)])
    reach = 300.0
    bends = rng.uniform(-bend_px, bend_px, 2)
    across = np.array([-along[1], along[0]])
    points = [
        centre - along * reach,
        centre - along * reach / 3 + across * bends[0],
        centre + along * reach / 3 + across * bends[1],
        centre + along * reach,
    ]
    return bezier([(float(p[0]), float(p[1])) for p in points], steps=24)

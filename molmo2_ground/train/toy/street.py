"""The toy street: scenes from a seed, and the one that `make demo` shows."""

from __future__ import annotations

import numpy as np

from molmo2_ground.train.toy.actors import Actor, Colour, Kind, Motion, Size
from molmo2_ground.train.toy.background import darken, paint_ground
from molmo2_ground.train.toy.cast import make_cast
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX, fixed_layout, make_layout
from molmo2_ground.train.toy.occluders import Bridge, Occluder, Tree, build, plan_bridge, plan_trees
from molmo2_ground.train.toy.path import Path, bezier, make_path
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.sprites import SUNS
from molmo2_ground.train.toy.stamp import Bytes

_STEP_S = 0.1


def make_scene(seed: int, *, duration_s: float, max_actors: int = 12, occluders: bool = True) -> Scene:
    """The scene of a seed, the same every time.

    Raises ValueError for a negative duration or more than 255 actors.
    """
    if duration_s < 0:
        raise ValueError(f"duration_s must not be negative; got {duration_s}")
    if not 0 <= max_actors <= 255:
        raise ValueError(f"max_actors must be 0 to 255, ids are bytes; got {max_actors}")
    # One stream a part: changing how one part draws does not change the others.
    ground_rng, plan_rng, cast_rng = (np.random.default_rng([seed, part]) for part in range(3))
    layout = make_layout(plan_rng)
    sun = int(plan_rng.integers(len(SUNS)))
    trees = plan_trees(layout, plan_rng) if occluders else ()
    bridge = plan_bridge(layout, plan_rng) if occluders else None
    stamps, shadow = build(trees, bridge, sun=sun)
    cast = make_cast(layout, _hidden(stamps), cast_rng, duration_s=duration_s, max_actors=max_actors)
    ground = paint_ground(layout, cast.pads, ground_rng)
    if stamps:
        darken(ground, shadow)
    return Scene(
        seed=seed, duration_s=duration_s, actors=cast.actors, background=ground, occluders=stamps, sun=sun
    )


def demo_scene() -> Scene:
    """Eight seconds in which a red car drives along the road and is hidden by a footbridge for a second."""
    layout = fixed_layout(y_px=190.0, half_width_px=66.0, pavement_px=40.0)
    right, left = layout.lanes
    upper, lower = layout.walks
    bridge = Bridge(x_px=330.0, y_px=190.0, heading_deg=90.0, width_px=146.0, wooden=True)
    trees = (
        Tree(x_px=70, y_px=38, radius_px=48, look=0),
        Tree(x_px=560, y_px=44, radius_px=44, look=2),
        Tree(x_px=520, y_px=338, radius_px=46, look=1),
    )
    stamps, shadow = build(trees, bridge, sun=0)
    ground = paint_ground(layout, (), np.random.default_rng(7))
    darken(ground, shadow)
    # Kind, colour, size, path, distance at the start and speed in pixels a second.
    plan: list[tuple[Kind, Colour, Size, Path, float, float]] = [
        ("bus", "yellow", "normal", left, -40.0, 62.0),
        ("car", "blue", "normal", left, 420.0, 62.0),
        ("car", "red", "normal", right, 205.0, 62.0),
        ("car", "white", "normal", right, 80.0, 62.0),
        ("person", "green", "normal", upper, 270.0, 24.0),
        ("person", "purple", "normal", lower.reversed(), 250.0, 22.0),
        ("dog", "black", "normal", bezier([(40, 335), (150, 300), (190, 345), (300, 300)]), 10.0, 18.0),
        ("ball", "orange", "normal", make_path([(150, 60), (151, 60)]), 0.0, 0.0),
    ]
    times = np.array([0.0, 8.0 + _STEP_S])
    actors = tuple(
        Actor(
            object_id=number,
            kind=kind,
            colour=colour,
            size=size,
            moving=speed > 0,
            motion=Motion(path=path, times_s=times, distances_px=start + speed * times),
        )
        for number, (kind, colour, size, path, start, speed) in enumerate(plan, start=1)
    )
    return Scene(seed=0, duration_s=8.0, actors=actors, background=ground, occluders=stamps, sun=0)


def _hidden(stamps: tuple[Occluder, ...]) -> Bytes:
    """uint8[360, 640], 255 where the ground is hidden from above."""
    mask = np.zeros((FRAME_HEIGHT_PX, FRAME_WIDTH_PX), np.uint8)
    for occluder in stamps:
        height, width = occluder.stamp.solid.shape
        y0, x0 = max(occluder.top_px, 0), max(occluder.left_px, 0)
        y1 = min(occluder.top_px + height, FRAME_HEIGHT_PX)
        x1 = min(occluder.left_px + width, FRAME_WIDTH_PX)
        piece = occluder.stamp.solid[
            y0 - occluder.top_px : y1 - occluder.top_px, x0 - occluder.left_px : x1 - occluder.left_px
        ]
        mask[y0:y1, x0:x1] |= piece
    return mask

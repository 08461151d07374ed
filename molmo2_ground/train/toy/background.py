"""The ground of a scene: lawn, slabs, asphalt, markings and the shadows of what stands above."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from molmo2_ground.train.toy.actors import Pose
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX, Layout, Road
from molmo2_ground.train.toy.path import Path
from molmo2_ground.train.toy.stamp import Bytes

Rgb = tuple[int, int, int]

_SPARE_PX = 160  # textures are this much larger than a frame, so that scenes can cut them at many places
_PAINT: Rgb = (214, 212, 202)
# Dull on purpose: the green of things is vivid.
_LAWNS: tuple[Rgb, ...] = (
    (122, 146, 92),
    (104, 130, 80),
    (142, 154, 98),
    (158, 152, 104),
    (110, 138, 104),
    (132, 140, 84),
    (172, 160, 124),
    (96, 118, 84),
)
_SLABS: tuple[Rgb, ...] = ((156, 153, 146), (168, 165, 158), (180, 177, 168), (172, 160, 150))
_TARMACS: tuple[Rgb, ...] = ((94, 94, 97), (106, 106, 109), (118, 118, 120))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad:
    """A paved place for one parked thing: where it lies and its length and width, pixels."""

    pose: Pose
    length_px: float
    width_px: float


@lru_cache(maxsize=1)
def _textures() -> dict[str, Bytes]:
    """Grey textures around 128, uint8[h, w] each, made once a process from a fixed seed."""
    rng = np.random.default_rng(20)
    width, height = FRAME_WIDTH_PX + _SPARE_PX, FRAME_HEIGHT_PX + _SPARE_PX

    def noise(cell_px: float, strength: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        small = rng.standard_normal((int(height / cell_px) + 2, int(width / cell_px) + 2)).astype(np.float32)
        big = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(big * strength, dtype=np.float32)

    rows, columns = np.mgrid[0:height, 0:width]
    grass = noise(1, 9) + noise(3, 12) + noise(14, 8) + noise(70, 12)
    mown = grass + np.where((columns // 46) % 2 == 0, 7, -7)
    tarmac = noise(1, 9) + noise(2.5, 6) + noise(60, 8)
    tones = rng.standard_normal((height // 24 + 1, width // 24 + 1)).astype(np.float32) * 6
    slabs = noise(1.5, 4) + noise(50, 5) + np.kron(tones, np.ones((24, 24), np.float32))[:height, :width]
    slabs = np.where((rows % 24 < 2) | (columns % 24 < 2), slabs - 34, slabs)
    bricks = noise(1.5, 5) + noise(50, 6)
    shifted = columns + np.where((rows // 12) % 2 == 0, 0, 15)
    bricks = np.where((rows % 12 < 1) | (shifted % 30 < 1), bricks - 30, bricks)
    named = {"grass": grass, "mown": mown, "tarmac": tarmac, "slabs": slabs, "bricks": bricks}
    return {name: np.clip(128 + grey, 0, 255).astype(np.uint8) for name, grey in named.items()}


def paint_ground(layout: Layout, pads: tuple[Pad, ...], rng: np.random.Generator) -> Bytes:
    """Paint the ground, uint8[360, 640, 3]."""
    lawn = _surface(str(rng.choice(["grass", "mown"], p=[0.65, 0.35])), _one_of(_LAWNS, rng), rng, spread=9)
    slab_rgb = _one_of(_SLABS, rng)
    paved = _surface("slabs" if rng.random() < 0.7 else "bricks", slab_rgb, rng, spread=6)
    tarmac = _surface("tarmac", _one_of(_TARMACS, rng), rng, spread=4)
    ground = paved.copy() if layout.plan == "plaza" else lawn
    if layout.plan == "plaza":
        _flower_beds(ground, lawn, rng)
    for path in layout.footpaths:
        _lay_band(ground, paved, path, 54, edge=_scaled(slab_rgb, 0.78))
    for road in layout.roads:
        _lay_band(ground, paved, road.middle, road.half_width_px * 2 + road.pavement_px * 2, edge=None)
    for road in layout.roads:
        _lay_band(ground, tarmac, road.middle, road.half_width_px * 2, edge=(190, 188, 182))
    if layout.junction is not None:
        _clear_junction(ground, tarmac, layout.junction)
    for road in layout.roads:
        _mark_road(ground, road, layout)
    for zebra in layout.zebras:
        _mark_zebra(ground, zebra)
    for pad in pads:
        _lay_pad(ground, tarmac, pad)
    return ground


def darken(ground: Bytes, mask: Bytes) -> None:
    """Lay a shadow on the ground in place, 255 in the uint8[h, w] mask is full shadow."""
    keep = cv2.bitwise_not(cv2.convertScaleAbs(mask, alpha=0.4))
    cv2.multiply(ground, cv2.merge([keep, keep, keep]), dst=ground, scale=1 / 255)


def _one_of(colours: tuple[Rgb, ...], rng: np.random.Generator) -> Rgb:
    return colours[int(rng.integers(len(colours)))]


def _scaled(colour: Rgb, factor: float) -> Rgb:
    return (int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor))


@lru_cache(maxsize=32)
def _tinted(texture: str, colour: Rgb) -> Bytes:
    """A texture in one colour, uint8[h, w, 3], larger than a frame."""
    ramp = np.arange(256, dtype=np.float32)[:, None] / 128 * np.array(colour, dtype=np.float32)
    table = np.clip(ramp, 0, 255).astype(np.uint8)
    return np.asarray(np.take(table, _textures()[texture], axis=0), dtype=np.uint8)


def _surface(texture: str, colour: Rgb, rng: np.random.Generator, *, spread: int) -> Bytes:
    """A full frame of a texture, cut from a random place of it, its colour shifted a little."""
    left, top = (int(v) for v in rng.integers(0, _SPARE_PX, 2))
    cut = _tinted(texture, colour)[top : top + FRAME_HEIGHT_PX, left : left + FRAME_WIDTH_PX]
    shifted = cv2.add(cut, rng.integers(-spread, spread + 1, 4).astype(np.float64))
    return np.asarray(cv2.flip(shifted, 1) if rng.random() < 0.5 else shifted, dtype=np.uint8)


def _pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return np.round(path.points_px).astype(np.int32).reshape(-1, 1, 2)


def _lay_band(ground: Bytes, cover: Bytes, path: Path, width_px: float, *, edge: Rgb | None) -> None:
    """Cover a band along a path with another surface, with a thin edge when one is given."""
    mask = np.zeros(ground.shape[:2], np.uint8)
    points = [_pixels(path)]
    if edge is not None:
        cv2.polylines(ground, points, False, edge, int(width_px) + 8, cv2.LINE_AA)
    cv2.polylines(mask, points, False, 255, int(width_px))
    cv2.copyTo(cover, mask, ground)


def _clear_junction(ground: Bytes, tarmac: Bytes, junction: tuple[float, float, float, float]) -> None:
    """Take the kerbs out of the place where two roads cross, and round its corners."""
    x0, y0, x1, y1 = (int(v) for v in junction)
    mask = np.zeros(ground.shape[:2], np.uint8)
    cv2.rectangle(mask, (x0 - 5, y0 + 1), (x1 + 5, y1 - 1), 255, -1)
    cv2.rectangle(mask, (x0 + 1, y0 - 5), (x1 - 1, y1 + 5), 255, -1)
    cv2.copyTo(tarmac, mask, ground)


def _mark_road(ground: Bytes, road: Road, layout: Layout) -> None:
    """Dashes along the middle, none in a junction or on a zebra crossing."""
    starts = np.arange(10.0, road.middle.length_px, 46.0)
    x0, y0, _ = road.middle.at(starts)
    x1, y1, _ = road.middle.at(starts + 24.0)
    for a, b, c, d in zip(x0, y0, x1, y1, strict=True):
        if not _kept_clear((a + c) / 2, (b + d) / 2, layout):
            cv2.line(ground, (round(a), round(b)), (round(c), round(d)), _PAINT, 4, cv2.LINE_AA)


def _kept_clear(x_px: float, y_px: float, layout: Layout) -> bool:
    if layout.junction is not None:
        left, top, right, bottom = layout.junction
        if left - 14 < x_px < right + 14 and top - 14 < y_px < bottom + 14:
            return True
    for zebra in layout.zebras:
        middle = zebra.points_px.mean(axis=0)
        if math.hypot(x_px - middle[0], y_px - middle[1]) < 36:
            return True
    return False


def _mark_zebra(ground: Bytes, zebra: Path) -> None:
    """Bars along the direction of driving, side by side from kerb to kerb."""
    x, y, heading = zebra.at(np.arange(9.0, zebra.length_px - 5, 16.0))
    for cx, cy, angle in zip(x, y, heading, strict=True):
        bar = cv2.boxPoints(((float(cx), float(cy)), (8.0, 38.0), math.degrees(float(angle))))
        cv2.fillConvexPoly(ground, np.round(bar).astype(np.int32), _PAINT, cv2.LINE_AA)


def _lay_pad(ground: Bytes, tarmac: Bytes, pad: Pad) -> None:
    box = ((pad.pose.x_px, pad.pose.y_px), (pad.length_px, pad.width_px), pad.pose.heading_deg)
    corners = np.round(cv2.boxPoints(box)).astype(np.int32)
    mask = np.zeros(ground.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, corners, 255)
    cv2.copyTo(tarmac, mask, ground)
    cv2.polylines(ground, [corners.reshape(-1, 1, 2)], True, (176, 176, 170), 2, cv2.LINE_AA)


def _flower_beds(ground: Bytes, lawn: Bytes, rng: np.random.Generator) -> None:
    mask = np.zeros(ground.shape[:2], np.uint8)
    for _ in range(int(rng.integers(0, 4))):
        x, y = int(rng.integers(0, FRAME_WIDTH_PX)), int(rng.integers(0, FRAME_HEIGHT_PX))
        axes = (int(rng.integers(30, 90)), int(rng.integers(25, 60)))
        cv2.ellipse(ground, (x, y), (axes[0] + 4, axes[1] + 4), 0, 0, 360, (140, 134, 124), -1, cv2.LINE_AA)
        cv2.ellipse(mask, (x, y), axes, 0, 0, 360, 255, -1)
    cv2.copyTo(lawn, mask, ground)

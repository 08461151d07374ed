"""How each kind of thing looks from above, drawn once and then turned into any heading."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np

from molmo2_ground.train.toy.actors import KIND_SIZE_PX, SIZE_SCALE, Colour, Kind, Size
from molmo2_ground.train.toy.stamp import Bytes, Stamp, make_stamp

Rgb = tuple[int, int, int]

# Chosen so that all eight stay apart from each other, from lawns, asphalt and slabs after a plain resize
# to 168 x 168.
COLOUR_RGB: dict[Colour, Rgb] = {
    "red": (214, 30, 34),
    "blue": (32, 84, 224),
    "green": (0, 196, 92),
    "yellow": (252, 222, 28),
    "white": (246, 246, 244),
    "black": (30, 30, 36),
    "orange": (252, 130, 12),
    "purple": (160, 44, 196),
}

# Shadows fall one of these ways in a scene: (right, down) pixels.
SUNS: tuple[tuple[int, int], ...] = ((5, 6), (-5, 6), (6, 3), (-6, 3))

HEADING_STEP_DEG = 3
_GLASS: Rgb = (84, 108, 128)
_DARK: Rgb = (44, 44, 48)
_DRAW_SCALE = 6  # drawn this much larger than life, then shrunk, for smooth edges
_STORE_SCALE = 2  # kept at this scale, so that turning it keeps it sharp
_MARGIN_PX = 10  # room for the shadow and the soft edge


@dataclass(frozen=True, slots=True, eq=False)
class _Canvas:
    """A drawing board in life-size pixels with the origin in the middle; colour and coverage."""

    rgb: Bytes
    cover: Bytes

    def polygon(self, points: list[tuple[float, float]], colour: Rgb) -> None:
        height, width = self.cover.shape
        corners = np.array(
            [[x * _DRAW_SCALE + width / 2, y * _DRAW_SCALE + height / 2] for x, y in points]
        ).astype(np.int32)
        cv2.fillPoly(self.rgb, [corners], colour)
        cv2.fillPoly(self.cover, [corners], 255)

    def ellipse(
        self, x: float, y: float, half_x: float, half_y: float, colour: Rgb, turn: float = 0.0
    ) -> None:
        angles = np.linspace(0, 2 * math.pi, 40, endpoint=False)
        cos, sin = math.cos(turn), math.sin(turn)
        local = [(half_x * math.cos(a), half_y * math.sin(a)) for a in angles]
        self.polygon([(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in local], colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Rgb, radius: float = 0.0) -> None:
        corners = []
        for cx, cy, start in (
            (x1 - radius, y1 - radius, 0.0),
            (x0 + radius, y1 - radius, 90.0),
            (x0 + radius, y0 + radius, 180.0),
            (x1 - radius, y0 + radius, 270.0),
        ):
            for step in range(6 if radius else 1):
                angle = math.radians(start + step * 18)
                corners.append((cx + radius * math.cos(angle), cy + radius * math.sin(angle)))
        self.polygon(corners, colour)


def _toned(colour: Rgb, factor: float) -> Rgb:
    """Darker below 1, nearer to white above 1."""
    if factor <= 1:
        return (int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor))
    share = factor - 1
    red, green, blue = (int(c + (255 - c) * share) for c in colour)
    return (red, green, blue)


def _line_tone(colour: Rgb) -> Rgb:
    """A tone that stands out a little on this colour: lighter on dark, darker on light."""
    return _toned(colour, 1.28) if sum(colour) < 180 else _toned(colour, 0.78)


def _draw_car(canvas: _Canvas, colour: Rgb) -> None:
    for x in (-24.0, 24.0):
        canvas.box(x - 8, -22, x + 8, 22, _DARK, 3)
    canvas.box(-42, -20, 42, 20, _line_tone(colour), 12)
    canvas.box(-40.5, -18.5, 40.5, 18.5, colour, 11)
    canvas.polygon([(21, -15), (12, -13), (12, 13), (21, 15), (23, 8), (23.5, 0), (23, -8)], _GLASS)
    canvas.polygon([(-30, -14), (-22, -12), (-22, 12), (-30, 14)], _GLASS)
    canvas.box(-21, -16.5, 10, -14.5, _GLASS)
    canvas.box(-21, 14.5, 10, 16.5, _GLASS)
    canvas.box(-20, -13, 10, 13, _toned(colour, 1.14), 4)
    for y in (-13.0, 13.0):
        canvas.ellipse(38.5, y, 2.2, 4, (255, 250, 220))
        canvas.ellipse(-39.5, y, 1.5, 4, (150, 20, 20))


def _draw_bus(canvas: _Canvas, colour: Rgb) -> None:
    canvas.box(-65, -25, 65, 25, _line_tone(colour), 7)
    canvas.box(-63.5, -23, 63.5, 23, colour, 6)
    canvas.box(56, -20, 62, 20, _GLASS, 2)
    canvas.box(-56, -24, 52, -21.5, _GLASS)
    canvas.box(-56, 21.5, 52, 24, _GLASS)
    for x in (-46.0, -22.0, 2.0, 26.0):
        canvas.box(x, -17, x + 2.5, 17, _line_tone(colour))
    for x in (-37.0, 14.0):
        canvas.box(x, -9, x + 12, 9, (186, 190, 194), 2)
        canvas.box(x + 2, -7, x + 10, 7, (150, 156, 160), 2)
    for y in (-18.0, 18.0):
        canvas.ellipse(63, y, 1.8, 4, (255, 250, 220))


def _draw_bike(canvas: _Canvas, colour: Rgb) -> None:
    for x in (-18.0, 18.0):
        canvas.ellipse(x, 0, 11, 4.4, _DARK)
        canvas.ellipse(x, 0, 7, 1.8, (150, 150, 150))
    canvas.box(-16, -3.6, 20, 3.6, colour, 3)
    canvas.polygon([(13, -14), (17, -14), (18, 0), (17, 14), (13, 14), (14, 0)], _DARK)
    for side in (-1.0, 1.0):
        arm = [(-2.0, 7 * side), (13.0, 11 * side), (14.0, 14 * side), (-5.0, 12 * side)]
        canvas.polygon(arm, _toned(colour, 0.85))
    canvas.ellipse(-5, 0, 9.5, 12.5, _line_tone(colour))
    canvas.ellipse(-5, 0, 8.5, 11.5, colour)
    canvas.ellipse(1, 0, 6.4, 5.8, _line_tone(colour))
    canvas.ellipse(0.5, 0, 5.2, 4.6, _toned(colour, 1.12))
    canvas.polygon([(5.5, -3.4), (7.6, 0), (5.5, 3.4), (4.5, 0)], _GLASS)


def _draw_person(canvas: _Canvas, colour: Rgb) -> None:
    skin: Rgb = (226, 178, 142)
    canvas.ellipse(11, -8, 7, 4.2, (72, 62, 56))
    canvas.ellipse(-11, 8, 7, 4.2, (72, 62, 56))
    canvas.ellipse(10, 15.5, 4, 3.6, skin)
    canvas.ellipse(-8, -16.5, 4, 3.6, skin)
    canvas.ellipse(5, 16, 7.5, 4.6, _toned(colour, 0.88), -0.3)
    canvas.ellipse(-4, -16, 7.5, 4.6, _toned(colour, 0.88), -0.3)
    canvas.ellipse(0, 0, 13, 20.5, _line_tone(colour))
    canvas.ellipse(0, 0, 11.8, 19.3, colour)
    canvas.ellipse(2.5, 0, 8, 7.6, skin)
    canvas.ellipse(1, 0, 7.4, 7.6, (92, 62, 40))


def _draw_ball(canvas: _Canvas, colour: Rgb) -> None:
    canvas.ellipse(0, 0, 17, 17, _line_tone(colour))
    canvas.ellipse(0, 0, 15.8, 15.8, colour)
    tone = _toned(colour, 0.72) if sum(colour) > 180 else _toned(colour, 1.3)
    for turn in (0.0, math.pi / 3, 2 * math.pi / 3):
        canvas.ellipse(0, 0, 15.2, 1.1, tone, turn)
    canvas.ellipse(0, 0, 3, 3, tone)
    canvas.ellipse(-5.5, -5.5, 3.4, 2.6, _toned(colour, 1.6), -0.8)


def _draw_dog(canvas: _Canvas, colour: Rgb) -> None:
    limb = _toned(colour, 0.75) if sum(colour) > 180 else _toned(colour, 1.15)
    for x, y in ((9.0, 8.0), (5.0, -8.5), (-15.0, 8.0), (-11.0, -8.5)):
        canvas.ellipse(x, y, 5.2, 2.6, limb, 0.25 if y > 0 else -0.25)
    canvas.polygon([(-17, -2), (-22, -2.5), (-26, -6.5), (-24.5, -1.5), (-17, 2.5)], limb)
    canvas.ellipse(-4, 0, 17, 7.6, _line_tone(colour))
    for x, half_x, half_y in ((-10.0, 9.5, 7.4), (4.0, 9.5, 8.2), (-3.0, 12.0, 6.6), (12.0, 5.0, 5.0)):
        canvas.ellipse(x, 0, half_x, half_y, colour)
    canvas.box(8.6, -5.4, 10.4, 5.4, (176, 178, 182))
    canvas.ellipse(17, 0, 6.6, 6.2, colour)
    canvas.ellipse(21.8, 0, 4.2, 3, limb)
    canvas.ellipse(14.5, -6.6, 4.6, 2.8, limb, 0.75)
    canvas.ellipse(14.5, 6.6, 4.6, 2.8, limb, -0.75)
    canvas.ellipse(25, 0, 1.4, 1.7, (20, 20, 20))


_DRAW: dict[Kind, Callable[[_Canvas, Rgb], None]] = {
    "car": _draw_car,
    "bus": _draw_bus,
    "bike": _draw_bike,
    "person": _draw_person,
    "ball": _draw_ball,
    "dog": _draw_dog,
}


@cache
def _drawn(kind: Kind, colour: Colour, shade: int) -> Bytes:
    """The thing facing right, uint8[h, w, 4], colour times coverage and coverage, at the stored scale."""
    length, width = KIND_SIZE_PX[kind]
    shape = (int(width + 12) * _DRAW_SCALE, int(length + 12) * _DRAW_SCALE)
    canvas = _Canvas(rgb=np.zeros((*shape, 3), np.uint8), cover=np.zeros(shape, np.uint8))
    _DRAW[kind](canvas, _toned(COLOUR_RGB[colour], (0.92, 1.0, 1.07)[shade]))
    layers = cv2.merge([*cv2.split(canvas.rgb), canvas.cover])
    size = (shape[1] * _STORE_SCALE // _DRAW_SCALE, shape[0] * _STORE_SCALE // _DRAW_SCALE)
    return np.asarray(cv2.resize(layers, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


@lru_cache(maxsize=1024)
def turned(kind: Kind, colour: Colour, size: Size, shade: int, heading_step: int, sun: int) -> Stamp:
    """The thing with its shadow, turned by `heading_step` times three degrees; its centre is the stamp's."""
    drawn = _drawn(kind, colour, shade)
    scale = SIZE_SCALE[size]
    angle = math.radians(heading_step * HEADING_STEP_DEG)
    length, width = (side * scale for side in KIND_SIZE_PX[kind])
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    out = (
        int(length * cos + width * sin) + 2 * _MARGIN_PX,
        int(length * sin + width * cos) + 2 * _MARGIN_PX,
    )
    centre = (drawn.shape[1] / 2 - 0.5, drawn.shape[0] / 2 - 0.5)
    matrix = cv2.getRotationMatrix2D(centre, -math.degrees(angle), scale / _STORE_SCALE)
    matrix[:, 2] += (out[0] / 2 - 0.5 - centre[0], out[1] / 2 - 0.5 - centre[1])
    layers = cv2.warpAffine(drawn, matrix, out, flags=cv2.INTER_LINEAR)
    cover = np.ascontiguousarray(layers[:, :, 3])
    right, down = SUNS[sun]
    shift = np.array([[1, 0, right], [0, 1, down]], dtype=np.float64)
    shadow = cv2.blur(cv2.warpAffine(cover, shift, out, flags=cv2.INTER_NEAREST), (5, 5))
    under = cv2.multiply(cv2.bitwise_not(cover), shadow, scale=0.42 / 255)
    opacity = np.asarray(cv2.add(cover, under), dtype=np.uint8)
    solid = np.asarray(cv2.threshold(cover, 127, 255, cv2.THRESH_BINARY)[1], dtype=np.uint8)
    ink = np.asarray(cv2.cvtColor(layers, cv2.COLOR_BGRA2BGR), dtype=np.uint8)
    return make_stamp(ink, opacity, solid)

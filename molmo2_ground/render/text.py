"""Plates: short texts on a coloured ground, made once and then copied onto pictures."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from molmo2_ground.render.style import Rgb

# OpenCV's own letters are ASCII only, and Pillow's built-in font has no accents. DejaVu comes with
# matplotlib, which supervision brings. The other names are what systems call fonts for East Asian and other
# scripts; Pillow looks for them where the system keeps fonts. A letter that none of them has shows as an
# empty box.
_SYSTEM_FONTS = (
    "DejaVuSans-Bold.ttf",
    "NotoSansCJK-Bold.ttc",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
)
_MISSING = (
    "\U0010ffff"  # no font has a picture for this; what is drawn for it is drawn for every missing letter
)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plate:
    """A text on its ground, ready to be copied.

    rgb    uint8[h, w, 3]: what is added to the picture beneath; all there is to see on a solid plate.
    keep   uint8[h, w, 3]: how much of the picture stays, 255 for all of it.
    solid  True when the plate covers the picture everywhere, so that it may be copied without blending.
    """

    rgb: npt.NDArray[np.uint8]
    keep: npt.NDArray[np.uint8]
    solid: bool

    @property
    def width_px(self) -> int:
        """Width, pixels."""
        return int(self.rgb.shape[1])

    @property
    def height_px(self) -> int:
        """Height, pixels."""
        return int(self.rgb.shape[0])


@lru_cache(maxsize=128)
def plate(text: str, *, text_px: int, pad_px: int, ink: Rgb, ground: Rgb, cover: float = 1.0) -> Plate:
    """One line of `text` on a ground, as small as the text allows.

    text_px is the font size, pad_px the space around the text, `cover` how much of the picture the ground
    hides (0–1). Line breaks and other control characters become spaces.
    """
    line = _one_line(text)
    font = _font_for(line, text_px)
    left, _, right, _ = font.getbbox(line)
    top_px, bottom_px = _line_extent(text_px)
    width_px = max(1, int(np.ceil(right - left))) + 2 * pad_px
    height_px = bottom_px - top_px + 2 * pad_px
    letters = Image.new("L", (width_px, height_px), 0)
    # A common baseline for every plate of a size, whatever letters it holds.
    ImageDraw.Draw(letters).text((pad_px - left, pad_px - top_px), line, fill=255, font=font)
    inked = np.asarray(letters, dtype=np.float32)[:, :, None] / 255
    rgb = inked * np.array(ink, dtype=np.float32) + (1 - inked) * np.array(ground, dtype=np.float32)
    share = np.maximum(inked, np.float32(cover))
    keep = np.rint(255 * (1 - share)).astype(np.uint8)
    return Plate(rgb=np.rint(rgb * share).astype(np.uint8), keep=np.repeat(keep, 3, axis=2), solid=cover >= 1)


@lru_cache(maxsize=512)
def text_width_px(text: str, *, text_px: int) -> int:
    """How wide `plate` makes a text, without its padding, pixels."""
    line = _one_line(text)
    left, _, right, _ = _font_for(line, text_px).getbbox(line)
    return int(np.ceil(right - left))


@lru_cache(maxsize=512)
def fitted(text: str, *, text_px: int, width_px: int) -> str:
    """`text`, or as much of it as fits in `width_px` pixels with "…" at the end; "" when nothing fits."""
    line = _one_line(text)
    font = _font_for(line, text_px)
    if font.getlength(line) <= width_px:
        return line
    low, high = 0, len(line)  # the number of letters kept: `low` fits or is 0, `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        if font.getlength(line[:middle].rstrip() + "…") <= width_px:
            low = middle
        else:
            high = middle
    return line[:low].rstrip() + "…" if low else ""


def stamp(picture: npt.NDArray[np.uint8], what: Plate, *, left_px: int, top_px: int) -> None:
    """Copy a plate onto `picture` (uint8[h, w, 3], changed in place); what lies outside is cut off."""
    x0, y0 = max(0, left_px), max(0, top_px)
    x1 = min(picture.shape[1], left_px + what.width_px)
    y1 = min(picture.shape[0], top_px + what.height_px)
    if x0 >= x1 or y0 >= y1:
        return
    rows, columns = slice(y0 - top_px, y1 - top_px), slice(x0 - left_px, x1 - left_px)
    if what.solid:
        picture[y0:y1, x0:x1] = what.rgb[rows, columns]
        return
    below = cv2.multiply(picture[y0:y1, x0:x1], what.keep[rows, columns], scale=1 / 255)
    picture[y0:y1, x0:x1] = cv2.add(below, what.rgb[rows, columns])


def clock(time_s: float) -> str:
    """A time as people write it: 0:01.50, 12:03.25, 1:00:00.00; hundredths of a second."""
    hundredths = round(abs(time_s) * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if time_s < 0 and hundredths else ""
    seconds = f"{rest // 100:02d}.{rest % 100:02d}"
    return f"{sign}{hours}:{minutes:02d}:{seconds}" if hours else f"{sign}{minutes}:{seconds}"


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:400]).strip()


@lru_cache(maxsize=32)
def _line_extent(text_px: int) -> tuple[int, int]:
    """Top and bottom of a line with capitals, accents and descenders, pixels below the drawing origin."""
    _, top, _, bottom = _font(0, text_px).getbbox("ÅÉgj|")
    return int(np.floor(top)), int(np.ceil(bottom))


@lru_cache(maxsize=512)
def _font_for(line: str, text_px: int) -> Font:
    """The first font that has every letter of the line, else the first font."""
    for index in range(1 + len(_SYSTEM_FONTS)):
        if all(_has(index, text_px, letter) for letter in set(line) if not letter.isspace()):
            return _font(index, text_px)
    return _font(0, text_px)


@lru_cache(maxsize=4096)
def _has(index: int, text_px: int, letter: str) -> bool:
    """True when font number `index` has a picture for the letter."""
    font = _font(index, text_px)
    return bytes(font.getmask(letter)) != bytes(font.getmask(_MISSING))


@lru_cache(maxsize=128)
def _font(index: int, text_px: int) -> Font:
    """Font number `index` of the list at a size; number 0 always exists, a missing one is number 0."""
    names: list[str | Path] = list(_SYSTEM_FONTS)
    # Where matplotlib lies is asked without importing it, which would take a second.
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        names.insert(0, Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans-Bold.ttf")
    for name in names[index : index + 1] if index else names:
        try:
            return ImageFont.truetype(name, text_px)
        except OSError:
            continue  # this system has no such font: the next one, and at last Pillow's own
    return ImageFont.load_default(text_px) if index == 0 else _font(0, text_px)

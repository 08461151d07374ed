"""Which colour an object has, and how large things are drawn on a picture of a given size."""

from __future__ import annotations

from dataclasses import dataclass

Rgb = tuple[int, int, int]

# Chosen by search among published palettes for colour-blind readers: under full protanopia, deuteranopia and
# tritanopia (Machado 2009) the first seven stay at least 22 apart in CIELAB, all twelve at least 14.
# tests/unit/render/test_style.py measures it. The number beside each dot tells the rest apart.
PALETTE: tuple[Rgb, ...] = (
    (255, 195, 59),  # amber
    (0, 194, 249),  # cyan
    (213, 94, 0),  # vermilion
    (132, 0, 205),  # violet
    (204, 121, 167),  # pink
    (0, 114, 178),  # blue
    (255, 255, 255),  # white
    (0, 158, 115),  # green
    (226, 1, 52),  # red
    (122, 75, 0),  # brown
    (170, 51, 119),  # purple
    (0, 141, 249),  # azure
)
DARK: Rgb = (16, 18, 22)
LIGHT: Rgb = (255, 255, 255)


def colour_of(object_id: int) -> Rgb:
    """The colour of an object, R, G, B in 0–255: the same for the same id in every picture and page."""
    return PALETTE[(object_id - 1) % len(PALETTE)]


def ink_on(background: Rgb) -> Rgb:
    """Black or white, whichever reads better on `background` (R, G, B in 0–255)."""
    # sRGB to linear light and the contrast rule of WCAG 2: the two inks are equal at a luminance of 0.179.
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in background)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return DARK if luminance > 0.179 else LIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Sizes for one picture size, pixels.

    dot_radius_px   of a dot without its halo;   halo_px  width of the dark ring around a dot;
    ring_px         width of the coloured ring of a hollow dot;
    trail_px        width of a trail at its newest end;   outline_px  width of the line around a mask;
    text_px         height of a capital letter with its ascent and descent (font size);
    pad_px          space between text and the edge of its plate;   gap_px  between a dot and its plate.
    """

    dot_radius_px: float
    halo_px: float
    ring_px: float
    trail_px: float
    outline_px: float
    text_px: int
    pad_px: int
    gap_px: int

    @classmethod
    def of_size(cls, width_px: int, height_px: int) -> Style:
        """Sizes for a picture of `width_px` by `height_px`: in proportion, with a floor for tiny ones."""
        # The height leads, because that is what a player fits to a screen; a narrow portrait picture is led
        # by its width, or the text would fill it.
        side_px = min(height_px, width_px * 3 / 4) if width_px < height_px else height_px
        dot_radius_px = max(2.5, side_px / 75)
        return cls(
            dot_radius_px=dot_radius_px,
            halo_px=max(1.0, dot_radius_px * 0.28),
            ring_px=max(1.0, dot_radius_px * 0.34),
            trail_px=max(1.0, dot_radius_px * 0.5),
            outline_px=max(1.0, side_px / 400),
            text_px=max(9, round(side_px / 32)),
            pad_px=max(1, round(side_px / 160)),
            gap_px=max(1, round(dot_radius_px * 0.4)),
        )

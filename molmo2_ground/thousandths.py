"""The model's unit of length: a place is written in thousandths of the picture's width and height."""

from __future__ import annotations

import math

# 1000 is the outer edge on the right or at the bottom; the model writes 0 to 1000, both included.
FULL = 1000


def to_thousandths(value_px: float, size_px: float) -> int:
    """Round a pixel coordinate to thousandths of the side it lies along, half to even.

    value_px: pixels from the left or upper edge; outside the picture it is moved to the nearest edge.
    size_px: width or height, pixels. Raises `ValueError` for a side that is not above 0 or for no number.
    """
    if not size_px > 0 or math.isinf(size_px):
        raise ValueError(f"a side is longer than 0 pixels; got {size_px}")
    if math.isnan(value_px):
        raise ValueError("a pixel coordinate is a number; got nan")
    return round(FULL * min(max(value_px, 0.0), size_px) / size_px)


def to_pixels(thousandths: int, size_px: float) -> float:
    """Pixels from the left or upper edge, for a coordinate in thousandths of a side of `size_px` pixels."""
    return thousandths * size_px / FULL


def spell_coordinate(thousandths: int) -> str:
    """Write a coordinate as in training: three digits, zeros in front, and `1000` for the outer edge."""
    return f"{thousandths:03d}"


def spell_seconds(time_s: float) -> str:
    """Write a time as in training: seconds with one decimal."""
    return str(round(float(time_s), 1))

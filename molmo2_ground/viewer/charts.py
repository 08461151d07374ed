"""Two drawings for the page: where everything moved, and when it was seen."""

from __future__ import annotations

from molmo2_ground._amount import amount
from molmo2_ground.clip import RgbArray
from molmo2_ground.render import Timeline, colour_of
from molmo2_ground.render.style import Style
from molmo2_ground.render.text import clock
from molmo2_ground.render.trajectory import Leg
from molmo2_ground.viewer.markup import data_uri, escaped

# More dots than this on one path hide each other: the line alone says it.
_MOST_DOTS = 400
_WIDTH = 1000  # of the time chart, in its own units
_ROW = 22


def hex_colour(object_id: int) -> str:
    """The object's colour as in a style sheet."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(object_id))


def paths(timeline: Timeline, size_px: tuple[int, int], *, ground: RgbArray | None = None) -> str:
    """An SVG of every path over a pale picture of the place; paths break where the object was not seen."""
    width_px, height_px = size_px
    parts = [
        f'<svg class="paths" viewBox="0 0 {width_px} {height_px}" role="img" '
        f'aria-label="Paths of {amount(len(timeline.object_ids), "object")} in the picture">',
        f'<rect class="ground" width="{width_px}" height="{height_px}"/>',
    ]
    if ground is not None:
        parts.append(
            f'<image href="{data_uri(ground)}" width="{width_px}" height="{height_px}" '
            f'preserveAspectRatio="none" opacity="0.45"/>'
        )
    parts += [_path(leg, size_px) for leg in timeline.legs]
    parts.append("</svg>")
    return "\n".join(parts)


def _path(leg: Leg, size_px: tuple[int, int]) -> str:
    style, colour = Style.of_size(*size_px), hex_colour(leg.object_id)
    spots = [(sample.x_norm * size_px[0], sample.y_norm * size_px[1]) for sample in leg.samples]
    parts = [f"<g><title>{escaped(f'{leg.object_id} {leg.label}')}</title>"]
    line = " ".join(f"{x_px:.1f},{y_px:.1f}" for x_px, y_px in spots)
    for ink, width_px in (("#101216", 2 * style.trail_px), (colour, style.trail_px)):
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{ink}" stroke-width="{width_px:.1f}" '
            f'stroke-linejoin="round" stroke-linecap="round"/>'
        )
    shown = list(zip(leg.samples, spots, strict=True))
    for sample, (x_px, y_px) in shown if len(shown) <= _MOST_DOTS else (shown[0], shown[-1]):
        words = f"{leg.object_id} {leg.label}, {clock(sample.time_s)} ({sample.x_px:.0f}, {sample.y_px:.0f})"
        parts.append(
            f'<circle cx="{x_px:.1f}" cy="{y_px:.1f}" r="{style.dot_radius_px:.1f}" fill="{colour}" '
            f'stroke="#101216" stroke-width="{style.halo_px:.1f}" data-time="{sample.time_s:.4f}">'
            f"<title>{escaped(words)}</title></circle>"
        )
    x_px, y_px = spots[-1]
    text_px = style.text_px * 1.2
    # At the right edge a number to the right of its dot would be cut off.
    anchor, side = ("end", -1) if x_px > size_px[0] * 0.9 else ("start", 1)
    x_px, y_px = x_px + side * 2 * style.dot_radius_px, max(text_px, y_px - style.dot_radius_px)
    parts.append(
        f'<text x="{x_px:.1f}" y="{y_px:.1f}" '
        f'text-anchor="{anchor}" font-size="{text_px:.1f}" class="number">{leg.object_id}</text></g>'
    )
    return "".join(parts)


def times(timeline: Timeline, duration_s: float) -> str:
    """An SVG with a row an object: bars while it was seen, gaps while it was not, a tick for each look."""
    rows = sorted(timeline.object_ids)
    height, span_s = _ROW * (len(rows) + 1), max(duration_s, 1e-6)
    parts = [
        f'<svg class="times" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="When each of {len(rows)} objects was seen">'
    ]
    legs_of = {object_id: [leg for leg in timeline.legs if leg.object_id == object_id] for object_id in rows}
    for row, object_id in enumerate(rows):
        parts.append(_row(row, object_id, legs_of[object_id], timeline.looked_s, span_s))
    for at, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        parts.append(
            f'<text x="{_x(at, 1.0):.0f}" y="{height - 6}" text-anchor="{anchor}" '
            f'class="axis">{clock(at * duration_s)}</text>'
        )
    parts.append("</svg>")
    return "\n".join(parts)


def _row(row: int, object_id: int, legs: list[Leg], looked_s: tuple[float, ...], span_s: float) -> str:
    top, colour = row * _ROW, hex_colour(object_id)
    middle = top + _ROW / 2
    parts = [
        f'<text x="26" y="{middle + 5}" text-anchor="end" class="axis">{object_id}</text>',
        f'<line x1="{_x(0, 1):.0f}" x2="{_x(1, 1):.0f}" y1="{middle}" y2="{middle}" class="rail"/>',
    ]
    seen_s = sorted(time_s for leg in legs for time_s in leg.times_s)
    for leg in legs:
        start, end = _x(leg.times_s[0], span_s), _x(leg.times_s[-1], span_s)
        parts.append(
            f'<rect x="{start:.1f}" y="{middle - 4}" height="8" rx="3" fill="{colour}" class="bar" '
            f'width="{max(2.0, end - start):.1f}"/>'
        )
    if len(looked_s) <= _MOST_DOTS:
        sights = {round(time_s, 3) for time_s in seen_s}
        for time_s in looked_s:
            seen = round(time_s, 3) in sights
            words = f"{object_id} {'seen' if seen else 'not seen'} at {clock(time_s)}"
            parts.append(
                f'<circle cx="{_x(time_s, span_s):.1f}" cy="{middle}" r="{5 if seen else 2}" '
                f'fill="{colour if seen else "currentColor"}" class="{"seen" if seen else "unseen"}" '
                f'data-time="{time_s:.4f}"><title>{escaped(words)}</title></circle>'
            )
    return "".join(parts)


def _x(time_s: float, span_s: float) -> float:
    """A time's place on the chart, with room for the object's number on the left."""
    return 40 + (_WIDTH - 50) * time_s / span_s

"""What Foxglove shows: annotations of a picture, and H.264 video, in its own message shapes, as JSON.

Names, fields and numbers are Foxglove's (docs.foxglove.dev, message schemas ImageAnnotations and
CompressedVideo), and must match exactly. Coordinates count, as ours do, from the outer corner of the top left
pixel, so the centre of that pixel is (0.5, 0.5) in both and nothing is shifted.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from molmo2_ground.live.trails import Path
from molmo2_ground.live.update import LiveTrack, Update
from molmo2_ground.render.h264 import CodedPicture
from molmo2_ground.render.style import Style, colour_of, ink_on

Json = dict[str, Any]

POINTS, LINE_LOOP, LINE_STRIP = 1, 2, 3

_TIME: Json = {
    "type": "object",
    "title": "time",
    "properties": {
        "sec": {"type": "integer", "minimum": 0},
        "nsec": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    },
}
_POINT2: Json = {
    "type": "object",
    "title": "foxglove.Point2",
    "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
}
_COLOR: Json = {
    "type": "object",
    "title": "foxglove.Color",
    "properties": {part: {"type": "number"} for part in "rgba"},
}
_POINTS_ANNOTATION: Json = {
    "type": "object",
    "title": "foxglove.PointsAnnotation",
    "properties": {
        "timestamp": _TIME,
        "type": {
            "title": "foxglove.PointsAnnotationType",
            "oneOf": [
                {"title": "UNKNOWN", "const": 0},
                {"title": "POINTS", "const": POINTS},
                {"title": "LINE_LOOP", "const": LINE_LOOP},
                {"title": "LINE_STRIP", "const": LINE_STRIP},
                {"title": "LINE_LIST", "const": 4},
            ],
        },
        "points": {"type": "array", "items": _POINT2},
        "outline_color": _COLOR,
        "outline_colors": {"type": "array", "items": _COLOR},
        "fill_color": _COLOR,
        "thickness": {"type": "number"},
    },
}
_CIRCLE_ANNOTATION: Json = {
    "type": "object",
    "title": "foxglove.CircleAnnotation",
    "properties": {
        "timestamp": _TIME,
        "position": _POINT2,
        "diameter": {"type": "number"},
        "thickness": {"type": "number"},
        "fill_color": _COLOR,
        "outline_color": _COLOR,
    },
}
_TEXT_ANNOTATION: Json = {
    "type": "object",
    "title": "foxglove.TextAnnotation",
    "properties": {
        "timestamp": _TIME,
        "position": _POINT2,
        "text": {"type": "string"},
        "font_size": {"type": "number"},
        "text_color": _COLOR,
        "background_color": _COLOR,
    },
}
IMAGE_ANNOTATIONS: Json = {
    "title": "foxglove.ImageAnnotations",
    "type": "object",
    "properties": {
        "circles": {"type": "array", "items": _CIRCLE_ANNOTATION},
        "points": {"type": "array", "items": _POINTS_ANNOTATION},
        "texts": {"type": "array", "items": _TEXT_ANNOTATION},
    },
}
COMPRESSED_VIDEO: Json = {
    "title": "foxglove.CompressedVideo",
    "type": "object",
    "properties": {
        "timestamp": _TIME,
        "frame_id": {"type": "string"},
        "data": {"type": "string", "contentEncoding": "base64"},
        "format": {"type": "string"},
    },
}


def time_of(stamp_ns: int) -> Json:
    """A stamp as Foxglove's JSON writes it."""
    sec, nsec = divmod(stamp_ns, 1_000_000_000)
    return {"sec": sec, "nsec": nsec}


def video_of(picture: CodedPicture, *, stamp_ns: int, frame_id: str) -> Json:
    """`foxglove.CompressedVideo`: one picture."""
    return {
        "timestamp": time_of(stamp_ns),
        "frame_id": frame_id,
        "data": base64.b64encode(picture.data).decode("ascii"),
        "format": "h264",
    }


def annotations_of(update: Update, trails: Mapping[int, Path]) -> Json:
    """`foxglove.ImageAnnotations`: a dot for each thing, its trail, number, label and the box of its mask.

    A dot is filled when the model pointed to the thing in this very picture, hollow when it was followed
    here.
    """
    style = Style.of_size(*update.size_px)
    at = time_of(update.stamp_ns)
    points: list[Json] = []
    for track in update.tracks:
        trail = trails.get(track.object_id, ())
        if len(trail) > 1:
            points.append(_line(at, LINE_STRIP, trail, track, style.trail_px))
        box = None if track.mask is None else track.mask.box_px
        if box is not None:
            left, top, right, bottom = box
            corners = ((left, top), (right, top), (right, bottom), (left, bottom))
            points.append(_line(at, LINE_LOOP, corners, track, style.outline_px))
        points.append(_line(at, POINTS, ((track.x_px, track.y_px),), track, 2 * style.dot_radius_px))
    return {
        "circles": [_ring(at, track, style) for track in update.tracks],
        "points": points,
        "texts": [_text(at, track, style) for track in update.tracks],
    }


def _color(rgb: tuple[int, int, int], alpha: float = 1.0) -> Json:
    return {"r": rgb[0] / 255, "g": rgb[1] / 255, "b": rgb[2] / 255, "a": alpha}


_CLEAR = _color((0, 0, 0), 0.0)


def _point(x_px: float, y_px: float) -> Json:
    return {"x": float(x_px), "y": float(y_px)}


def _line(
    at: Json, kind: int, places: Sequence[tuple[float, float]], track: LiveTrack, width_px: float
) -> Json:
    colour = _color(colour_of(track.object_id))
    return {
        "timestamp": at,
        "type": kind,
        "points": [_point(x, y) for x, y in places],
        "outline_color": colour,
        "outline_colors": [],
        "fill_color": _CLEAR,
        "thickness": width_px,
    }


def _ring(at: Json, track: LiveTrack, style: Style) -> Json:
    colour = _color(colour_of(track.object_id))
    return {
        "timestamp": at,
        "position": _point(track.x_px, track.y_px),
        "diameter": 4 * style.dot_radius_px,
        "thickness": style.ring_px,
        "fill_color": colour | {"a": 0.5} if track.state == "observed" else _CLEAR,
        "outline_color": colour,
    }


def _text(at: Json, track: LiveTrack, style: Style) -> Json:
    colour = colour_of(track.object_id)
    beside_px = 2 * style.dot_radius_px + style.gap_px
    return {
        "timestamp": at,
        "position": _point(track.x_px + beside_px, track.y_px),
        "text": f"{track.object_id} {track.label}",
        "font_size": float(style.text_px),
        "text_color": _color(ink_on(colour)),
        "background_color": _color(colour),
    }

"""A frame of a training row with what the row says is in it: boxes, masks and points, in colours."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.render.style import DARK, LIGHT, Rgb, Style, colour_of
from molmo2_ground.train.row_media import SAME_MOMENT_S, clip_start_s
from molmo2_ground.train.rows import Annotation, Place, Row

Edge = npt.NDArray[np.int32]


def places_in(
    row: Row, frame: Frame, number: int, *, annotations: Iterable[Annotation] | None = None
) -> tuple[Place, ...] | None:
    """What the row's annotations, or some of them, have in a frame; None where none was annotated.

    number: which frame of the clip it is, from 0: for still images the number of the picture. A thing that
    several annotations have comes once.
    """
    start_s = clip_start_s(row)
    found: dict[tuple[int, object], Place] = {}
    annotated = False
    for annotation in row.annotations if annotations is None else annotations:
        for moment in annotation.moments:
            if moment.time_s is None or frame.shown_time_s is None:
                here = moment.image == number
            else:
                here = abs(moment.time_s - start_s - frame.shown_time_s) <= SAME_MOMENT_S
            if here:
                annotated = True
                found |= {(place.object_id, place.box_px): place for place in moment.places}
    return tuple(found.values()) if annotated else None


def draw_places(rgb: RgbArray, places: Iterable[Place], *, size_px: tuple[int, int]) -> RgbArray:
    """A copy of a picture with boxes, edges of masks and points drawn on it; thin where something is hidden.

    rgb: uint8[h, w, 3] of any size. size_px: (width, height) of the picture that the places refer to.
    """
    canvas = np.array(rgb, dtype=np.uint8, order="C")
    style = Style.of_size(canvas.shape[1], canvas.shape[0])
    scale = np.array([canvas.shape[1] / size_px[0], canvas.shape[0] / size_px[1]])
    for place in places:
        colour = colour_of(place.object_id)
        width_px = 1 if place.occluded else max(2, round(style.trail_px * 0.8))
        for edge in _edges(place, canvas, scale):
            if not place.occluded:
                cv2.polylines(canvas, [edge], True, DARK, width_px + 2, cv2.LINE_AA)
            cv2.polylines(canvas, [edge], True, colour, width_px, cv2.LINE_AA)
        if place.x_px is not None and place.y_px is not None:
            _dot(canvas, np.array([place.x_px, place.y_px]) * scale, style, colour)
    return canvas


def _edges(place: Place, canvas: RgbArray, scale: npt.NDArray[np.float64]) -> list[Edge]:
    """Closed lines int32[n, 2], pixels of the canvas."""
    edges: list[Edge] = []
    if place.box_px is not None:
        left, top, right, bottom = place.box_px
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) * scale
        # Coordinates are edges of pixels, and the right and bottom edge of the picture are no pixels of it.
        last = np.array([canvas.shape[1] - 1, canvas.shape[0] - 1])
        edges.append(np.rint(np.minimum(corners, last)).astype(np.int32))
    if place.mask is not None:
        size = (canvas.shape[1], canvas.shape[0])
        mask = cv2.resize(place.mask.decode().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        edges += [np.asarray(edge, dtype=np.int32).reshape(-1, 2) for edge in outlines]
    return edges


def _dot(canvas: RgbArray, at: npt.NDArray[np.float64], style: Style, colour: Rgb) -> None:
    spot = (round(float(at[0]) - 0.5), round(float(at[1]) - 0.5))
    for radius_px, ink in (
        (style.dot_radius_px + 2 * style.halo_px, DARK),
        (style.dot_radius_px + style.halo_px, LIGHT),
        (style.dot_radius_px, colour),
    ):
        cv2.circle(canvas, spot, max(1, round(radius_px)), ink, cv2.FILLED, cv2.LINE_AA)

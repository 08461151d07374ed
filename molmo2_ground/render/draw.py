"""A result drawn on one picture: masks, dots with their numbers, trails, the question and the time.

A filled dot is where the model saw the object in this very frame. A hollow one lies on the line between two
sightings that follow each other in what the model looked at; where a mask shows the object, it is moved onto
it. Where the model looked and did not see the object, nothing is drawn, or with `hidden` a ring of dashes
where it was seen last. A lone sighting is echoed by a ring that grows and fades.

A mask is a veil in the object's colour with an outline. One that is not to be trusted (`Mask.flags`) is an
outline of dashes without the veil, and one that covers the picture is not drawn: the dot says where it is.

The shapes are OpenCV's: they touch only the pixels they cover, a few microseconds each. supervision's
annotators draw on whole-frame copies, know no hollow dot and no gap, and take seconds to import; how much
longer its masks take is measured by benchmarks/render.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from molmo2_ground._wanted import NUMBER
from molmo2_ground.clip import RgbArray
from molmo2_ground.render.canvas import Canvas
from molmo2_ground.render.labels import Box, Seating, Wish
from molmo2_ground.render.overlay import Drawable, Overlay, holds
from molmo2_ground.render.silhouette import Silhouette
from molmo2_ground.render.text import Plate, clock, stamp
from molmo2_ground.render.trajectory import Gap, Mark, Place, Result, Scene, Timeline
from molmo2_ground.results import MASKS, Answer, Count, Mask, Masks, Tracks

_LEGEND_DOTS = "● seen   ○ between two sightings"
_LEGEND_HIDDEN = "◌ hidden, was last seen here"
_LEGEND_DOUBTFUL = "⬚ doubtful mask"
_FEW_OBJECTS = 3  # up to this many, every dot carries the label in words even when all labels are the same


def draw(
    frame_rgb: RgbArray,
    result: Result,
    *,
    masks: Masks | None = None,
    time_s: float | None = None,
    trail_s: float = 2.0,
    source_index: int | None = None,
    hidden: bool = False,
    zones: Sequence[Drawable] = (),
) -> RgbArray:
    """A copy of a picture with a result drawn on it.

    frame_rgb is uint8[h, w, 3] of any size, showing the whole source picture. `masks` are the result's own.
    time_s is the frame's time in seconds, needed for results of a video. `trail_s` is how many seconds of
    the past a trail shows. `source_index` picks the image when the result is about several, and the frame
    whose masks are drawn; without it the masks of this time are. `hidden` marks where an object was last
    seen while the model looks for it and does not see it. `zones` are drawn with how many objects are
    inside. For many frames of one result make one `Painter` instead, which sorts the result once.
    Raises `ValueError` for a picture of another kind, or a missing time.
    """
    NUMBER.or_nothing().check("time_s", time_s)
    painter = Painter(result, masks=masks, trail_s=trail_s, hidden=hidden, zones=zones)
    return painter.paint(frame_rgb, time_s=time_s, source_index=source_index)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """One object as it stands in a picture: with a dot, with a mask, or with both."""

    object_id: int
    label: str
    place: Place
    mark: Mark | None
    around: Box | None


class Painter:
    """Draws one result on picture after picture; arguments as of `draw`."""

    def __init__(
        self,
        result: Result,
        *,
        masks: Masks | None = None,
        trail_s: float = 2.0,
        hidden: bool = False,
        zones: Sequence[Drawable] = (),
    ) -> None:
        NUMBER.check("trail_s", trail_s)
        MASKS.or_nothing().check("masks", masks)
        if not trail_s >= 0:
            raise ValueError(f"trail_s is a length in seconds, 0 or more; got {trail_s}")
        self._timeline = Timeline(result)
        self._trail_s = trail_s
        self._seating = Seating()
        self._masks = masks
        self._mask_times = _times_of(masks)
        self._hidden = hidden
        self._legend = self._legend_of(masks)
        receipt = self._timeline.receipt
        overlays = Overlay.of_all(zones)
        self._zones = [(overlay, overlay.corners_norm(receipt.size_px)) for overlay in overlays]
        query = receipt.query
        self._title = f"{query}: {result.value}" if isinstance(result, Count) else query
        followed = result.tracks if isinstance(result, Answer) else result
        # Of one object the dot itself says whether it is in view.
        self._counted = isinstance(followed, Tracks) and len(followed) > 1
        # Many dots that all say the same are easier to read by their numbers: the words stand in the title.
        self._worded = len(self._timeline.labels) > 1 or len(self._timeline.object_ids) <= _FEW_OBJECTS

    def paint(
        self,
        frame_rgb: RgbArray,
        *,
        time_s: float | None = None,
        source_index: int | None = None,
        caption: bool = True,
    ) -> RgbArray:
        """A copy of `frame_rgb` with the result drawn on it; arguments as of `draw`.

        `caption=False` leaves out the question, the time and the legend.
        """
        _check_picture(frame_rgb)
        copy = np.array(frame_rgb, dtype=np.uint8, order="C")
        self.paint_over(copy, time_s=time_s, source_index=source_index, caption=caption)
        return copy

    def paint_over(
        self,
        frame_rgb: RgbArray,
        *,
        time_s: float | None = None,
        source_index: int | None = None,
        caption: bool = True,
    ) -> None:
        """Draw on `frame_rgb` itself, which saves copying a large picture; else as `paint`.

        Raises `ValueError` also when it cannot be written to or its pixels do not follow each other in
        memory.
        """
        _check_picture(frame_rgb)
        if not (frame_rgb.flags.writeable and frame_rgb.flags.c_contiguous):
            raise ValueError(
                "to be drawn on, a picture must be writeable and in one piece; `paint` makes a copy"
            )
        if time_s is None and self._timeline.legs:
            raise ValueError("this result is about a video: give the frame's time_s in seconds")
        canvas = Canvas(frame_rgb)
        timeline = self._timeline
        scene = timeline.still(source_index) if time_s is None else timeline.at(time_s, trail_s=self._trail_s)
        silhouettes = self._silhouettes(canvas, self._masks_at(source_index, time_s))
        scene, shown = self._joined(canvas, scene, silhouettes)
        hidden = self._hidden_at(time_s, shown)
        for zone, corners in self._zones:
            canvas.zone(corners, closed=zone.closed)
        canvas.masks(silhouettes)
        canvas.spare(mark.place for mark in scene.marks if mark.state != "observed")
        for mark in scene.marks:
            canvas.trail(mark)
        for echo in scene.echoes:
            canvas.echo(echo)
        for gap in hidden:
            canvas.last_seen(gap)
        taken = self._caption(canvas, shown, time_s) if caption else []
        taken += self._name_zones(canvas, shown, taken)
        for mark in scene.marks:  # after the caption: a dot beneath it is still to be seen
            canvas.dot(mark)
        self._label(canvas, shown, hidden, taken)

    def _hidden_at(self, time_s: float | None, shown: Sequence[_Shown]) -> list[Gap]:
        """What was last seen somewhere and is not in this picture, when that is to be drawn."""
        if not self._hidden or time_s is None:
            return []
        in_sight = {one.object_id for one in shown}
        return [gap for gap in self._timeline.hidden_at(time_s) if gap.object_id not in in_sight]

    def _masks_at(self, source_index: int | None, time_s: float | None) -> tuple[Mask, ...]:
        if self._masks is None:
            return ()
        if source_index is not None:
            return self._masks.in_frame(source_index)
        if time_s is None:
            frames = self._masks.source_indices
            return self._masks.in_frame(frames[0]) if len(frames) == 1 else ()
        near_s, times = self._timeline.same_frame_s, self._mask_times
        at = bisect_left(times, (time_s - near_s, -1))
        close = [(abs(t - time_s), index) for t, index in times[at : at + 3] if abs(t - time_s) <= near_s]
        return self._masks.in_frame(min(close)[1]) if close else ()

    def _silhouettes(self, canvas: Canvas, masks: Sequence[Mask]) -> list[Silhouette]:
        made = (
            Silhouette.of(mask, width_px=canvas.width_px, height_px=canvas.height_px)
            for mask in masks
            if "covers_frame" not in mask.flags
        )
        return [silhouette for silhouette in made if silhouette is not None]

    def _joined(
        self, canvas: Canvas, scene: Scene, silhouettes: Sequence[Silhouette]
    ) -> tuple[Scene, list[_Shown]]:
        """The scene with its places between sightings moved onto the masks, and every object of it."""
        of_object = {silhouette.object_id: silhouette for silhouette in silhouettes}
        marks = tuple(_onto(mark, of_object.get(mark.object_id), canvas) for mark in scene.marks)
        shown = [
            _Shown(
                object_id=mark.object_id,
                label=mark.label,
                place=mark.place,
                mark=mark,
                around=_around(mark, of_object.get(mark.object_id), canvas),
            )
            for mark in marks
        ]
        with_dot = {mark.object_id for mark in marks}
        labels = self._masks.labels if self._masks is not None else {}
        for silhouette in silhouettes:
            if silhouette.object_id not in with_dot:
                box = silhouette.box
                middle = ((box.left_px + box.right_px) / 2, (box.top_px + box.bottom_px) / 2)
                shown.append(
                    _Shown(
                        object_id=silhouette.object_id,
                        label=labels.get(silhouette.object_id, ""),
                        place=canvas.place_of(*silhouette.nearest_inside(*middle)),
                        mark=None,
                        around=box,
                    )
                )
        return replace(scene, marks=marks), shown

    def _caption(self, canvas: Canvas, shown: Sequence[_Shown], time_s: float | None) -> list[Box]:
        return canvas.caption(self._title, facts=self._facts(shown, time_s), legend=self._legend)

    def _legend_of(self, masks: Masks | None) -> list[str]:
        legend = []
        if any(len(leg.samples) > 1 for leg in self._timeline.legs):
            legend.append(_LEGEND_DOTS)
        if self._hidden and self._timeline.gaps:
            legend.append(_LEGEND_HIDDEN)
        if masks is not None and any(mask.flags for mask in masks):
            legend.append(_LEGEND_DOUBTFUL)
        return legend

    def _facts(self, shown: Sequence[_Shown], time_s: float | None) -> list[str]:
        """What must stay readable in the caption, however long the question is."""
        facts = [] if time_s is None else [clock(time_s)]
        if not self._timeline.object_ids:
            facts.append("none found")
        elif not shown:
            facts.append("not seen")
        elif self._counted:
            facts.append(f"{len(shown)} in view")
        return facts

    def _name_zones(self, canvas: Canvas, shown: Sequence[_Shown], taken: Sequence[Box]) -> list[Box]:
        named: list[Box] = []
        for zone, corners in self._zones:
            inside = sum(holds(corners, one.place.x_norm, one.place.y_norm) for one in shown)
            note = zone.note if zone.note is not None else str(inside) if zone.closed else ""
            text = f"{zone.name}: {note}" if zone.name and note else zone.name or note
            box = canvas.name_zone(corners, text, taken=[*taken, *named])
            if box is not None:
                named.append(box)
        return named

    def _label(
        self, canvas: Canvas, shown: Sequence[_Shown], hidden: Sequence[Gap], taken: Sequence[Box]
    ) -> None:
        wishes: list[Wish] = []
        plates: list[list[Plate]] = []
        for one in shown:
            dot = canvas.dot_box(one.place) if one.mark is not None else None
            plates.append(canvas.label_plates(one.object_id, one.label if self._worded else ""))
            wishes.append(_wish(one.object_id, plates[-1], dot=dot, around=one.around))
        for gap in hidden:
            state = "hidden" if gap.returns else "not seen"
            words = f"{state}: {gap.label}" if self._worded and gap.label else state
            plates.append(canvas.label_plates(gap.object_id, words, faint=True))
            wishes.append(_wish(gap.object_id, plates[-1], dot=canvas.ring_box(gap.place)))
        seats = self._seating.seat(
            wishes,
            width_px=canvas.width_px,
            height_px=canvas.height_px,
            gap_px=canvas.style.gap_px,
            taken=taken,
        )
        for seat, choices in zip(seats, plates, strict=True):
            if seat is not None:
                stamp(canvas.rgb, choices[seat.size_index], left_px=seat.box.left_px, top_px=seat.box.top_px)


def _wish(object_id: int, plates: Sequence[Plate], *, dot: Box | None, around: Box | None = None) -> Wish:
    sizes_px = tuple((plate.width_px, plate.height_px) for plate in plates)
    return Wish(object_id=object_id, dot=dot, sizes_px=sizes_px, around=around)


def _onto(mark: Mark, silhouette: Silhouette | None, canvas: Canvas) -> Mark:
    """A place between two sightings, moved to the nearest pixel of the object; a sighting stays as it is."""
    if silhouette is None or not silhouette.trusted or mark.state == "observed":
        return mark
    x_px, y_px = mark.place.x_norm * canvas.width_px, mark.place.y_norm * canvas.height_px
    place = canvas.place_of(*silhouette.nearest_inside(x_px, y_px))
    return replace(mark, place=place, trail=(*mark.trail[:-1], place) if mark.trail else ())


def _around(mark: Mark, silhouette: Silhouette | None, canvas: Canvas) -> Box | None:
    """The box that the label of a dot stands outside of: that of its mask, when the dot lies in it."""
    if silhouette is None or not silhouette.box.meets(canvas.dot_box(mark.place)):
        return None
    return silhouette.box


def _times_of(masks: Masks | None) -> list[tuple[float, int]]:
    """Time (seconds) and number of every frame that has masks, rising."""
    if masks is None:
        return []
    return sorted({(mask.time_s, mask.source_index) for mask in masks if mask.time_s is not None})


def _check_picture(rgb: RgbArray) -> None:
    if not isinstance(rgb, np.ndarray):
        raise ValueError(f"a picture is uint8[height, width, 3]; got {type(rgb).__name__}")
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"a picture is uint8[height, width, 3]; got {rgb.dtype}{list(rgb.shape)}")

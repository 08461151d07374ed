"""A result drawn on one picture: dots with their numbers, trails, the question and the time.

A filled dot is where the model saw the object in this very frame. A hollow one lies on the line between two
sightings that follow each other in what the model looked at. Where the model looked and did not see the
object, nothing is drawn. A lone sighting is echoed by a ring that grows and fades.

The shapes are OpenCV's: they touch only the pixels they cover, a few microseconds each. supervision's
annotators draw on whole-frame copies, know no hollow dot and no gap, and take seconds to import.
"""

from __future__ import annotations

import cv2
import numpy as np

from molmo2_ground.clip import RgbArray
from molmo2_ground.render.labels import Box, Seating, Wish
from molmo2_ground.render.style import DARK, LIGHT, Rgb, Style, colour_of, ink_on
from molmo2_ground.render.text import Plate, clock, fitted, plate, stamp, text_width_px
from molmo2_ground.render.trajectory import Echo, Mark, Place, Result, Scene, Timeline
from molmo2_ground.results import Count

_SHIFT = 4  # OpenCV reads coordinates in sixteenths of a pixel, so that dots glide instead of jumping
_LEGEND = "● seen   ○ between two sightings"
_SEPARATOR = " · "
_SHORTEST_TITLE = 6  # letters; a question cut shorter than this says nothing
_GROUND_COVER = 0.78  # of the plates with question, time and legend: the picture stays visible beneath
_FEW_OBJECTS = 3  # up to this many, every dot carries the label in words even when all labels are the same


def draw(
    frame_rgb: RgbArray,
    result: Result,
    *,
    time_s: float | None = None,
    trail_s: float = 2.0,
    source_index: int | None = None,
) -> RgbArray:
    """A copy of a picture with a result drawn on it.

    frame_rgb is uint8[h, w, 3] of any size, showing the whole source picture. time_s is the frame's time in
    seconds, needed for results of a video. `trail_s` is how many seconds of the past a trail shows.
    `source_index` picks the image when the result is about several. For many frames of one result make one
    `Painter` instead, which sorts the result once.
    Raises `ValueError` for a picture of another kind, or a missing time.
    """
    return Painter(result, trail_s=trail_s).paint(frame_rgb, time_s=time_s, source_index=source_index)


class Painter:
    """Draws one result on picture after picture."""

    def __init__(self, result: Result, *, trail_s: float = 2.0) -> None:
        if trail_s < 0:
            raise ValueError(f"trail_s is a length in seconds, 0 or more; got {trail_s}")
        self._timeline = Timeline(result)
        self._trail_s = trail_s
        self._seating = Seating()
        query = self._timeline.receipt.query
        self._title = f"{query}: {result.value}" if isinstance(result, Count) else query
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
        if (
            frame_rgb.dtype != np.uint8
            or frame_rgb.ndim != 3
            or frame_rgb.shape[2] != 3
            or 0 in frame_rgb.shape
        ):
            raise ValueError(
                f"a picture is uint8[height, width, 3]; got {frame_rgb.dtype}{list(frame_rgb.shape)}"
            )
        if time_s is None and self._timeline.legs:
            raise ValueError("this result is about a video: give the frame's time_s in seconds")
        canvas = _Canvas(frame_rgb)
        timeline = self._timeline
        scene = timeline.still(source_index) if time_s is None else timeline.at(time_s, trail_s=self._trail_s)
        for mark in scene.marks:
            canvas.trail(mark)
        for echo in scene.echoes:
            canvas.echo(echo)
        taken = self._caption(canvas, scene, time_s) if caption else []
        for mark in scene.marks:  # after the caption: a dot beneath it is still to be seen
            canvas.dot(mark)
        self._label(canvas, scene, taken)
        return canvas.rgb

    def _caption(self, canvas: _Canvas, scene: Scene, time_s: float | None) -> list[Box]:
        legend = any(len(leg.samples) > 1 for leg in self._timeline.legs)
        return canvas.caption(self._title, facts=self._facts(scene, time_s), legend=legend)

    def _facts(self, scene: Scene, time_s: float | None) -> list[str]:
        """What must stay readable in the caption, however long the question is."""
        facts = [] if time_s is None else [clock(time_s)]
        if not self._timeline.object_ids:
            facts.append("none found")
        elif not scene.marks:
            facts.append("not seen")
        return facts

    def _label(self, canvas: _Canvas, scene: Scene, taken: list[Box]) -> None:
        plates = [canvas.label_plates(mark, worded=self._worded) for mark in scene.marks]
        wishes = [
            Wish(
                object_id=mark.object_id,
                dot=canvas.dot_box(mark.place),
                sizes_px=tuple((p.width_px, p.height_px) for p in choices),
            )
            for mark, choices in zip(scene.marks, plates, strict=True)
        ]
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


class _Canvas:
    """A copy of a picture, being drawn on."""

    def __init__(self, before: RgbArray) -> None:
        self.before = before
        self.rgb = np.array(before, dtype=np.uint8, order="C")
        self.height_px, self.width_px = int(before.shape[0]), int(before.shape[1])
        self.style = Style.of_size(self.width_px, self.height_px)

    def trail(self, mark: Mark) -> None:
        """Where the object was, thin at the old end."""
        spots = [self._sixteenths(place) for place in mark.trail]
        if len(spots) < 2:
            return
        colour, newest_px = colour_of(mark.object_id), self.style.trail_px
        widths_px = [
            max(1, round(newest_px * (0.35 + 0.65 * (i + 1) / (len(spots) - 1))))
            for i in range(len(spots) - 1)
        ]
        edge_px = max(1, round(self.style.halo_px * 0.6))
        for ink, extra_px in ((DARK, 2 * edge_px), (colour, 0)):
            for start, end, width_px in zip(spots, spots[1:], widths_px, strict=False):
                cv2.line(self.rgb, start, end, ink, width_px + extra_px, cv2.LINE_AA, _SHIFT)

    def dot(self, mark: Mark) -> None:
        """A filled dot for a sighting, a hollow one for any other place; a core marks a carried one."""
        spot, style, colour = self._sixteenths(mark.place), self.style, colour_of(mark.object_id)
        if mark.state == "observed":
            self._disc(spot, style.dot_radius_px + 2 * style.halo_px, DARK)
            self._disc(spot, style.dot_radius_px + style.halo_px, LIGHT)
            self._disc(spot, style.dot_radius_px, colour)
            return
        self._disc(spot, style.dot_radius_px + 2 * style.halo_px, DARK)
        self._disc(spot, style.dot_radius_px + style.halo_px, colour)
        self._hole(mark.place, style.dot_radius_px + style.halo_px - max(1.0, style.ring_px))
        if mark.state == "propagated":
            self._disc(spot, max(1.0, style.dot_radius_px * 0.35), colour)

    def echo(self, echo: Echo) -> None:
        """A ring around a moment that has passed: the wider and paler, the longer ago."""
        radius_px = self.style.dot_radius_px * (1.4 + 2.2 * echo.share)
        box = self._box(echo.place, radius_px + self.style.ring_px + 2).clipped(self.width_px, self.height_px)
        if box.empty:
            return
        under = self.rgb[box.top_px : box.bottom_px, box.left_px : box.right_px]
        before = under.copy()
        self._ring(self._sixteenths(echo.place), radius_px, self.style.ring_px, colour_of(echo.object_id))
        cv2.addWeighted(under, 1 - echo.share, before, echo.share, 0, dst=before)
        under[:] = before

    def caption(self, title: str, *, facts: list[str], legend: bool) -> list[Box]:
        """Time and question at the top left, the legend at the bottom left; the boxes they take."""
        margin_px = self.style.pad_px * 2
        room_px = self.width_px - 2 * margin_px
        top = self._ground_plate(_SEPARATOR.join([*facts, title] if title else facts), room_px)
        if top is None:
            # The question gives way to time and finding; on a picture too small even for those, nothing is
            # written.
            rest_px = room_px - text_width_px(_SEPARATOR.join([*facts, ""]), text_px=self.style.text_px)
            short = fitted(title, text_px=self.style.text_px, width_px=rest_px - 2 * self.style.pad_px)
            words = [*facts, short] if len(short) >= _SHORTEST_TITLE else facts
            top = self._ground_plate(_SEPARATOR.join(words), room_px)
        taken = [] if top is None else [self._stamp(top, margin_px, margin_px)]
        # On a small picture the legend would cover what it explains.
        if legend and self.height_px >= 20 * self.style.text_px:
            bottom = self._ground_plate(_LEGEND, self.width_px * 3 // 5)
            if bottom is not None:
                taken.append(self._stamp(bottom, margin_px, self.height_px - margin_px - bottom.height_px))
        return taken

    def label_plates(self, mark: Mark, *, worded: bool) -> list[Plate]:
        """What may stand beside a dot, the best first: number and words, or the number alone."""
        ground = colour_of(mark.object_id)
        number = str(mark.object_id)
        texts = [number]
        if worded and mark.label:
            room_px = round(self.width_px * 0.3)
            words = fitted(f"{number} {mark.label}", text_px=self.style.text_px, width_px=room_px)
            if words.startswith(f"{number} "):
                texts.insert(0, words)
        return [self._plate(text, ink=ink_on(ground), ground=ground) for text in texts]

    def dot_box(self, place: Place) -> Box:
        """The square that a dot and its halo cover."""
        return self._box(place, self.style.dot_radius_px + 2 * self.style.halo_px)

    def _ground_plate(self, text: str, room_px: int) -> Plate | None:
        """The text on a dark ground, or None when it is empty or wider than `room_px`."""
        style = self.style
        if not text or text_width_px(text, text_px=style.text_px) + 2 * style.pad_px > room_px:
            return None
        return self._plate(text, ink=LIGHT, ground=DARK, cover=_GROUND_COVER)

    def _plate(self, text: str, *, ink: Rgb, ground: Rgb, cover: float = 1.0) -> Plate:
        return plate(
            text, text_px=self.style.text_px, pad_px=self.style.pad_px, ink=ink, ground=ground, cover=cover
        )

    def _stamp(self, what: Plate, left_px: int, top_px: int) -> Box:
        stamp(self.rgb, what, left_px=left_px, top_px=top_px)
        return Box(
            left_px=left_px,
            top_px=top_px,
            right_px=left_px + what.width_px,
            bottom_px=top_px + what.height_px,
        )

    def _sixteenths(self, place: Place) -> tuple[int, int]:
        # Results count from the outer corner of the first pixel, OpenCV from its centre: half a pixel
        # between.
        scale = 1 << _SHIFT
        return (
            round((place.x_norm * self.width_px - 0.5) * scale),
            round((place.y_norm * self.height_px - 0.5) * scale),
        )

    def _box(self, place: Place, reach_px: float) -> Box:
        x_px, y_px = place.x_norm * self.width_px, place.y_norm * self.height_px
        return Box(
            left_px=int(np.floor(x_px - reach_px)),
            top_px=int(np.floor(y_px - reach_px)),
            right_px=int(np.ceil(x_px + reach_px)),
            bottom_px=int(np.ceil(y_px + reach_px)),
        )

    def _disc(self, spot: tuple[int, int], radius_px: float, ink: Rgb) -> None:
        cv2.circle(self.rgb, spot, round(radius_px * (1 << _SHIFT)), ink, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def _hole(self, place: Place, radius_px: float) -> None:
        """Let the untouched picture show through a circle."""
        box = self._box(place, radius_px + 1).clipped(self.width_px, self.height_px)
        if box.empty:
            return
        rows, columns = slice(box.top_px, box.bottom_px), slice(box.left_px, box.right_px)
        y_px = np.arange(box.top_px, box.bottom_px) + 0.5 - place.y_norm * self.height_px
        x_px = np.arange(box.left_px, box.right_px) + 0.5 - place.x_norm * self.width_px
        reach_px = np.hypot(y_px[:, None], x_px[None, :])
        share = np.clip(radius_px + 0.5 - reach_px, 0, 1).astype(np.float32)[:, :, None]
        drawn, before = self.rgb[rows, columns], self.before[rows, columns]
        self.rgb[rows, columns] = np.rint(drawn + share * (before.astype(np.float32) - drawn))

    def _ring(self, spot: tuple[int, int], radius_px: float, width_px: float, ink: Rgb) -> None:
        radius = round(radius_px * (1 << _SHIFT))
        cv2.circle(self.rgb, spot, radius, ink, max(1, round(width_px)), cv2.LINE_AA, _SHIFT)

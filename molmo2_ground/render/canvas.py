"""`Canvas`: a picture being drawn on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import RgbArray
from molmo2_ground.render.labels import Box
from molmo2_ground.render.silhouette import Silhouette, trace, trace_dashed
from molmo2_ground.render.style import DARK, LIGHT, Rgb, Style, colour_of, ink_on
from molmo2_ground.render.text import Plate, fitted, plate, stamp, text_width_px
from molmo2_ground.render.trajectory import Echo, Gap, Mark, Place

_SHIFT = 4  # OpenCV reads coordinates in sixteenths of a pixel, so that dots glide instead of jumping
_SEPARATOR = " · "
_SHORTEST_TITLE = 6  # letters; a question cut shorter than this says nothing
HIDDEN_RADIUS = 1.9  # of the dashed ring of a hidden object, in radii of a dot
_HIDDEN_DASHES = 6
_EDGED_PX = 200
_GROUND_COVER = 0.78  # of the plates with question, time and legend: the picture stays visible beneath


class Canvas:
    """A picture being drawn on, in place: `rgb`, uint8[h, w, 3]."""

    def __init__(self, rgb: RgbArray) -> None:
        self.rgb = rgb
        self.height_px, self.width_px = int(rgb.shape[0]), int(rgb.shape[1])
        self.style = Style.of_size(self.width_px, self.height_px)
        self._beneath: list[tuple[Box, RgbArray]] = []  # of each hollow dot, as it was before trails

    def zone(self, corners: npt.NDArray[np.float64], *, closed: bool) -> None:
        """An area or a line that stands still; corners float64[n, 2] in shares of width and height."""
        spots = np.array([self._sixteenths(Place(x_norm=x, y_norm=y)) for x, y in corners], dtype=np.int32)
        width_px = self.style.outline_px
        for ink, thick_px in ((DARK, 2 * width_px), (LIGHT, width_px)):
            cv2.polylines(self.rgb, [spots], closed, ink, max(1, round(thick_px)), cv2.LINE_AA, _SHIFT)

    def masks(self, silhouettes: Sequence[Silhouette]) -> None:
        """Objects veiled in their colours and outlined; a doubtful one only outlined, in dashes."""
        for silhouette in silhouettes:
            if silhouette.trusted:
                silhouette.fill(self.rgb, colour_of(silhouette.object_id))
        style = self.style
        for silhouette in silhouettes:
            colour, outlines = colour_of(silhouette.object_id), silhouette.outlines()
            if silhouette.trusted:
                # On a tiny picture a dark edge would hide the object itself.
                edge_px = style.outline_px * 0.5 if min(self.height_px, self.width_px) >= _EDGED_PX else 0.0
                trace(self.rgb, outlines, colour, width_px=style.outline_px, edge_px=edge_px)
            else:
                dash_px = 2 * style.dot_radius_px
                trace_dashed(self.rgb, outlines, colour, width_px=style.outline_px, dash_px=dash_px)

    def spare(self, places: Iterable[Place]) -> None:
        """Remember what is beneath hollow dots at these places, so that no trail shows through them."""
        for place in places:
            box = self.dot_box(place).clipped(self.width_px, self.height_px)
            if not box.empty:
                under = self.rgb[box.top_px : box.bottom_px, box.left_px : box.right_px]
                self._beneath.append((box, under.copy()))

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

    def last_seen(self, gap: Gap) -> None:
        """A ring of dashes, wider than a dot and empty: here it was seen last, and now it is not."""
        centre = np.array(self._sixteenths(gap.place), dtype=np.float64) / (1 << _SHIFT)
        radius_px = self.style.dot_radius_px * HIDDEN_RADIUS
        for start in range(_HIDDEN_DASHES):
            angles = 2 * np.pi * (start + np.linspace(0, 0.3, 7)) / _HIDDEN_DASHES
            arc = centre + radius_px * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            spots = np.rint(arc * (1 << _SHIFT)).astype(np.int32)
            thick_px = self.style.ring_px * 0.7
            for ink, width_px in ((DARK, 1.6 * thick_px + 1), (colour_of(gap.object_id), thick_px)):
                cv2.polylines(self.rgb, [spots], False, ink, max(1, round(width_px)), cv2.LINE_AA, _SHIFT)

    def caption(self, title: str, *, facts: list[str], legend: Sequence[str]) -> list[Box]:
        """Time and question at the top left, the legend at the bottom left; the boxes they take."""
        margin_px = self.style.pad_px * 2
        taken, left_px = [], margin_px
        for words in self._caption_texts(title, facts, self.width_px - 2 * margin_px):
            top = self._ground_plate(words, self.width_px - margin_px - left_px)
            if top is not None:
                taken.append(self._stamp(top, left_px, margin_px))
                left_px += top.width_px
        # On a small picture the legend would cover what it explains.
        if self.height_px >= 20 * self.style.text_px:
            bottom_px = self.height_px - margin_px
            for line in reversed(self._legend_lines(legend)):
                bottom_px -= line.height_px
                taken.append(self._stamp(line, margin_px, bottom_px))
        return taken

    def _caption_texts(self, title: str, facts: Sequence[str], room_px: int) -> list[str]:
        """What the caption says, in pieces that stand side by side.

        The first fact, which changes with every picture, is a piece of its own: the long rest is then
        lettered once. The question gives way to the facts when there is no room for both.
        """
        style = self.style

        def rest(words: Sequence[str]) -> str:
            return _SEPARATOR.join(words) if not facts else f"· {_SEPARATOR.join(words)}" if words else ""

        def width_px(text: str) -> int:
            return text_width_px(text, text_px=style.text_px) + 2 * style.pad_px if text else 0

        room_px -= width_px(facts[0]) if facts else 0
        whole = rest([*facts[1:], title] if title else facts[1:])
        if width_px(whole) > room_px:
            left_px = room_px - width_px(rest([*facts[1:], ""]))
            short = fitted(title, text_px=style.text_px, width_px=left_px)
            whole = rest([*facts[1:], short] if len(short) >= _SHORTEST_TITLE else facts[1:])
        return [text for text in (*facts[:1], whole) if text]

    def _legend_lines(self, entries: Sequence[str]) -> list[Plate]:
        """The entries in as few lines as fit in three fifths of the width; a longer one is left out."""
        room_px, lines, words = self.width_px * 3 // 5, [], ""
        for entry in entries:
            longer = f"{words}   {entry}" if words else entry
            if words and self._ground_plate(longer, room_px) is None:
                lines.append(words)
                longer = entry
            words = longer
        plates = [self._ground_plate(line, room_px) for line in (*lines, words)]
        return [plate for plate in plates if plate is not None]

    def label_plates(self, object_id: int, label: str, *, faint: bool = False) -> list[Plate]:
        """What may stand beside a dot, the best first: number and words, or the number alone.

        faint: on a dark ground instead of the object's colour, for an object that is not in sight.
        """
        ground = colour_of(object_id)
        number = str(object_id)
        texts = [number]
        if label:
            room_px = round(self.width_px * 0.3)
            words = fitted(f"{number} {label}", text_px=self.style.text_px, width_px=room_px)
            if words.startswith(f"{number} "):
                texts.insert(0, words)
        if faint:
            return [self._plate(text, ink=LIGHT, ground=DARK, cover=_GROUND_COVER) for text in texts]
        return [self._plate(text, ink=ink_on(ground), ground=ground) for text in texts]

    def title_plate(self, text: str) -> Plate | None:
        """A name on a dark ground, shortened to a third of the width."""
        room_px = self.width_px // 3
        short = fitted(text, text_px=self.style.text_px, width_px=room_px - 2 * self.style.pad_px)
        return self._ground_plate(short, room_px)

    def dot_box(self, place: Place) -> Box:
        """The square that a dot and its halo cover."""
        return self._box(place, self.style.dot_radius_px + 2 * self.style.halo_px)

    def ring_box(self, place: Place) -> Box:
        """The square that the ring of a hidden object covers."""
        return self._box(place, self.style.dot_radius_px * HIDDEN_RADIUS + self.style.halo_px)

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
        return _box_at(left_px, top_px, what)

    def place_of(self, x_px: float, y_px: float) -> Place:
        """The place at x and y, pixels of this picture."""
        return Place(x_norm=x_px / self.width_px, y_norm=y_px / self.height_px)

    def name_zone(self, corners: npt.NDArray[np.float64], text: str, *, taken: Sequence[Box]) -> Box | None:
        """Write a zone's name at its topmost corner, inside the picture; its box, None without room."""
        named = self.title_plate(text)
        if named is None:
            return None
        x, y = min(corners.tolist(), key=lambda corner: (corner[1], corner[0]))
        left_px = max(0, min(round(x * self.width_px), self.width_px - named.width_px))
        top_px = max(0, min(round(y * self.height_px), self.height_px - named.height_px))
        # Below the caption when both would stand at the top.
        for box in taken:
            wanted = _box_at(left_px, top_px, named)
            if wanted.meets(box):
                top_px = box.bottom_px
        if top_px + named.height_px > self.height_px:
            return None
        return self._stamp(named, left_px, top_px)

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
        """Let what was there before the trails show through a circle, where it was spared."""
        box = self.dot_box(place).clipped(self.width_px, self.height_px)
        before = next((under for spared, under in self._beneath if spared == box), None)
        if before is None:
            return
        rows, columns = slice(box.top_px, box.bottom_px), slice(box.left_px, box.right_px)
        y_px = np.arange(box.top_px, box.bottom_px) + 0.5 - place.y_norm * self.height_px
        x_px = np.arange(box.left_px, box.right_px) + 0.5 - place.x_norm * self.width_px
        reach_px = np.hypot(y_px[:, None], x_px[None, :])
        share = np.clip(radius_px + 0.5 - reach_px, 0, 1).astype(np.float32)[:, :, None]
        drawn = self.rgb[rows, columns]
        self.rgb[rows, columns] = np.rint(drawn + share * (before.astype(np.float32) - drawn))

    def _ring(self, spot: tuple[int, int], radius_px: float, width_px: float, ink: Rgb) -> None:
        radius = round(radius_px * (1 << _SHIFT))
        cv2.circle(self.rgb, spot, radius, ink, max(1, round(width_px)), cv2.LINE_AA, _SHIFT)


def _box_at(left_px: int, top_px: int, what: Plate) -> Box:
    right_px, bottom_px = left_px + what.width_px, top_px + what.height_px
    return Box(left_px=left_px, top_px=top_px, right_px=right_px, bottom_px=bottom_px)

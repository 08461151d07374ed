"""The frames that the model saw, with what it found in them: one picture for those without a player."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground._wanted import WHOLE
from molmo2_ground.clip import Clip, Frame, RgbArray
from molmo2_ground.errors import SourceError
from molmo2_ground.frame_times import FrameTimes, frame_s_of, name_of
from molmo2_ground.render.draw import Painter
from molmo2_ground.render.overlay import Drawable
from molmo2_ground.render.picture import write_picture
from molmo2_ground.render.style import DARK, LIGHT, Rgb
from molmo2_ground.render.text import clock, fitted, plate, stamp
from molmo2_ground.render.trajectory import Result, Timeline
from molmo2_ground.results import Count, Masks
from molmo2_ground.sightings import SAME_TIME_S
from molmo2_ground.sources import MediaLike, open_clip, probe

_SHEET_WIDTH_PX = 1600
_GAP_PX = 8
_PAPER: Rgb = (28, 30, 36)
_QUIET: Rgb = (150, 156, 168)
CAPTION_PX = 17  # font size
_CELL_PX = 200  # at least, so that a caption fits

_Key = TypeVar("_Key", int, float)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tile:
    """One frame that the model saw, made small, with the result drawn on it.

    rgb    uint8[h, w, 3];   plain  the same without the drawing;
    seen   how many objects the model saw in it.
    """

    rgb: RgbArray
    plain: RgbArray
    source_index: int
    time_s: float | None
    seen: int

    @property
    def caption(self) -> str:
        """When, and how much was seen."""
        if self.time_s is None:
            return f"image {self.source_index + 1} · {self.seen or 'none'} found"
        return f"{clock(self.time_s)} · {f'{self.seen} seen' if self.seen else 'not seen'}"


def tiles(
    media: MediaLike,
    result: Result,
    *,
    width_px: int,
    max_frames: int,
    masks: Masks | None = None,
    hidden: bool = False,
    zones: Sequence[Drawable] = (),
    times_s: Sequence[float] | None = None,
) -> list[Tile]:
    """At most `max_frames` of the frames that the model saw, at most `width_px` wide, with the result drawn.

    When there are more frames, they are spread evenly over the video, three quarters of them over the frames
    in which something was seen; or those at `times_s` of a video (seconds). masks, hidden, zones: as of
    `render`. Raises `SourceError` when the media cannot be read, `ValueError` as `render` for other media
    than the result's.
    """
    WHOLE.check("max_frames", max_frames)
    WHOLE.check("width_px", width_px)
    if max_frames < 1 or width_px < 16:
        raise ValueError(f"max_frames is 1 or more, width_px 16 or more; got {max_frames} and {width_px}")
    timeline = Timeline(result)
    painter = Painter(result, masks=masks, hidden=hidden, zones=zones)

    def shrink(rgb: RgbArray) -> RgbArray:
        return _shrunk(rgb, width_px)

    made = []
    for frame in _frames(media, timeline, max_frames, times_s=times_s, shrink=shrink):
        scene = (
            timeline.still(frame.source_index)
            if frame.time_s is None
            else timeline.at(frame.time_s, trail_s=0)
        )
        plain = shrink(frame.rgb)
        rgb = painter.paint(plain, time_s=frame.time_s, source_index=frame.source_index, caption=False)
        seen = sum(mark.state != "interpolated" for mark in scene.marks)
        made.append(
            Tile(rgb=rgb, plain=plain, source_index=frame.source_index, time_s=frame.time_s, seen=seen)
        )
    if not made:
        raise SourceError("none of the frames that the model saw is in this media: is it another file?")
    return made


def contact_sheet(
    media: MediaLike,
    result: Result,
    out_png: str | Path,
    *,
    columns: int = 4,
    max_frames: int = 16,
    masks: Masks | None = None,
    hidden: bool = False,
    zones: Sequence[Drawable] = (),
) -> Path:
    """Write one picture of the frames that the model saw, with dots, times and what was not seen.

    masks, hidden, zones: as of `render`. The suffix of `out_png` chooses the format: .png, .jpg, .jpeg or
    .webp. Raises `SourceError` when the media cannot be read, `ValueError` for another suffix, fewer than
    one column or, as `render`, another video than the result's.
    """
    WHOLE.check("columns", columns)
    if columns < 1:
        raise ValueError(f"a sheet has one column or more; got {columns}")
    made = tiles(
        media,
        result,
        width_px=tile_width_px(columns),
        max_frames=max_frames,
        masks=masks,
        hidden=hidden,
        zones=zones,
    )
    captions = [(tile.caption,) for tile in made]
    return write_picture(laid_out(made, captions, heading(result), columns=columns), Path(out_png))


def tile_width_px(columns: int) -> int:
    """How wide a picture is on a sheet with so many columns, pixels."""
    return min(720, max(_CELL_PX, _SHEET_WIDTH_PX // columns))


def heading(result: Result) -> str:
    """The question, with the number when it was one."""
    query = result.receipt.query
    return f"{query}: {result.value}" if isinstance(result, Count) else query


def laid_out(
    made: Sequence[Tile], captions: Sequence[Sequence[str]], title: str, *, columns: int
) -> RgbArray:
    """Tiles in rows of at most `columns` on dark paper, each with its lines of caption beneath."""
    columns = min(columns, len(made))
    cell_w_px = max(_CELL_PX, *(tile.rgb.shape[1] for tile in made))
    cell_h_px = max(tile.rgb.shape[0] for tile in made)
    line_px = plate("Ag", text_px=CAPTION_PX, pad_px=2, ink=LIGHT, ground=_PAPER).height_px
    row_px = cell_h_px + max(map(len, captions)) * line_px + _GAP_PX
    rows = -(-len(made) // columns)
    sheet = np.empty(
        (line_px + 2 * _GAP_PX + rows * row_px, columns * (cell_w_px + _GAP_PX) + _GAP_PX, 3), dtype=np.uint8
    )
    sheet[:] = _PAPER
    _write(sheet, title, left_px=_GAP_PX, top_px=_GAP_PX, room_px=sheet.shape[1] - 2 * _GAP_PX, ink=LIGHT)
    for i, (tile, lines) in enumerate(zip(made, captions, strict=True)):
        left_px = _GAP_PX + (i % columns) * (cell_w_px + _GAP_PX)
        top_px = line_px + 2 * _GAP_PX + (i // columns) * row_px
        height_px, width_px = tile.rgb.shape[:2]
        x_px, y_px = left_px + (cell_w_px - width_px) // 2, top_px + (cell_h_px - height_px) // 2
        sheet[top_px : top_px + cell_h_px, left_px : left_px + cell_w_px] = DARK
        sheet[y_px : y_px + height_px, x_px : x_px + width_px] = tile.rgb
        for number, line in enumerate(lines):
            ink = LIGHT if tile.seen and not number else _QUIET
            text_px = top_px + cell_h_px + number * line_px
            _write(sheet, line, left_px=left_px, top_px=text_px, room_px=cell_w_px, ink=ink)
    return sheet


def _write(sheet: RgbArray, text: str, *, left_px: int, top_px: int, room_px: int, ink: Rgb) -> None:
    words = fitted(text, text_px=CAPTION_PX, width_px=room_px - 4)
    if words:
        stamp(
            sheet,
            plate(words, text_px=CAPTION_PX, pad_px=2, ink=ink, ground=_PAPER),
            left_px=left_px,
            top_px=top_px,
        )


def _frames(
    media: MediaLike,
    timeline: Timeline,
    max_frames: int,
    *,
    times_s: Sequence[float] | None,
    shrink: Callable[[RgbArray], RgbArray],
) -> Iterator[Frame]:
    """The frames to show, read again from the media."""
    kind, checked = _checked(media, timeline)
    if kind == "images":
        clip = media if isinstance(media, Clip) else open_clip(media)
        with_points = {point.source_index for point in timeline.stills}
        shown = _chosen([f.source_index for f in clip.frames], max_frames, seen=with_points)
        yield from (frame for frame in clip.frames if frame.source_index in shown)
        return
    if times_s is None:
        seen_s = {time_s for leg in timeline.legs for time_s in leg.times_s}
        times_s = list(_chosen(timeline.looked_s or sorted(seen_s), max_frames, seen=seen_s))
    wanted = np.array(sorted(times_s), dtype=np.float64)
    if isinstance(media, Clip):
        for frame in media.frames:
            if not wanted.size or np.abs(wanted - (frame.time_s or 0.0)).min() <= SAME_TIME_S:
                yield frame
        return

    def wanted_s(duration_s: float) -> npt.NDArray[np.float64]:
        # A hair later than the frame's own time, so that a rounding does not fetch the frame before.
        return wanted + SAME_TIME_S

    yield from checked(open_clip(media, times=wanted_s if wanted.size else None, resize=shrink).frames)


def _checked(
    media: MediaLike, timeline: Timeline
) -> tuple[str, Callable[[Iterable[Frame]], Iterator[Frame]]]:
    """`video` or `images`, and what looks at each frame of a file before it is shown.

    Both raise `ValueError` for other media than the result's.
    """
    if isinstance(media, Clip):
        return media.kind, iter
    info, times, name = probe(media), FrameTimes.of(timeline.receipt), name_of(media)
    size_px, frame_s = (info.width_px, info.height_px), frame_s_of(info.fps)
    times.check_drawn(info.kind, size_px, name=name, duration_s=info.duration_s, frame_s=frame_s)

    def checked(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            times.check_shown(frame, name=name, frame_s=frame_s)
            yield frame

    return info.kind, checked


def _chosen(items: Sequence[_Key], max_items: int, *, seen: Collection[_Key]) -> set[_Key]:
    """At most `max_items` of the items, evenly spread; those in `seen` get three quarters of the places."""
    if len(items) <= max_items:
        return set(items)
    ordered = sorted(seen)
    with_sight: list[_Key] = [item for item in items if _close(item, ordered)]
    without: list[_Key] = [item for item in items if not _close(item, ordered)]
    kept: list[_Key] = _spread(with_sight, max(-(-max_items * 3 // 4), max_items - len(without)))
    kept += _spread(without, max_items - len(kept))
    return set(kept)


def _close(item: float, ordered: Sequence[float]) -> bool:
    """True when one of the rising numbers is the item, but for rounding."""
    at = bisect_left(ordered, item - SAME_TIME_S)
    return at < len(ordered) and ordered[at] <= item + SAME_TIME_S


def _spread(items: Sequence[_Key], count: int) -> list[_Key]:
    """`count` of the items in their order, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[len(items) // 2]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)] if count else []


def _shrunk(rgb: RgbArray, width_px: int) -> RgbArray:
    """At most `width_px` wide and 1.25 times as high; never larger than it was."""
    height_px, full_px = rgb.shape[:2]
    scale = min(1.0, width_px / full_px, 1.25 * width_px / height_px)
    size_px = (max(1, round(full_px * scale)), max(1, round(height_px * scale)))
    if size_px == (full_px, height_px):
        return rgb
    return np.asarray(cv2.resize(rgb, size_px, interpolation=cv2.INTER_AREA), dtype=np.uint8)

"""The story of a video in one picture: when things were first seen, hidden, seen again and seen last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from molmo2_ground._wanted import WHOLE
from molmo2_ground.render.moments import Moment, moments
from molmo2_ground.render.overlay import Drawable
from molmo2_ground.render.picture import write_picture
from molmo2_ground.render.sheet import CAPTION_PX, heading, laid_out, tile_width_px, tiles
from molmo2_ground.render.text import text_width_px
from molmo2_ground.render.trajectory import Result, Timeline
from molmo2_ground.results import Masks
from molmo2_ground.sources import MediaLike

_SEPARATOR = " · "


def storyboard(
    media: MediaLike,
    result: Result,
    out_png: str | Path,
    *,
    masks: Masks | None = None,
    max_frames: int = 8,
    columns: int = 4,
    hidden: bool = True,
    zones: Sequence[Drawable] = (),
) -> Path:
    """Write one picture of the frames in which the most happens, in order of time, with times and captions.

    An object's first and last sighting, the look at which it is missed and the one at which it is seen again
    come before looks at which the number of objects changes, and those before looks with nothing new. Images
    have no story: of them those with points are shown, as by `contact_sheet`. masks, hidden, zones: as of
    `render`. The suffix of `out_png` chooses the format: .png, .jpg, .jpeg or .webp.
    Raises `SourceError` when the media cannot be read, `ValueError` for another suffix, fewer than one
    frame or column, or, as `render`, for another video than the result's.
    """
    WHOLE.check("columns", columns)
    WHOLE.check("max_frames", max_frames)
    if columns < 1 or max_frames < 1:
        raise ValueError(f"a storyboard has one frame and one column or more; got {max_frames} and {columns}")
    timeline = Timeline(result)
    story = moments(timeline, max_frames)
    made = tiles(
        media,
        result,
        width_px=tile_width_px(columns),
        max_frames=max_frames,
        masks=masks,
        hidden=hidden,
        zones=zones,
        times_s=[moment.time_s for moment in story] or None,
    )
    labels = {leg.object_id: leg.label for leg in timeline.legs}
    room_px = max(tile.rgb.shape[1] for tile in made)
    captions = [
        (tile.caption, *([] if tile.time_s is None else _told(_nearest(story, tile.time_s), labels, room_px)))
        for tile in made
    ]
    return write_picture(laid_out(made, captions, heading(result), columns=columns), Path(out_png))


def _nearest(story: Sequence[Moment], time_s: float) -> Moment | None:
    return min(story, key=lambda moment: abs(moment.time_s - time_s), default=None)


def _told(moment: Moment | None, labels: dict[int, str], room_px: int) -> list[str]:
    """What happens, in lines that fit: "first seen: 3 red car · hidden: 1, 2"."""
    if moment is None:
        return []
    # With more than two objects the numbers alone; the words stand beside them in the pictures.
    worded = sum(len(ids) for _, ids in moment.events) <= 2
    lines: list[str] = []
    for what, ids in moment.events:
        event = f"{what}: " + ", ".join(f"{i} {labels.get(i, '')}".strip() if worded else str(i) for i in ids)
        longer = f"{lines[-1]}{_SEPARATOR}{event}" if lines else ""
        if lines and text_width_px(longer, text_px=CAPTION_PX) <= room_px - 4:
            lines[-1] = longer
        else:
            lines.append(event)
    return lines

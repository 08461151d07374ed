"""`aim`: where in a window a question that follows a point is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from molmo2_ground.errors import GroundError
from molmo2_ground.live.sampled_window import Window
from molmo2_ground.query import Query
from molmo2_ground.results import Sample


def aim(query: Query, window: Window, places: Iterable[Sample]) -> Query | None:
    """The question for this window; one that follows a point (`at`, its time in seconds of the stream).

    places: of what was found there. It is asked from the first of them in the window, or at its own time;
    None while that is still to come. Raises `GroundError` when nothing of either can be shown any more.
    """
    if query.at is None:
        return query
    frames = {frame.source_index: frame for frame in window.clip.frames}
    known = [place for place in places if place.source_index in frames]
    if known:
        first = min(known, key=lambda sample: sample.time_s)
        shown_s = frames[first.source_index].shown_time_s or 0.0
        return replace(query, at=(shown_s, first.x_px, first.y_px))
    time_s, x_px, y_px = query.at
    nearest = min(window.clip.frames, key=lambda frame: abs((frame.time_s or 0.0) - time_s))
    if abs((nearest.time_s or 0.0) - time_s) <= 1 / query.fps:
        return replace(query, at=(nearest.shown_time_s or 0.0, x_px, y_px))
    if time_s > window.time_s:
        return None
    raise GroundError(
        f"what is at ({x_px:g}, {y_px:g}) at {time_s:g} s can no longer be asked for: the model is shown the "
        f"pictures from {window.clip.frames[0].time_s or 0.0:.1f} s to {window.time_s:.1f} s, and none of "
        "them is of that time or shows what was found then. Change the question to a time of these, or to "
        "words"
    )

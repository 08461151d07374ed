"""`Looking`: which pictures of a source a question is shown. Running and planning both ask here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import Clip, Frame
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.query import Query
from molmo2_ground.sources import MediaLike, SourceInfo, open_clip, open_windows
from molmo2_ground.sources.reader import wanted_times
from molmo2_ground.sources.sampling import rate_grid, shown_rate, uniform_last_frame
from molmo2_ground.sources.windowed import cut, grid_times
from molmo2_ground.windows import WINDOW_S, window_rule

Times = Callable[[float], npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """Which pictures a model with these limits is shown of one source, question by question.

    given: how many pictures a `Clip` holds that is taken as it is; None for anything else.
    """

    info: SourceInfo
    limits: ModelLimits
    given: int | None = None

    @classmethod
    def at(cls, media: MediaLike, *, info: SourceInfo, limits: ModelLimits) -> Looking:
        """The rules for a source; info as `probe` gives it."""
        return cls(info=info, limits=limits, given=len(media) if isinstance(media, Clip) else None)

    def rate(self, query: Query) -> float | None:
        """Frames a second of the steady grid that a query looks at; None for evenly spread times."""
        sampled = self.info.kind == "video" and self.given is None
        return self._shown_fps(query) if sampled and query.task == "track" else None

    def times(self, query: Query) -> Times:
        """From a video's duration in seconds to the times that one look shows."""
        rate = self.rate(query)
        if rate is None:
            limits = self.limits
            return functools.partial(uniform_last_frame, max_fps=limits.max_fps, max_frames=limits.max_frames)
        return functools.partial(rate_grid, rate=rate, max_frames=self.limits.frames_tracked_at_once)

    def by_windows(self, query: Query) -> bool:
        """Whether the video is too long to be tracked at one look."""
        return query.task == "track" and self._too_long_for_one_look(query.fps)

    def window(self, query: Query) -> tuple[int, int]:
        """Frames of a window, and those that it shares with the next."""
        return window_rule(
            rate=query.fps,
            max_frames=self.limits.frames_tracked_at_once,
            shown_a_place=round(self.shown_fps(query) / query.fps),
        )

    def shown_fps(self, query: Query) -> float:
        """Frames a second that windows are cut from."""
        return self.rate(query) or query.fps

    def sampling(self, query: Query) -> str:
        """How frames were chosen, in a word for receipts; the number rises when the same word means more."""
        limits = self.limits
        if self.info.kind == "images" or self.given is not None:
            return "frames-as-given/1"
        if query.task == "track" and query.show_fps is not None:
            return f"grid-{self._shown_fps(query):g}fps-asked-{query.fps:g}fps/1"
        if query.task == "track":
            return f"grid-{query.fps:g}fps/1"
        return f"uniform-last-{limits.max_fps:g}fps-max{limits.max_frames}/1"

    def _shown_fps(self, query: Query) -> float:
        """Frames a second that are shown to track: those asked for, or more where the query wants them."""
        if query.show_fps is None:
            return query.fps
        duration_s = self.info.duration_s
        if duration_s is None or self._too_long_for_one_look(query.fps):
            # A window is a clip of its own, and holds at least one of the times asked for.
            duration_s = max(WINDOW_S, 1 / query.fps)
        return shown_rate(
            duration_s,
            asked=query.fps,
            at_most=query.show_fps,
            video_fps=self.info.fps,
            max_frames=self.limits.frames_tracked_at_once,
        )

    def _too_long_for_one_look(self, rate: float) -> bool:
        if self.info.kind != "video":
            return False
        at_once = self.limits.frames_tracked_at_once
        if self.given is not None:
            return self.given > at_once
        # Without a duration in the header the windows find out; a short file gives one window.
        duration_s = self.info.duration_s
        return duration_s is None or len(rate_grid(duration_s, rate=rate, max_frames=at_once + 1)) > at_once


def looks(media: MediaLike, query: Query, *, looking: Looking, name: str, side_px: int) -> Iterator[Clip]:
    """The clips that a query will be shown, in order, without reading a video: one, or its windows.

    Frames of a video file have no pixels of their own but the right sizes and times; a file that is damaged
    shows fewer. name: of the source, for messages. side_px: of the squares that frames are shrunk to.
    """
    info = looking.info
    if info.kind == "images" or looking.given is not None:
        if looking.by_windows(query):
            frames, overlap = looking.window(query)
            rate = looking.shown_fps(query)
            yield from open_windows(media, rate=rate, window_frames=frames, overlap_frames=overlap)
        else:
            yield open_clip(media)
        return
    assert info.duration_s is not None, "probe measures every file"
    # One pixel stands for all: no memory, and the shape that code for real frames asks for.
    blank = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (side_px, side_px, 3))

    def clip(times_s: Sequence[float]) -> Clip:
        frames = tuple(
            Frame(
                rgb=blank,
                width_px=info.width_px,
                height_px=info.height_px,
                source_index=number,
                time_s=time_s,
                shown_time_s=time_s,
            )
            for number, time_s in enumerate(times_s)
        )
        return Clip(frames=frames, fps=info.fps, duration_s=info.duration_s, source=name)

    if looking.by_windows(query):
        frames, overlap = looking.window(query)
        times_s = grid_times(info.duration_s, rate=looking.shown_fps(query))
        yield from (clip(window) for window in cut(times_s, size=frames, overlap=overlap))
    else:
        yield clip(wanted_times(info.duration_s, looking.times(query)))

"""`SampledWindow`: the pictures of one connection that the model may be shown, on a steady grid of times."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from molmo2_ground.clip import Clip, Frame, RgbArray
from molmo2_ground.live.live_picture import LivePicture
from molmo2_ground.sources.feeds.capture import Capture
from molmo2_ground.windows import WINDOW_S

LIVE_WINDOW_S = 12.0
"""How far back the model looks when nobody said otherwise: long enough to see what moves how and who goes
behind what, and short enough that it writes an answer in the time in which the answer is of use; its length
grows with the pictures. Never more than `windows.WINDOW_S`, which the model was trained with."""

EARLY_SHARE = 0.04
"""A picture that comes before its time on the grid by less than this share of a step is on time: a camera
that gives just `fps` pictures a second is never exact, and would lose every other one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """What one look shows.

    clip     the sampled pictures in order, shrunk to what the model reads. Their own times are seconds of the
             stream; those told to the model start at 0, on the grid, as in training.
    newest   the last of them as it came, for count and point questions.   time_s: seconds of the stream.
    """

    clip: Clip
    newest: Capture
    time_s: float

    @property
    def still(self) -> Clip:
        """The newest picture alone at its full size, as a still image."""
        frame = Frame(
            rgb=self.newest.paint(),
            width_px=self.newest.width_px,
            height_px=self.newest.height_px,
            source_index=self.newest.index,
        )
        return Clip(frames=(frame,), source=self.clip.source)


class SampledWindow:
    """The last so many sampled pictures of one connection; older ones are let go of.

    The first picture at or after each time of the grid is sampled; a slow camera leaves holes in the grid,
    and nothing is put into them.
    """

    def __init__(
        self,
        *,
        fps: float,
        max_frames: int,
        resize: Callable[[RgbArray], RgbArray],
        window_s: float = LIVE_WINDOW_S,
        source: str = "stream",
    ) -> None:
        """fps: pictures a second on the grid. max_frames: that the model looks at in one go.

        resize: shrinks a picture to what the model reads. Raises `ValueError` for a length out of range.
        """
        if not 0 < window_s <= WINDOW_S:
            raise ValueError(f"window_s is above 0 and at most {WINDOW_S:g} seconds; got {window_s}")
        self.fps = fps
        self.most_frames = max(1, min(max_frames, round(window_s * fps)))
        self._resize, self._source = resize, source
        self._begin_s: float | None = None
        self._cell = -1
        self._frames: deque[Frame] = deque(maxlen=self.most_frames)
        self._newest: LivePicture | None = None

    def restart(self) -> None:
        """Another connection: the next picture is the first of a new grid."""
        self._begin_s, self._cell, self._newest = None, -1, None
        self._frames.clear()

    def take(self, picture: LivePicture) -> bool:
        """Take in the next picture; True, and the picture is marked, when it is one of the sampled."""
        if self._begin_s is None:
            self._begin_s = picture.time_s
        cell = math.floor((picture.time_s - self._begin_s) * self.fps + EARLY_SHARE)
        if cell <= self._cell:
            return False
        self._cell = cell
        shown_s = cell / self.fps
        picture.sampled = True
        if self._frames and (picture.capture.width_px, picture.capture.height_px) != (
            self._frames[-1].width_px,
            self._frames[-1].height_px,
        ):
            self._frames.clear()  # the camera changed the size: coordinates are of another picture
        self._frames.append(
            Frame(
                rgb=self._resize(picture.rgb),
                width_px=picture.capture.width_px,
                height_px=picture.capture.height_px,
                source_index=picture.index,
                time_s=picture.time_s,
                shown_time_s=shown_s,
            )
        )
        self._newest = picture
        span = self.most_frames / self.fps
        while shown_s - (self._frames[0].shown_time_s or 0.0) >= span - 1e-9:
            self._frames.popleft()
        return True

    def window(self) -> Window | None:
        """The window as it is now; None before the first picture."""
        if self._newest is None:
            return None
        start_s = self._frames[0].shown_time_s or 0.0
        frames = tuple(
            Frame(
                rgb=frame.rgb,
                width_px=frame.width_px,
                height_px=frame.height_px,
                source_index=frame.source_index,
                time_s=frame.time_s,
                shown_time_s=(frame.shown_time_s or 0.0) - start_s,
            )
            for frame in self._frames
        )
        clip = Clip(frames=frames, fps=None, duration_s=None, source=self._source)
        return Window(clip=clip, newest=self._newest.capture, time_s=self._newest.time_s)

    @property
    def held_bytes(self) -> int:
        """Bytes of pixels held: of shrunk pictures."""
        return sum(frame.rgb.nbytes for frame in self._frames)

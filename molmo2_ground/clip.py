"""`Clip`: some pictures of one source, in order, each with its own time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from molmo2_ground._wanted import Wanted

RgbArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture.

    rgb           uint8[h, w, 3], upright as a player shows it. May be smaller than the source picture
                  when a reader was told to shrink while decoding; coordinates never refer to it.
    width_px      size of the source picture as a player shows it (rotation and pixel aspect applied);
    height_px     all pixel coordinates in results refer to this size.
    source_index  number of the frame in its file, in order of presentation, from 0; for a list of
                  images the number of the image, from 0.
    time_s        the frame's own presentation time, seconds after the first frame of the video;
                  None for a still image.
    shown_time_s  the time that the model is told for this frame. Sampling asks for a time and gets the
                  frame on screen then, and the model was trained with the time asked for; it differs
                  from `time_s` by less than a frame's duration. None for a still image.
    """

    rgb: RgbArray
    width_px: int
    height_px: int
    source_index: int
    time_s: float | None = None
    shown_time_s: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.rgb, np.ndarray):
            raise ValueError(f"a frame is uint8[height, width, 3]; got {type(self.rgb).__name__}")
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ValueError(
                f"a frame is uint8[height, width, 3]; got {self.rgb.dtype}{list(self.rgb.shape)}"
            )
        if 0 in self.rgb.shape:
            raise ValueError(f"a frame has at least one pixel; got shape {list(self.rgb.shape)}")
        if (self.time_s is None) != (self.shown_time_s is None):
            raise ValueError("time_s and shown_time_s are given together, or neither (a still image)")
        if not all(time_s is None or math.isfinite(time_s) for time_s in (self.time_s, self.shown_time_s)):
            raise ValueError(f"a frame's times are finite; got {self.time_s} and {self.shown_time_s} seconds")


_FRAME = Wanted("a Frame", (Frame,))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """Pictures of one source in order: a sampled video, or one or several still images.

    fps         the source's average frame rate (frames per second), None for images or when unknown.
    duration_s  the source's duration, seconds, None for images.
    source      what the user handed in, in words, for messages (`street.mp4`, `3 images`, `array`).
    lost        what could not be read and was left out, one line each; empty for a healthy source.
    """

    frames: tuple[Frame, ...]
    fps: float | None = None
    duration_s: float | None = None
    source: str = "array"
    lost: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _FRAME.all_of("frames", self.frames)
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"fps is above 0 and finite; got {self.fps}")
        timed = [frame.time_s is not None for frame in self.frames]
        if any(timed) and not all(timed):
            raise ValueError("a clip holds video frames or still images, not both")
        times = [frame.time_s for frame in self.frames if frame.time_s is not None]
        if any(later < earlier for earlier, later in pairwise(times)):
            raise ValueError("frames of a video come in order of time")

    @property
    def kind(self) -> Literal["video", "images"]:
        """`video` when the frames have times, `images` otherwise (also for an empty clip)."""
        return "video" if self.frames and self.frames[0].time_s is not None else "images"

    @property
    def shown_times_s(self) -> npt.NDArray[np.float64]:
        """float64[T]: the times the model is told, seconds; empty for images."""
        return np.array([f.shown_time_s for f in self.frames if f.shown_time_s is not None], dtype=np.float64)

    def __len__(self) -> int:
        return len(self.frames)

    @classmethod
    def from_arrays(
        cls,
        frames_thwc: npt.ArrayLike | Sequence[RgbArray],
        *,
        times_s: Sequence[float] | npt.NDArray[np.float64] | None = None,
        fps: float | None = None,
        source: str = "array",
    ) -> Clip:
        """A clip of arrays, taken as they are.

        frames_thwc: uint8[T, H, W, 3], or a sequence of uint8[H, W, 3] of any sizes; RGB.
        times_s: T times in seconds, rising; without it, `fps` places frame i at i / fps; without both
        the arrays are still images.
        """
        arrays = [np.asarray(frame) for frame in frames_thwc]  # type: ignore[union-attr]
        if times_s is None and fps is not None:
            if not 0 < fps < math.inf:
                raise ValueError(f"fps is above 0 and finite; got {fps}")
            times_s = [i / fps for i in range(len(arrays))]
        if times_s is not None and len(times_s) != len(arrays):
            raise ValueError(f"one time a frame is needed; got {len(times_s)} times for {len(arrays)} frames")
        times = [None] * len(arrays) if times_s is None else [float(t) for t in times_s]
        built = tuple(
            Frame(
                rgb=array,
                width_px=int(array.shape[1]) if array.ndim == 3 else 0,
                height_px=int(array.shape[0]),
                source_index=i,
                time_s=time,
                shown_time_s=time,
            )
            for i, (array, time) in enumerate(zip(arrays, times, strict=True))
        )
        duration = None
        known = [t for t in times if t is not None]
        if known:
            duration = known[-1] + (1 / fps if fps else 0.0)
        return cls(frames=built, fps=fps, duration_s=duration, source=source)

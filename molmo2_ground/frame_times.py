"""`FrameTimes`: when a result has the frames of its video, which tells that video from another one.

A result holds no digest of its video, so that a copy which was coded anew passes for it. What must agree is
the size, or the shape where places are shares of the picture, and the time at which each frame is shown.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from molmo2_ground._amount import amount
from molmo2_ground.clip import Frame
from molmo2_ground.results import Receipt

_KNOWN_S = 0.02  # times survive a file and a change of time base to better than this
# Marks that were imported by a rate, such as 30 for 29.97, drift by less than this share of the time.
_DRIFT = 0.01
_SAME_SHAPE = 0.03  # a scaled copy has whole pixels, often even ones, so that its sides are a little off
_DO = "name the video that was asked about"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTimes:
    """The size of a result's pictures and when its frames are shown.

    times_s  seconds by number of the frame in its video; empty for a result about pictures.
    size_px  (width, height); (0, 0) is unknown and fits every size.
    of_file  whether the frames are numbered as in a file. Somebody who hands in arrays may have taken every
             tenth frame: then the result can still be drawn on the file, by its times.
    """

    times_s: Mapping[int, float]
    size_px: tuple[int, int]
    of_file: bool = True

    @classmethod
    def of(cls, receipt: Receipt, *, also: Mapping[int, float] | None = None) -> FrameTimes:
        """What a receipt tells of them; `also` are times by frame of what was found or carried."""
        times_s = {
            index: time_s
            for one in (receipt, *receipt.windows)
            for index, time_s in zip(one.frame_source_indices, one.frame_times_s, strict=False)
        }
        return cls(
            times_s=times_s | dict(also or {}),
            size_px=receipt.size_px,
            of_file=bool(Path(receipt.source).suffix),
        )

    def check_drawn(
        self,
        kind: str,
        size_px: tuple[int, int],
        *,
        name: str,
        duration_s: float | None = None,
        frame_s: float = 0.0,
    ) -> None:
        """Raises `ValueError` for media that the result cannot be drawn on, by what their headers say.

        A scaled copy is taken: places are drawn as shares of the picture. The frames of a video are for
        `drawn_on` or `check_shown` to see.
        """
        self.check_kind(kind, name=name)
        self.check_shape(size_px, name=name)
        if kind == "video":
            self.check_end(duration_s, name=name, frame_s=frame_s)

    def check_kind(self, kind: str, *, name: str) -> None:
        """Raises `ValueError` when the result is about a video and the media, so called, are pictures."""
        if self.times_s and kind != "video":
            raise ValueError(f"{name} holds still pictures, and the result is about a video; name the video")

    def check_size(self, size_px: tuple[int, int], *, name: str) -> None:
        """Raises `ValueError` for media of another size."""
        if 0 not in self.size_px and size_px != self.size_px:
            raise ValueError(self._sizes(size_px, name))

    def check_shape(self, size_px: tuple[int, int], *, name: str) -> None:
        """As `check_size`, for a video that is drawn on by shares of the picture: a scaled copy is taken."""
        (width, height), (there_width, there_height) = self.size_px, size_px
        mine, there = width * there_height, there_width * height
        if self.times_s and 0 not in self.size_px and abs(mine - there) > _SAME_SHAPE * max(mine, there):
            raise ValueError(self._sizes(size_px, name))

    def check_end(self, duration_s: float | None, *, name: str, frame_s: float) -> None:
        """Raises `ValueError` for a video that ends before the result does; frame_s as of `check`."""
        last_s = max(self.times_s.values(), default=0.0)
        if duration_s is not None and last_s > duration_s + _slack_s(duration_s, frame_s):
            raise ValueError(
                f"{name} lasts {duration_s:.2f} s, and the result goes up to {last_s:.2f} s; {_DO}"
            )

    def check_count(self, count: int, *, name: str) -> None:
        """Raises `ValueError` for a video of fewer frames than the result counts."""
        last = max(self.times_s, default=-1)
        if last >= count:
            raise ValueError(
                f"{name} has {amount(count, 'frame')}, and the result goes up to frame {last}, "
                f"counted from 0; {_DO}"
            )

    def check(self, index: int, there_s: float, *, name: str, frame_s: float, exactly: bool = False) -> None:
        """Raises `ValueError` when the result has this frame of the video `name` at another time.

        there_s: when the video shows it, seconds; frame_s: how long a frame of it lasts, on average. By that
        much a time may be off, or by a hundredth: what was drawn in other tools was counted by a rate.
        exactly: neither is let pass.
        """
        time_s = self.times_s.get(index)
        slack_s = _KNOWN_S if exactly else _slack_s(there_s, frame_s)
        if time_s is not None and abs(time_s - there_s) > slack_s:
            raise ValueError(
                f"{name} shows frame {index} at {there_s:.2f} s, and the result has it at {time_s:.2f} s; "
                f"{_DO}"
            )

    def check_shown(self, frame: Frame, *, name: str, frame_s: float) -> None:
        """As `check`, for a frame that was asked for at the time of one of the result's (`shown_time_s`).

        Then the video must number it as the result does, too.
        """
        if not self.of_file or frame.time_s is None or frame.shown_time_s is None:
            return
        wanted_s = frame.shown_time_s
        self.check(frame.source_index, frame.time_s, name=name, frame_s=frame_s)
        expected = self._at(wanted_s)
        if expected is not None and abs(frame.source_index - expected) > 1 + _DRIFT * expected:
            raise ValueError(
                f"{name} shows frame {frame.source_index} at {wanted_s:.2f} s, and the result has frame "
                f"{expected} then; {_DO}"
            )

    def checked(
        self, frames: Iterable[Frame], *, name: str, frame_s: float, whole: bool = True
    ) -> Iterator[Frame]:
        """Every frame of a video, once it is found to be one of the result's video; see `check`.

        whole: they are all of its frames, so that those which the result has must be among them.
        """
        seen = -1
        for frame in frames:
            if frame.time_s is not None:
                self.check(frame.source_index, frame.time_s, name=name, frame_s=frame_s)
            seen = frame.source_index
            yield frame
        if whole:
            self.check_count(seen + 1, name=name)

    def drawn_on(self, frames: Iterable[Frame], *, name: str, frame_s: float) -> Iterator[Frame]:
        """As `checked`; frames of a result that are not those of a file are drawn by their times alone."""
        return self.checked(frames, name=name, frame_s=frame_s) if self.of_file else iter(frames)

    def _at(self, wanted_s: float) -> int | None:
        """The result's frame of this time, None when it has none."""
        by_time = sorted((time_s, index) for index, time_s in self.times_s.items())
        at = bisect_left(by_time, (wanted_s - _KNOWN_S / 2, -1))
        near = by_time[at] if at < len(by_time) else None
        return None if near is None or near[0] > wanted_s + _KNOWN_S / 2 else near[1]

    def _sizes(self, size_px: tuple[int, int], name: str) -> str:
        return (
            f"{name} has {size_px[0]} x {size_px[1]} pixels, and the result is of "
            f"{self.size_px[0]} x {self.size_px[1]}; {_DO}"
        )


def frame_s_of(fps: float | None) -> float:
    """How long a frame lasts at a rate, seconds; 0 when it is unknown."""
    return 1 / fps if fps else 0.0


def name_of(media: object) -> str:
    """What media are called in a message: the path, where one was given."""
    return os.fspath(media) if isinstance(media, str | Path) else "what was given"


def _slack_s(there_s: float, frame_s: float) -> float:
    return max(_KNOWN_S, frame_s, _DRIFT * there_s)

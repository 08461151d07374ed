"""An answer and the truth drawn on the same frames, so that a person sees what was right, wrong and missed.

The edge of what is really there is a solid line where the answer found it and a dashed one where it did not;
the answer is a dot, crossed out where it lies on nothing that was asked for. This judgement is for the eye
and a little simpler than the scores: in a video, points count for the whole clip and tracks for each frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.eval.example import Example, Result, Truth, TruthFrame
from molmo2_ground.query import Task
from molmo2_ground.render import Painter
from molmo2_ground.render.style import DARK, LIGHT, Rgb, Style
from molmo2_ground.render.text import clock
from molmo2_ground.results import Count, Points, Tracks
from molmo2_ground.sources import open_clip, probe

MISSED: Rgb = (255, 138, 0)
WRONG: Rgb = (226, 1, 52)
_MOST_FRAMES = 3
_TRAIL_S = 1.0
# Questions that are answered by places at moments: free text is read as tracks.
_OVER_TIME: tuple[Task, ...] = ("track", "ask")
_DASH_POINTS = 14  # of an edge, pixel by pixel: a dash and the gap behind it
# A hair later than the frame's own time, so that a rounding does not fetch the frame before.
_LATER_S = 1e-4
# Truth this far from a frame is not about it; sets are annotated once or twice a second, and a frame in
# between would be misjudged.
_SAME_MOMENT_S = 0.06

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """One frame with the drawing on it (uint8[h, w, 3]), and what it shows in words."""

    rgb: RgbArray
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dot:
    """One place of the answer, pixels of the source picture."""

    x_px: float
    y_px: float
    time_s: float | None
    source_index: int


def pictures_of(
    media: Path, example: Example, result: Result | None, *, width_px: int = 520, most: int = _MOST_FRAMES
) -> list[Picture]:
    """At most `most` frames with truth and answer; raises `SourceError` when the media cannot be read."""
    dots = _dots(result)
    judge = _Judge(example.truth, dots, whole_clip=example.query.task not in _OVER_TIME)
    painter = None if result is None else Painter(_numbered(result), trail_s=_TRAIL_S)

    def shrink(rgb: RgbArray) -> RgbArray:
        scale = min(1.0, width_px / rgb.shape[1])
        size_px = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        return np.asarray(cv2.resize(rgb, size_px, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    return [
        _picture(frame, shrink(frame.rgb), judge, painter)
        for frame in _frames(media, example, dots, judge, most=most)
    ]


def frames_of(result: Result | None) -> list[int]:
    """Numbers of the frames that an answer names a place in, rising."""
    return sorted({dot.source_index for dot in _dots(result)})


def _picture(frame: Frame, rgb: RgbArray, judge: _Judge, painter: Painter | None) -> Picture:
    canvas = np.ascontiguousarray(rgb)
    style = Style.of_size(canvas.shape[1], canvas.shape[0])
    scale = (canvas.shape[1] / frame.width_px, canvas.shape[0] / frame.height_px)
    there = judge.there(frame.time_s, frame.source_index)
    for object_id, truth in there or ():
        _outline(canvas, truth, scale, found=judge.found(object_id, truth), style=style)
    if painter is not None:
        canvas = painter.paint(canvas, time_s=frame.time_s, source_index=frame.source_index, caption=False)
    shown = [dot for dot in judge.dots if _same_frame(dot, frame)]
    wrong = [dot for dot in shown if there is not None and judge.wrong(dot)]
    for dot in wrong:
        _cross(canvas, dot.x_px * scale[0], dot.y_px * scale[1], style=style)
    return Picture(rgb=canvas, caption=_caption(frame, judge, there, wrong=len(wrong)))


def _caption(frame: Frame, judge: _Judge, there: list[tuple[int, TruthFrame]] | None, *, wrong: int) -> str:
    when = f"image {frame.source_index + 1}" if frame.time_s is None else clock(frame.time_s)
    if there is None:
        return f"{when} · not annotated"
    if not there:
        return f"{when} · nothing to find" + (f", {wrong} wrong" if wrong else "")
    verdicts = [judge.found(object_id, truth) for object_id, truth in there]
    if None in verdicts:
        return f"{when} · {len(there)} to find"
    return f"{when} · {verdicts.count(True)} of {len(there)} found" + (f", {wrong} wrong" if wrong else "")


class _Judge:
    """Which objects an answer found, and which of its places lie on none."""

    def __init__(self, truth: Truth, dots: Sequence[_Dot], *, whole_clip: bool) -> None:
        self._truth = truth
        self.dots = dots
        self._whole_clip = whole_clip
        self._masks: dict[int, npt.NDArray[np.bool_]] = {}
        self._hit: set[tuple[int, float | None, int]] = set()
        self._hit_ids: set[int] = set()
        self._wrong: set[int] = set()
        self._unknown = False  # some place lies in a frame that was not annotated
        for number, dot in enumerate(dots):
            self._judge(number, dot)

    def there(self, time_s: float | None, source_index: int) -> list[tuple[int, TruthFrame]] | None:
        """What is really to be seen at a moment; None when that moment was not annotated."""
        found = [
            (item.object_id, frame)
            for item in self._truth.objects
            for frame in item.frames
            if _same_moment(frame.time_s, frame.source_index, time_s, source_index)
        ]
        annotated = time_s is None or any(
            abs(time_s - at_s) <= _SAME_MOMENT_S for at_s in self._truth.frame_times_s
        )
        return found if found or annotated else None

    def found(self, object_id: int, truth: TruthFrame) -> bool | None:
        """Whether the answer has this object, here or anywhere as the task asks; None: nobody can tell."""
        if truth.mask is None:
            return None
        if self._whole_clip:
            return True if object_id in self._hit_ids else None if self._unknown else False
        return (object_id, truth.time_s, truth.source_index) in self._hit

    def found_ids(self) -> set[int]:
        """Objects that some place of the answer lies on."""
        return set(self._hit_ids)

    def wrong(self, dot: _Dot) -> bool:
        """True when this place lies on nothing that was asked for."""
        return self.dots.index(dot) in self._wrong

    def _judge(self, number: int, dot: _Dot) -> None:
        there = self.there(dot.time_s, dot.source_index)
        if there is None or any(truth.mask is None for _, truth in there):
            self._unknown = True
            return
        for object_id, truth in there:
            if truth.mask is not None and truth.mask.covers(int(dot.x_px), int(dot.y_px)):
                self._hit.add((object_id, truth.time_s, truth.source_index))
                self._hit_ids.add(object_id)
                return
        self._wrong.add(number)


def _numbered(result: Result) -> Result:
    """The answer without its labels: on a small picture a number is enough, the question stands above it."""
    if isinstance(result, Tracks):
        tracks = tuple(track.model_copy(update={"label": ""}) for track in result)
        return result.model_copy(update={"tracks": tracks})
    if isinstance(result, Count):
        return result.model_copy(update={"points": _numbered(result.points)})
    return result.model_copy(update={"points": tuple(p.model_copy(update={"label": ""}) for p in result)})


def _dots(result: Result | None) -> list[_Dot]:
    if isinstance(result, Tracks):
        return [
            _Dot(x_px=s.x_px, y_px=s.y_px, time_s=s.time_s, source_index=s.source_index)
            for track in result
            for s in track.samples
        ]
    points = result.points if isinstance(result, Count) else result
    return [
        _Dot(x_px=p.x_px, y_px=p.y_px, time_s=p.time_s, source_index=p.source_index)
        for p in (points if isinstance(points, Points) else ())
    ]


def _same_moment(time_s: float | None, source_index: int, other_s: float | None, other_index: int) -> bool:
    if time_s is None or other_s is None:
        return source_index == other_index
    return abs(time_s - other_s) <= _SAME_MOMENT_S


def _same_frame(dot: _Dot, frame: Frame) -> bool:
    return dot.source_index == frame.source_index and (dot.time_s is None) == (frame.time_s is None)


def _frames(
    media: Path, example: Example, dots: Sequence[_Dot], judge: _Judge, *, most: int
) -> Iterable[Frame]:
    if probe(media).kind == "images":
        frames = open_clip(media).frames
        busy = {dot.source_index for dot in dots} | {
            frame.source_index for item in example.truth.objects for frame in item.frames
        }
        wanted = [frame for frame in frames if frame.source_index in busy] or list(frames)
        return _spread(wanted, most)
    times_s = np.array(_telling_times(example, dots, judge, most=most), dtype=np.float64)
    return open_clip(media, times=lambda duration_s: np.minimum(times_s + _LATER_S, duration_s)).frames


def _telling_times(example: Example, dots: Sequence[_Dot], judge: _Judge, *, most: int) -> list[float]:
    """Moments at which something is to be seen or was named, seconds, rising."""
    truth = example.truth
    named_s = {dot.time_s for dot in dots if dot.time_s is not None}
    if example.query.task in _OVER_TIME:
        there_s = {f.time_s for item in truth.objects for f in item.frames if f.time_s is not None}
        telling = there_s | {t for t in named_s if judge.there(t, -1) is not None} or named_s
    else:
        # Where it pointed, and a moment at which each object that it did not point at is largest.
        missed = [item for item in truth.objects if item.object_id not in judge.found_ids()]
        largest = [max(item.frames, key=_size, default=None) for item in missed]
        missed_s = [frame.time_s for frame in largest if frame is not None and frame.time_s is not None]
        named = _spread(sorted(named_s), most - min(len(missed_s), most // 2))
        telling = {*named, *_spread(sorted(set(missed_s)), most - len(named))}
    times_s = sorted(telling) or sorted(truth.frame_times_s) or [0.0]
    # One moment may have two names that differ by a rounding.
    apart = [times_s[0], *(b for a, b in pairwise(times_s) if b - a > _SAME_MOMENT_S)]
    return _spread(apart, most)


def _size(frame: TruthFrame) -> int:
    return frame.mask.area_px if frame.mask is not None else 0


def _spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """`count` of the items in their order, evenly spread, the first and the last among them."""
    if len(items) <= count or count <= 1:
        return list(items[: max(0, count)])
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _outline(
    canvas: RgbArray, truth: TruthFrame, scale: tuple[float, float], *, found: bool | None, style: Style
) -> None:
    """The edge of an object in place on `canvas`, or a square around its point where there is no mask."""
    width_px = max(1, round(style.trail_px * 0.7))
    for edge in _edges(canvas, truth, scale, style=style):
        cv2.polylines(canvas, [edge], True, DARK, width_px + 2, cv2.LINE_AA)
        if found is False:
            cv2.polylines(canvas, _dashes(edge), False, MISSED, width_px + 1, cv2.LINE_AA)
        else:
            cv2.polylines(canvas, [edge], True, LIGHT, width_px, cv2.LINE_AA)


def _edges(
    canvas: RgbArray, truth: TruthFrame, scale: tuple[float, float], *, style: Style
) -> list[npt.NDArray[np.int32]]:
    """Closed lines int32[n, 2] in pixels of the canvas."""
    if truth.mask is not None:
        size_px = (canvas.shape[1], canvas.shape[0])
        mask = cv2.resize(truth.mask.decode().astype(np.uint8), size_px, interpolation=cv2.INTER_NEAREST)
        # One pixel outwards, so that a small object stays to be seen inside its edge.
        grown = cv2.dilate(mask, np.ones((3, 3), dtype=np.uint8))
        edges, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        return [np.asarray(edge, dtype=np.int32).reshape(-1, 2) for edge in edges]
    if truth.xy_px is None:
        return []
    x, y, reach = truth.xy_px[0] * scale[0], truth.xy_px[1] * scale[1], 3 * style.dot_radius_px
    corners = [(x - reach, y - reach), (x + reach, y - reach), (x + reach, y + reach), (x - reach, y + reach)]
    return [np.rint(corners).astype(np.int32)]


def _dashes(edge: npt.NDArray[np.int32]) -> list[npt.NDArray[np.int32]]:
    """Every other piece of a closed line."""
    count = max(3, len(edge) // _DASH_POINTS)
    bounds = np.linspace(0, len(edge), 2 * count + 1).round().astype(int)
    pieces = [edge[start:stop] for start, stop in zip(bounds[0:-1:2], bounds[1::2], strict=True)]
    return [piece for piece in pieces if len(piece)]


def _cross(canvas: RgbArray, x_px: float, y_px: float, *, style: Style) -> None:
    reach = style.dot_radius_px * 2.2
    width_px = max(2, round(style.trail_px))
    for colour, extra_px in ((DARK, 2), (WRONG, 0)):
        for side in (-1, 1):
            start = (round(x_px - reach), round(y_px - side * reach))
            end = (round(x_px + reach), round(y_px + side * reach))
            cv2.line(canvas, start, end, colour, width_px + extra_px, cv2.LINE_AA)

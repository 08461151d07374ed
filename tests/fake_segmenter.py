"""Segmenters that obey the protocol and segment nothing: what they answer says how they were walked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from molmo2_ground.clip import Frame
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.segmenter import BoolArray

SIZE_PX = (40, 30)


def frames(count: int, *, fps: float = 10.0) -> list[Frame]:
    """So many black frames of a video, 40 x 30 pixels."""
    width, height = SIZE_PX
    black = np.zeros((height, width, 3), np.uint8)
    return [
        Frame(
            rgb=black,
            width_px=width,
            height_px=height,
            source_index=index,
            time_s=index / fps,
            shown_time_s=index / fps,
        )
        for index in range(count)
    ]


@dataclass
class Counting:
    """The mask of an object has one pixel more than steps since its last point, in the row of its id.

    areas      by object and frame, what its mask's area is instead; 0 is an empty mask.
    walks      every walk that was started.
    held, most_held   frames that are prepared and still in use, and the most that ever were.
    """

    name: str = "counting"
    from_both_ends: bool = False
    areas: Mapping[tuple[int, int], int] = field(default_factory=dict)
    walks: list[CountingWalk] = field(default_factory=list)
    held: int = 0
    most_held: int = 0

    def start(self, *, width_px: int, height_px: int) -> CountingWalk:
        self.walks.append(CountingWalk(of=self, size_hw=(height_px, width_px)))
        return self.walks[-1]


class Prepared:
    """A frame's number; tells its segmenter when nobody holds it any more."""

    def __init__(self, of: Counting, source_index: int) -> None:
        self.source_index = source_index
        self._of = of
        of.held += 1
        of.most_held = max(of.most_held, of.held)

    def __del__(self) -> None:
        self._of.held -= 1


@dataclass
class CountingWalk:
    """stepped: number of the frame, and objects pointed to, of every step."""

    of: Counting
    size_hw: tuple[int, int]
    stepped: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)
    closed: bool = False
    _since: dict[int, int] = field(default_factory=dict)

    def prepare(self, frame: Frame) -> Prepared:
        return Prepared(self.of, frame.source_index)

    def step(self, prepared: Prepared, points: Sequence[PointPrompt] = ()) -> Mapping[int, BoolArray]:
        assert not self.closed
        self._since = {object_id: steps + 1 for object_id, steps in self._since.items()}
        self._since |= {point.object_id: 0 for point in points}
        self.stepped.append((prepared.source_index, tuple(point.object_id for point in points)))
        return {i: self._mask(i, prepared.source_index, steps) for i, steps in self._since.items()}

    def forget(self, object_id: int) -> None:
        self.forgotten.append(object_id)
        self._since.pop(object_id, None)

    def close(self) -> None:
        self.closed = True

    def _mask(self, object_id: int, source_index: int, steps: int) -> BoolArray:
        area = self.of.areas.get((object_id, source_index), steps + 1)
        mask = np.zeros(self.size_hw, dtype=bool)
        mask.ravel()[object_id * self.size_hw[1] :][:area] = True
        return mask


def at(source_index: int, object_id: int) -> PointPrompt:
    """A point on the first pixel of the object's row."""
    return PointPrompt(object_id=object_id, source_index=source_index, x_px=0.5, y_px=object_id + 0.5)

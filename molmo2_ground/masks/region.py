"""`Region`: a segmenter without weights.

draft
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.region_carry import Sight, carry, tightened
from molmo2_ground.masks.region_colours import Colours
from molmo2_ground.masks.region_seed import grow
from molmo2_ground.masks.segmenter import BoolArray

LONGEST_PX = 640


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    lab: RgbArray


class Region:
    name = "region"
    from_both_ends = True

    def start(self, *, width_px: int, height_px: int) -> RegionWalk:
        return RegionWalk(width_px=width_px, height_px=height_px)


class RegionWalk:
    def __init__(self, *, width_px: int, height_px: int) -> None:
        self._size_px = (width_px, height_px)
        self._sights: dict[int, Sight] = {}

    def prepare(self, frame: Frame) -> Picture:
        height, width = frame.rgb.shape[:2]
        scale = min(1.0, LONGEST_PX / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        rgb = frame.rgb if scale == 1 else cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA)
        return Picture(lab=cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB), (0, 0), 0.8))

    def step(self, prepared: Picture, points: Sequence[PointPrompt] = ()) -> Mapping[int, BoolArray]:
        picture = prepared.lab
        carried = {i: carry(s, picture) for i, s in self._sights.items()}
        places = {p.object_id: self._place(p, picture) for p in points}
        for i, place in places.items():
            others = [o for k, o in places.items() if k != i]
            mask = carried.get(i)
            if mask is None or not mask[int(place[1]), int(place[0])]:
                grown = grow(picture, place, others=others)
                if grown is None: continue
                carried[i] = tightened(picture, grown.mask)
                self._sights[i] = Sight(picture=picture, mask=carried[i], colours=Colours.of(picture[carried[i]]), speed_px=None, seen_px=int(carried[i].sum()))
        out = {}
        for i, mask in carried.items():
            s = self._sights[i]
            if mask is None:
                self._sights[i] = replace(s, missed=s.missed + 1)
                mask = np.zeros(picture.shape[:2], bool)
            elif s.picture is not picture:
                c0, c1 = _centre(s.mask), _centre(mask)
                sp = ((c1[0] - c0[0]) / (s.missed + 1), (c1[1] - c0[1]) / (s.missed + 1))
                self._sights[i] = replace(s, picture=picture, mask=mask, speed_px=sp, missed=0)
            out[i] = self._full(mask)
        return out

    def _place(self, p: PointPrompt, picture: RgbArray) -> tuple[float, float]:
        h, w = picture.shape[:2]
        return (min(max(p.x_px * w / self._size_px[0], 0), w - 0.01), min(max(p.y_px * h / self._size_px[1], 0), h - 0.01))

    def _full(self, mask: BoolArray) -> BoolArray:
        if mask.shape == (self._size_px[1], self._size_px[0]):
            return mask
        return cv2.resize(mask.astype(np.float32), self._size_px, interpolation=cv2.INTER_LINEAR) > 0.5

    def forget(self, object_id: int) -> None:
        self._sights.pop(object_id, None)

    def close(self) -> None:
        self._sights.clear()


def _centre(mask):
    m = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    return m["m10"] / m["m00"], m["m01"] / m["m00"]

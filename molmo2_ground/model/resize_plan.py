"""`ResizePlan`: the exact resize of `crops.resize_rgb` for many large frames of one size, with less work.

Torch wants a whole frame in float32 before it looks at the few pixels that a small picture is made of. A plan
takes those four pixels of each value out of the bytes and adds them up as torch's kernel does, in its order
and with its shares, so that the result is the same to the last bit.

Shapes: H, W pixels of the small picture; in the gathered bytes, for each of its rows, the upper and the lower
source row, and in each of these the left and the right source pixels, H × 2 × 2 × W × 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import torch

from molmo2_ground.clip import RgbArray
from molmo2_ground.model.crops import resize_float, resize_rgb

# Of the last few sizes: a plan for the released size holds 9 MB.
_PLANS_KEPT = 2
# Measured: below so many pixels of the frame for each of the small picture, torch's kernel is as fast.
_PLAN_PAYS = 6
# `cv2.remap` counts in int16.
_LARGEST_SIDE_PX = 2**15 - 1
_NO_SECOND_MAP = np.empty(0, dtype=np.int16)


def resize_frame(rgb_hwc: RgbArray, *, height_px: int, width_px: int) -> RgbArray:
    """Stretch a frame of a video: what `resize_rgb` gives, faster for many large frames of one size."""
    source, target = (rgb_hwc.shape[0], rgb_hwc.shape[1]), (height_px, width_px)
    if _plan_pays(source, target) and same_sums_as_torch():
        return resize_plan(source, target).apply(rgb_hwc)
    return resize_rgb(rgb_hwc, height_px=height_px, width_px=width_px)


def _plan_pays(source: tuple[int, int], target: tuple[int, int]) -> bool:
    shrinks = source[0] >= target[0] and source[1] >= target[1]
    large = source[0] * source[1] >= _PLAN_PAYS * target[0] * target[1]
    return shrinks and large and max(source) <= _LARGEST_SIDE_PX


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResizePlan:
    """Where the values of a small picture come from.

    places   int16[2H, 2W, 2]: x and y of each gathered pixel.
    shares   float32[2, 2, H, W, 3]: of the upper or lower, left or right pixel in each value.
    """

    places: npt.NDArray[np.int16]
    shares: torch.Tensor

    def apply(self, rgb_hwc: RgbArray) -> RgbArray:
        """The small picture, uint8[H, W, 3]."""
        result: RgbArray = self.sums(rgb_hwc).round_().clamp_(0, 255).to(torch.uint8).numpy()
        return result

    def sums(self, rgb_hwc: RgbArray) -> torch.Tensor:
        """The small picture before rounding, float32[H, W, 3]."""
        height, width = self.shares.shape[2:4]
        gathered = cv2.remap(np.ascontiguousarray(rgb_hwc), self.places, _NO_SECOND_MAP, cv2.INTER_NEAREST)
        pixels = torch.from_numpy(gathered).view(height, 2, 2, width, 3)
        # The order is that of torch's kernel; `addcmul_` rounds once for product and sum, as the kernel does.
        sums = pixels[:, 0, 1].float().mul_(self.shares[0, 1])
        for row, column in ((0, 0), (1, 0), (1, 1)):
            sums.addcmul_(pixels[:, row, column].float(), self.shares[row, column])
        return sums


@lru_cache(maxsize=_PLANS_KEPT)
def resize_plan(source: tuple[int, int], target: tuple[int, int]) -> ResizePlan:
    """The plan from (height, width) to (height, width) pixels, neither of them growing."""
    above, top = _axis(source[0], target[0])
    before, left = _axis(source[1], target[1])
    rows = np.stack([above, np.minimum(above + 1, source[0] - 1)], axis=1).reshape(-1)
    columns = np.concatenate([before, np.minimum(before + 1, source[1] - 1)])
    places = np.stack(np.broadcast_arrays(columns[None, :], rows[:, None]), axis=-1)
    shares = top[:, None, :, None] * left[None, :, None, :]
    return ResizePlan(
        places=np.ascontiguousarray(places.astype(np.int16)),
        shares=shares[..., None].expand(*shares.shape, 3).contiguous(),
    )


def _axis(source: int, target: int) -> tuple[npt.NDArray[np.int64], torch.Tensor]:
    """Along one axis: the first of the two pixels of each place, int64[target], and their shares [2, target].

    The shares are torch's own: it is shown a line of pixels that carry their number modulo four, one channel
    each, and what comes out is how much of which it took.
    """
    numbers = torch.arange(source)
    line = torch.nn.functional.one_hot(numbers % 4, 4).float()[None]
    taken = resize_float(line, height_px=1, width_px=target)[0]
    near = np.floor((np.arange(target) + 0.5) * source / target - 0.5).astype(np.int64)
    # Rounding may move the place over a pixel's middle; the pair is the two neighbours that hold everything.
    # One that holds it alone is the first of its pair, as in the kernel: the order of sums depends on it.
    first = np.clip(near[:, None] + np.array([1, 0, -1]), 0, source - 1)
    place = torch.arange(target)[:, None]
    pair = torch.stack([taken[place, torch.from_numpy((first + side) % 4)] for side in (0, 1)])
    best = pair.sum(dim=0).argmax(dim=1)
    return first[np.arange(target), best.numpy()], pair[:, torch.arange(target), best]


@lru_cache(maxsize=1)
def same_sums_as_torch() -> bool:
    """True where a plan's sums are those of torch's kernel, bit for bit, on pictures of noise.

    The kernel is compiled for the processor, and another one may add up in another order.
    """
    source, target = (211, 320), (97, 101)
    noise = np.random.default_rng(0).integers(0, 256, (8, *source, 3), dtype=np.uint8)
    plan = resize_plan(source, target)
    return all(
        torch.equal(
            plan.sums(picture), resize_float(_four_channels(picture), height_px=97, width_px=101)[..., :3]
        )
        for picture in noise
    )


def _four_channels(rgb_hwc: RgbArray) -> torch.Tensor:
    return torch.from_numpy(cv2.cvtColor(rgb_hwc, cv2.COLOR_RGB2RGBA)).float()

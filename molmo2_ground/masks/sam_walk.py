"""`SamSegmenter`, `SamWalk`: a network of the SAM 2 kind, frame by frame in bounded memory.

The first point of an object gives its mask as in a single picture. From there it is carried forward with the
memory of the frames before. A later point is a correction: the object is followed into the frame and its mask
decoded once more with the point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from molmo2_ground.clip import Frame
from molmo2_ground.masks.mask_policy import MaskChoice
from molmo2_ground.masks.picture_encoder import PictureEncoder, PictureFeatures
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.sam_pictures import SamPictures
from molmo2_ground.masks.segmenter import BoolArray

# As many frames with points as SAM 3, made by the same people for the same work, looks at (its
# max_cond_frame_num). SAM 2's own sessions keep the frames in which an object was begun, and no corrections.
ANCHORS = 4


class SamMemory(Protocol):
    """What is remembered of one object. Frames are numbered one by one.

    Masks are logits float[h, w], above 0 on the object, at the network's own size; None when the object is
    not in sight. Points are [1, 1, N, 2], x and y in pixels of the network's picture.
    """

    def first(
        self, index: int, pixels_1CSS: torch.Tensor, features: PictureFeatures, points_11N2: torch.Tensor
    ) -> torch.Tensor | None:
        """The mask that points alone give, in the first frame of the object."""
        ...

    def follow(
        self,
        index: int,
        pixels_1CSS: torch.Tensor,
        features: PictureFeatures,
        points_11N2: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """The mask that memory gives in this frame, and the points with it, if there are any."""
        ...

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor that is held."""
        ...


class SamSegmenter:
    """A segmenter that runs a network of the SAM 2 kind."""

    name: str
    from_both_ends: bool

    def __init__(
        self,
        name: str,
        *,
        pictures: SamPictures,
        encoder: PictureEncoder,
        choice: MaskChoice,
        new_memory: Callable[[], SamMemory],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Take the parts of a loaded network.

        choice: attached to the network's mask decoder. new_memory: for an object that was not seen yet.
        device, dtype: of the pictures that the encoder reads.
        """
        self.name = name
        # Memory holds an object over far more frames than lie between two looks.
        self.from_both_ends = False
        self.pictures, self.encoder, self.choice = pictures, encoder, choice
        self.new_memory = new_memory
        self.device, self.dtype = device, dtype

    def start(self, *, width_px: int, height_px: int) -> SamWalk:
        """A walk through frames of this size."""
        return SamWalk(self, width_px=width_px, height_px=height_px)


class SamWalk:
    """Frames of one size, one after another; every object with a memory of its own."""

    def __init__(self, segmenter: SamSegmenter, *, width_px: int, height_px: int) -> None:
        self._segmenter = segmenter
        self._width_px, self._height_px = width_px, height_px
        self._memories: dict[int, SamMemory] = {}
        self._index = 0

    def prepare(self, frame: Frame) -> torch.Tensor:
        """uint8[3, S, S], the frame at the network's size; `ValueError` for a frame of another size."""
        if (frame.width_px, frame.height_px) != (self._width_px, self._height_px):
            raise ValueError(
                f"this walk goes through frames of {self._width_px} x {self._height_px} pixels; frame "
                f"{frame.source_index} has {frame.width_px} x {frame.height_px}"
            )
        return self._segmenter.pictures.shrunk(frame)

    def step(self, prepared: torch.Tensor, points: Sequence[PointPrompt] = ()) -> Mapping[int, BoolArray]:
        """Take in the next frame, as `Walk.step`; `ValueError` for a point outside the picture."""
        at: dict[int, list[PointPrompt]] = {}
        for point in points:
            self._check(point)
            at.setdefault(point.object_id, []).append(point)
        index, self._index = self._index, self._index + 1
        ids = sorted({*self._memories, *at})
        if not ids:
            return {}
        segmenter = self._segmenter
        pixels = segmenter.pictures.pixels(prepared, device=segmenter.device, dtype=segmenter.dtype)
        features = segmenter.encoder.encode(pixels)
        masks: dict[int, BoolArray] = {}
        for object_id in ids:
            memory = self._memories.get(object_id)
            given = at.get(object_id)
            if memory is None:
                assert given is not None, "an object is followed because a point was given"
                memory = segmenter.new_memory()
                with segmenter.choice.at(x=given[0].x_px / self._width_px, y=given[0].y_px / self._height_px):
                    logits = memory.first(index, pixels, features, self._coordinates(given))
                self._memories[object_id] = memory
            else:
                corrections = None if given is None else self._coordinates(given)
                logits = memory.follow(index, pixels, features, corrections)
            masks[object_id] = self._mask(logits)
        return masks

    def forget(self, object_id: int) -> None:
        """Follow this object no longer; does nothing for one that is not followed."""
        self._memories.pop(object_id, None)

    def close(self) -> None:
        """Let go of every object's memory."""
        self._memories.clear()

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor that the walk holds, to see how much that is."""
        for memory in self._memories.values():
            yield from memory.tensors()

    def _check(self, point: PointPrompt) -> None:
        # A point on the right or lower edge is written as the picture's size.
        if not (0 <= point.x_px <= self._width_px and 0 <= point.y_px <= self._height_px):
            raise ValueError(
                f"object {point.object_id} in frame {point.source_index}: the point "
                f"({point.x_px:g}, {point.y_px:g}) lies outside the picture of "
                f"{self._width_px} x {self._height_px} pixels"
            )

    def _coordinates(self, points: Sequence[PointPrompt]) -> torch.Tensor:
        """[1, 1, N, 2]: x and y in pixels of the network's picture."""
        side = self._segmenter.pictures.side_px
        return torch.tensor(
            [[[[p.x_px * side / self._width_px, p.y_px * side / self._height_px] for p in points]]]
        )

    def _mask(self, logits: torch.Tensor | None) -> BoolArray:
        shape = (self._height_px, self._width_px)
        if logits is None:
            return np.zeros(shape, dtype=np.bool_)
        whole = torch.nn.functional.interpolate(
            logits[None, None].float(), size=shape, mode="bilinear", align_corners=False
        )
        mask: BoolArray = (whole[0, 0] > 0).cpu().numpy()
        return mask

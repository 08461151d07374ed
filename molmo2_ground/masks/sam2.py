"""`Sam2`: SAM 2 and 2.1 as a segmenter, frame by frame in bounded memory, by the transformers library.

The first point of an object gives its mask as in a single picture. From there SAM carries it forward with its
memory of the frames before. A later point is a correction: SAM follows the object into the frame and decodes
its mask once more with the point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molmo2_ground.clip import Frame
from molmo2_ground.masks.mask_policy import MaskChoice, Policy
from molmo2_ground.masks.object_memory import ObjectMemory
from molmo2_ground.masks.picture_encoder import PictureEncoder, TorchEncoder
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.sam_checkpoint import SamCheckpoint, SamFamily, load_sam_network, open_sam
from molmo2_ground.masks.segmenter import BoolArray
from molmo2_ground.model.molmo2 import chosen_device, chosen_dtype

SAM2 = SamFamily(
    title="SAM 2",
    short=tuple(
        f"{version}-hiera-{size}"
        for version in ("sam2.1", "sam2")
        for size in ("tiny", "small", "base-plus", "large")
    ),
    model_types=("sam2_video",),
    network="Sam2VideoModel",
    config="Sam2VideoConfig",
    session="Sam2VideoInferenceSession",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
# As many frames with points as SAM 3, made by the same people for the same work, looks at (its
# max_cond_frame_num); SAM 2's own sessions keep one and every further frame that a user starts anew.
ANCHORS = 4


class Sam2:
    """A segmenter that runs SAM 2, or a network of the same build."""

    name: str
    from_both_ends: bool

    def __init__(
        self,
        checkpoint: SamCheckpoint,
        network: Any,
        *,
        policy: Policy = "best",
        anchors: int = ANCHORS,
        encoder: PictureEncoder | None = None,
    ) -> None:
        """Take a loaded network; the arguments are those of `load_sam2`.

        encoder: what makes the pictures' features; without it the network itself does.
        """
        if anchors < 1:
            raise ValueError(f"anchors must be 1 or more, for the first point is one; got {anchors}")
        self.name = checkpoint.name
        # Its memory holds an object over far more frames than lie between two looks.
        self.from_both_ends = False
        self.checkpoint, self.network, self.anchors = checkpoint, network, anchors
        self.encoder = TorchEncoder(network) if encoder is None else encoder
        self.choice = MaskChoice(policy)
        self.choice.attach(network.mask_decoder)

    def start(self, *, width_px: int, height_px: int) -> Sam2Walk:
        """A walk through frames of this size."""
        return Sam2Walk(self, width_px=width_px, height_px=height_px)

    def new_memory(self) -> ObjectMemory:
        """The memory of an object that has not been seen yet."""
        import transformers

        session = getattr(transformers, self.checkpoint.family.session)(
            inference_device=self.network.device,
            inference_state_device=self.network.device,
            video_storage_device=self.network.device,
            dtype=self.network.dtype,
        )
        return ObjectMemory(self.network, session, anchors=self.anchors)


class Sam2Walk:
    """Frames of one size, one after another; every object with a memory of its own."""

    def __init__(self, segmenter: Sam2, *, width_px: int, height_px: int) -> None:
        self._segmenter = segmenter
        self._width_px, self._height_px = width_px, height_px
        self._memories: dict[int, ObjectMemory] = {}
        self._index = 0

    def prepare(self, frame: Frame) -> torch.Tensor:
        """uint8[3, S, S], the frame at the network's size; `ValueError` for a frame of another size."""
        if (frame.width_px, frame.height_px) != (self._width_px, self._height_px):
            raise ValueError(
                f"this walk goes through frames of {self._width_px} x {self._height_px} pixels; frame "
                f"{frame.source_index} has {frame.width_px} x {frame.height_px}"
            )
        return self._segmenter.checkpoint.pictures.shrunk(frame)

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
        network = segmenter.network
        pixels = segmenter.checkpoint.pictures.pixels(prepared, device=network.device, dtype=network.dtype)
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
        side = self._segmenter.checkpoint.pictures.side_px
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


def load_sam2(
    name: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    policy: Policy = "best",
    anchors: int = ANCHORS,
) -> Sam2:
    """SAM 2 or 2.1 with its weights, by name.

    name: `sam2.1-hiera-tiny`, `-small`, `-base-plus`, `-large`, the same of `sam2`, another hub id, or a
    folder in the hub's layout. device: `auto` takes an accelerator when there is one. dtype: `auto` is
    bfloat16 on an accelerator and float32 on a CPU.
    policy: what the first point of an object means, of three masks that SAM gives for it: `best`, the one
    that SAM predicts to fit best, as SAM itself does; `part` the smallest, `whole` the largest of those that
    are plausible (`mask_policy.preferred`). Corrections follow the object that is in memory.
    anchors: how many frames with points stay in memory for good, the first and the newest others; with 1 a
    correction fades as other frames do, as in the library's own sessions.
    Raises `CheckpointError` that says what is wrong with the checkpoint, `ValueError` for other arguments.
    """
    return load_sam(name, family=SAM2, device=device, dtype=dtype, policy=policy, anchors=anchors)


def load_sam(
    name: str | Path,
    *,
    family: SamFamily,
    device: str | torch.device,
    dtype: str | torch.dtype,
    policy: Policy,
    anchors: int,
) -> Sam2:
    """A network of SAM 2's build; arguments and errors as of `load_sam2`."""
    MaskChoice(policy)  # wrong arguments are told before weights are read
    where = chosen_device(device)
    numbers = chosen_dtype(dtype, where)
    checkpoint = open_sam(name, family=family)
    network = load_sam_network(checkpoint, device=where, dtype=numbers)
    return Sam2(checkpoint, network, policy=policy, anchors=anchors)

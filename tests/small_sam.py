"""A small random SAM, frames for it, and the library's own way of running it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from molmo2_ground.clip import Frame
from molmo2_ground.masks.object_memory import ObjectMemory
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.sam2 import Sam2
from molmo2_ground.masks.sam_walk import SamSegmenter

WIDTH_PX, HEIGHT_PX = 96, 80
# What a step looks back at is short, so that a dozen frames reach beyond it.
SHORT_MEMORY = {"num_maskmem": 3, "max_object_pointers_in_encoder": 5}

BoolArray = npt.NDArray[np.bool_]


def frames(count: int, *, seed: int = 0) -> list[Frame]:
    """Blocks of colour that move over each other."""
    random = np.random.default_rng(seed)
    blocks = np.kron(random.integers(0, 256, (10, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    noise = random.integers(0, 40, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    return [
        Frame(
            rgb=np.roll(blocks, 3 * number, axis=1) // 2 + np.roll(noise, number, axis=0),
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
            source_index=number,
            time_s=number / 10,
            shown_time_s=number / 10,
        )
        for number in range(count)
    ]


def point(object_id: int, frame: int, x_px: float = 30.0, y_px: float = 40.0) -> PointPrompt:
    return PointPrompt(object_id=object_id, source_index=frame, x_px=x_px, y_px=y_px)


def walked(
    segmenter: SamSegmenter, shown: Iterable[Frame], points: Sequence[PointPrompt]
) -> list[Mapping[int, BoolArray]]:
    """The masks of a walk through these frames, in their order, frame after frame."""
    walk = segmenter.start(width_px=WIDTH_PX, height_px=HEIGHT_PX)
    made = []
    for frame in shown:
        given = [p for p in points if p.source_index == frame.source_index]
        made.append(walk.step(walk.prepare(frame), given))
    walk.close()
    return made


def single_frame(network: Any, inputs: Sequence[torch.Tensor], *, points: int, several: bool) -> Any:
    """The library's step after memory, on the arguments of `MaskDecoder.decode`; points 0: without any."""
    fine, middle, coarse, at, labels = inputs
    with torch.inference_mode():
        return network._single_frame_forward(
            input_points=at[:, None] if points else None,
            input_labels=labels[:, None].int() if points else None,
            image_embeddings=[fine, middle, coarse],
            multimask_output=several,
        )


class KeepsAll(ObjectMemory):
    """A memory that lets go of nothing, as the library's sessions do."""

    def _prune(self, index: int) -> None:
        return None


class WholeVideo:
    """The library's session over a video that is given up front."""

    def __init__(self, segmenter: Sam2, shown: Sequence[Frame]) -> None:
        import transformers

        self._segmenter, self.network = segmenter, segmenter.network
        pictures = segmenter.checkpoint.pictures
        pixels = [
            pictures.pixels(pictures.shrunk(frame), device=torch.device("cpu"), dtype=torch.float32)
            for frame in shown
        ]
        session_class = getattr(transformers, segmenter.checkpoint.family.session)
        self.session: Any = session_class(
            video=torch.cat(pixels), video_height=HEIGHT_PX, video_width=WIDTH_PX, dtype=torch.float32
        )

    def tell(self, *points: PointPrompt) -> Mapping[int, BoolArray]:
        """Points of one frame, and the masks there."""
        side = self._segmenter.checkpoint.pictures.side_px
        for given in points:
            number = self.session.obj_id_to_idx(given.object_id)
            at = torch.tensor([[[[given.x_px * side / WIDTH_PX, given.y_px * side / HEIGHT_PX]]]])
            labels = torch.ones((1, 1, 1), dtype=torch.int32)
            self.session.add_point_inputs(
                number, given.source_index, {"point_coords": at, "point_labels": labels}
            )
            self.session.obj_with_new_inputs.append(given.object_id)
        return self._masks(self.network(self.session, frame_idx=points[0].source_index))

    def propagate(self, start: int, count: int, *, reverse: bool = False) -> list[Mapping[int, BoolArray]]:
        """Masks of `start` and of `count` frames after it, or before it."""
        outputs = self.network.propagate_in_video_iterator(
            self.session, start_frame_idx=start, max_frame_num_to_track=count, reverse=reverse
        )
        return [self._masks(output) for output in outputs]

    def _masks(self, output: Any) -> Mapping[int, BoolArray]:
        whole = torch.nn.functional.interpolate(
            output.pred_masks.float(), size=(HEIGHT_PX, WIDTH_PX), mode="bilinear", align_corners=False
        )
        return {
            object_id: (whole[number, 0] > 0).numpy() for number, object_id in enumerate(output.object_ids)
        }


def assert_same(
    found: Sequence[Mapping[int, BoolArray]], expected: Sequence[Mapping[int, BoolArray]]
) -> None:
    assert len(found) == len(expected)
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours.keys() == theirs.keys(), number
        for object_id, mask in ours.items():
            assert np.array_equal(mask, theirs[object_id]), (number, object_id)
    # Masks that are all empty or all full would agree whatever was done to make them.
    shares = [mask.mean() for masks in expected for mask in masks.values()]
    assert any(0.02 < share < 0.98 for share in shares)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from molmo2_ground.masks.mask_decoder import Decoded, DecoderGraph, with_decoder
from molmo2_ground.masks.mask_policy import Policy
from molmo2_ground.masks.sam2 import Sam2, load_sam2
from molmo2_ground.masks.sam_onnx import decoder_inputs
from molmo2_ground.masks.sam_random import write_random_sam2
from molmo2_ground.model.onnx_export import ALLOWED_DIFFERENCE, relative_difference
from tests.small_sam import SHORT_MEMORY, assert_same, frames, point, single_frame, walked


class ByTorch:
    """A decoder that runs the graph's module as it is; counts its calls."""

    def __init__(self, network: Any) -> None:
        self._graph = DecoderGraph(network).eval()
        self.calls = 0

    def decode(self, *inputs: torch.Tensor) -> Decoded:
        self.calls += 1
        masks, scores, pointers, sight = self._graph(*inputs)
        return Decoded(masks=masks, scores=scores, pointers=pointers, sight=sight)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_sam2(tmp_path_factory.mktemp("sam2"), **SHORT_MEMORY)


@pytest.fixture(scope="module")
def sam(folder: Path) -> Sam2:
    return load_sam2(folder, device="cpu")


@pytest.mark.parametrize("several", [True, False], ids=["three masks", "one mask"])
@pytest.mark.parametrize("points", [0, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_another_decoder_gives_what_the_library_gives(
    sam: Sam2, seed: int, points: int, several: bool
) -> None:
    inputs = decoder_inputs(sam, objects=1, points=points, seed=seed)
    other = with_decoder(sam.network, ByTorch(sam.network))
    ours = single_frame(other, inputs, points=points, several=several)
    theirs = single_frame(sam.network, inputs, points=points, several=several)
    for name in ("iou_scores", "pred_masks", "high_res_masks", "object_pointer", "object_score_logits"):
        found, expected = getattr(ours, name), getattr(theirs, name)
        assert found.shape == expected.shape, name
        assert relative_difference(found, expected) < ALLOWED_DIFFERENCE / 10, name


def test_objects_together_are_decoded_as_each_alone(sam: Sam2) -> None:
    graph = DecoderGraph(sam.network).eval()
    fine, middle, *of_objects = decoder_inputs(sam, objects=3, points=2)
    together = graph(fine, middle, *of_objects)
    assert [list(part.shape) for part in together] == [[3, 4, 16, 16], [3, 4], [3, 4, 128], [3, 1]]
    for number in range(3):
        alone = graph(fine, middle, *(part[number : number + 1] for part in of_objects))
        for found, expected in zip(together, alone, strict=True):
            assert relative_difference(found[number : number + 1], expected) < ALLOWED_DIFFERENCE / 10


CHANGES: dict[str, dict[str, Any]] = {
    "three masks at a first click alone": {"multimask_output_for_tracking": False},
    "one mask always": {"multimask_output_in_sam": False},
}
SHOWN, POINTS = 7, [point(1, 0, 20, 30), point(2, 2, 80, 60), point(2, 2, 70, 50), point(1, 4, 60, 20)]


@pytest.mark.slow
@pytest.mark.parametrize("stable", [True, False], ids=["the stable mask", "the first mask"])
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_walk_is_the_same_with_another_decoder(
    tmp_path: Path, changes: dict[str, Any], stable: bool
) -> None:
    sam = load_sam2(write_random_sam2(tmp_path, seed=3, **SHORT_MEMORY, **changes), device="cpu")
    sam.network.mask_decoder.dynamic_multimask_via_stability = stable
    decoder = ByTorch(sam.network)
    other = sam.with_parts(encoder=sam.encoder, decoder=decoder)
    assert_same(walked(other, frames(SHOWN), POINTS), walked(sam, frames(SHOWN), POINTS))
    # Object 1 in 7 frames and 2 in 5; the correction is decoded once more.
    assert decoder.calls == 7 + 5 + 1


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["best", "part", "whole"])
def test_a_policy_chooses_among_the_masks_of_another_decoder(folder: Path, policy: Policy) -> None:
    sam = load_sam2(folder, device="cpu", policy=policy, anchors=2)
    other = sam.with_parts(encoder=sam.encoder, decoder=ByTorch(sam.network))
    assert_same(walked(other, frames(SHOWN), POINTS), walked(sam, frames(SHOWN), POINTS))


def test_prompts_other_than_points_are_refused(sam: Sam2) -> None:
    other = with_decoder(sam.network, ByTorch(sam.network))
    fine, middle, coarse, *_ = decoder_inputs(sam, objects=1, points=1)
    for prompt in ({"input_boxes": torch.zeros((1, 1, 4))}, {"input_masks": torch.zeros((1, 1, 16, 16))}):
        with pytest.raises(ValueError, match="takes points alone; got a box or a mask"):
            other._single_frame_forward(image_embeddings=[fine, middle, coarse], **prompt)


def test_the_network_itself_stays_as_it_is(sam: Sam2) -> None:
    before = {name: id(module) for name, module in sam.network.named_modules()}
    weights = sam.network.state_dict().keys()
    other = with_decoder(sam.network, ByTorch(sam.network))
    assert {name: id(module) for name, module in sam.network.named_modules()} == before
    assert sam.network.state_dict().keys() == weights
    assert other.memory_attention is sam.network.memory_attention

"""The network's numbers against the library's own forward and generate on the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Molmo2ForConditionalGeneration

from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.inputs import Media, ModelInputs
from molmo2_ground.model.random_checkpoint import Kind
from molmo2_ground.model.vision import normalised

KINDS: tuple[Kind, ...] = ("qwen", "olmo")
QUESTION = "Track the red mug."


def noise(*shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


MEDIA: dict[str, Media] = {
    "one-image": [noise(100, 150, 3)],
    "one-crop": [noise(40, 30, 3)],
    "several-images": [noise(100, 150, 3), noise(40, 30, 3), noise(90, 200, 3)],
    "video": Clip.from_arrays(noise(7, 50, 90, 3), fps=2.0),
    "text": [],
}


@pytest.fixture(scope="module")
def models(checkpoint_folders: dict[Kind, Path]) -> dict[str, Molmo2]:
    return {kind: load_checkpoint(folder, device="cpu") for kind, folder in checkpoint_folders.items()}


@pytest.fixture(scope="module")
def library(checkpoint_folders: dict[Kind, Path]) -> dict[str, Any]:
    # Loaded apart from ours: nothing of ours has touched this network.
    loaded: dict[str, Any] = {}
    for kind, folder in checkpoint_folders.items():
        network: Any = Molmo2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        loaded[kind] = network.eval()
    return loaded


def library_arguments(model: Molmo2, inputs: ModelInputs, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    arguments = {"input_ids": inputs.input_ids[None], "mm_token_type_ids": inputs.visual_L.long()[None]}
    if inputs.visual is not None:
        pixels = normalised(inputs.visual.patches_CNP, flags=model.flags, dtype=torch.float32)
        names = {
            "images": ("pixel_values", "image_token_pooling", "image_grids"),
            "video": ("pixel_values_videos", "video_token_pooling", "video_grids"),
        }[inputs.visual.kind]
        values = (pixels, inputs.visual.pooling_TK, torch.tensor(inputs.visual.grids))
        arguments.update(zip(names, values, strict=True))
    return {**arguments, **changes}


@torch.no_grad()
def library_logits(network: Any, arguments: dict[str, torch.Tensor]) -> torch.Tensor:
    logits: torch.Tensor = network(**arguments).logits[0]
    return logits


@pytest.mark.parametrize("media", MEDIA.values(), ids=MEDIA.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_the_librarys(
    kind: Kind, media: Media, models: dict[str, Molmo2], library: dict[str, Any]
) -> None:
    model = models[kind]
    inputs = model.build_inputs(media, QUESTION)
    expected = library_logits(library[kind], library_arguments(model, inputs))
    logits = model.logits(inputs)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    # The library's own call on our network gives what it gave before we changed its attention.
    again = library_logits(model.network, library_arguments(model, inputs))
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("media", MEDIA.values(), ids=MEDIA.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answer_equals_the_librarys(
    kind: Kind, media: Media, models: dict[str, Molmo2], library: dict[str, Any]
) -> None:
    model = models[kind]
    inputs = model.build_inputs(media, QUESTION)
    expected = (
        library[kind]
        .generate(
            **library_arguments(model, inputs),
            attention_mask=torch.ones(1, len(inputs), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
        )[0, len(inputs) :]
        .tolist()
    )
    generated = model.generate(inputs, max_new_tokens=12)
    ended = [expected[-1]] if generated.stop_reason == "end" else []
    assert [*generated.token_ids, *ended] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_without_token_types_the_library_is_silently_causal(
    kind: Kind, models: dict[str, Molmo2], library: dict[str, Any]
) -> None:
    # The library is easy to call wrongly: its mask then forgets that pictures see each other both ways.
    model = models[kind]
    inputs = model.build_inputs(MEDIA["video"], QUESTION)
    arguments = library_arguments(model, inputs)
    del arguments["mm_token_type_ids"]
    causal = library_logits(library[kind], arguments)
    assert (model.logits(inputs) - causal).abs().max() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_of_the_released_processor_would_be_wrong(
    kind: Kind, models: dict[str, Molmo2], library: dict[str, Any]
) -> None:
    # The processor in the released folders counts patches from 0 in each image. The library's model reads
    # these numbers as absolute, and gives other logits from the second image on.
    model = models[kind]
    inputs = model.build_inputs(MEDIA["several-images"], QUESTION)
    assert inputs.visual is not None
    relative, first_patch, token = inputs.visual.pooling_TK.clone(), 0, 0
    for unit in inputs.visual.units:
        rows = relative[token : token + unit.tokens]
        rows[rows >= 0] -= first_patch
        token += unit.tokens
        first_patch += unit.crops * inputs.visual.patches_CNP.shape[1]
    arguments = library_arguments(model, inputs, image_token_pooling=relative)
    difference = (library_logits(library[kind], arguments) - model.logits(inputs)).abs().amax(dim=1)
    second_image = int(inputs.patch_L.nonzero()[inputs.visual.units[0].tokens])
    assert difference[second_image:].max() > 0.05

"""Token ids, pixels and pooling against what the library's own processors gave (see make_goldens.py)."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from molmo2_ground.clip import Clip
from molmo2_ground.model.inputs import ModelInputs, assemble, visual_inputs
from molmo2_ground.model.random_checkpoint import byte_tokenizer, random_flags
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.sources.sampling import uniform_last_frame

GOLDENS: dict[str, Any] = json.loads(Path(__file__).with_name("goldens.json").read_text())
CASES = sorted(GOLDENS["cases"])


def ours(case: str, maker: ModuleType) -> ModelInputs:
    tokenizer = byte_tokenizer()
    codec = TextCodec(tokenizer, bos_word="<|im_end|>", eos_word="<|im_end|>")
    crops = None
    media: Any
    if case in maker.IMAGE_CASES:
        kind, settings, sizes, crops = maker.IMAGE_CASES[case]
        media = [maker.picture(height, width, seed=seed) for seed, (height, width) in enumerate(sizes)]
    else:
        kind, settings, size, indices, fps = maker.VIDEO_CASES[case]
        media = Clip.from_arrays(
            [maker.picture(*size, seed=index) for index in indices],
            times_s=[index / fps for index in indices],
        )
    flags = random_flags(kind, tokenizer=tokenizer, **settings)
    visual = visual_inputs(media, codec=codec, flags=flags, max_crops=crops)
    return assemble(visual, GOLDENS["question"], codec=codec, flags=flags)


def test_goldens_hold_every_case(maker: ModuleType) -> None:
    assert sorted([*maker.IMAGE_CASES, *maker.VIDEO_CASES]) == CASES


@pytest.mark.parametrize("case", CASES)
def test_inputs_equal_the_librarys(case: str, maker: ModuleType) -> None:
    golden = GOLDENS["cases"][case]
    inputs = ours(case, maker)
    assert inputs.visual is not None
    assert maker.runs(inputs.input_ids.tolist()) == golden["input_ids"]
    assert maker.runs(inputs.visual_L.int().tolist()) == golden["visual"]
    assert [list(grid) for grid in inputs.visual.grids] == golden["grids"]
    assert maker.digest(inputs.visual.patches_CNP.numpy()) == golden["patches"]
    assert maker.digest(inputs.visual.pooling_TK.numpy()) == golden["pooling"]
    assert inputs.patch_L.sum() == len(inputs.visual.pooling_TK)


@pytest.mark.parametrize(
    ("total", "fps", "last_missed"),
    [
        pytest.param(90, 30.0, 89, id="three-seconds"),
        pytest.param(59, 30.0, 58, id="just-under-two-seconds"),
        pytest.param(300, 30.0, 299, id="ten-seconds"),
    ],
)
def test_the_librarys_choice_of_frames_misses_the_last_one(total: int, fps: float, last_missed: int) -> None:
    # The library is wrong here: the models were trained with the last frame always shown, so frames are
    # chosen by our own rule and the library's choice is not followed.
    library = GOLDENS["library_frame_choice"][f"{total}@{fps:g}"]
    assert last_missed not in library
    duration_s = total / fps
    assert uniform_last_frame(duration_s, max_frames=384)[-1] == pytest.approx(duration_s)


def test_pooling_counts_over_all_images_of_the_call(maker: ModuleType) -> None:
    # The processor in the released folders counts from 0 in each image; the library's model needs absolute
    # numbers. The golden above holds the absolute ones; this states the difference.
    inputs = ours("large-two", maker)
    assert inputs.visual is not None
    first, second = inputs.visual.units
    pooling = inputs.visual.pooling_TK.numpy()
    offset = first.crops * 27 * 27
    assert pooling[first.tokens :].max() == offset + second.crops * 27 * 27 - 1
    assert np.unique(pooling[first.tokens :])[1] == offset

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molmo2_ground.clip import Clip
from molmo2_ground.errors import PromptTooLongError
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.inputs import Media
from molmo2_ground.model.molmo2 import chosen_device

KINDS = ["qwen", "olmo"]


def noise(*shape: int, seed: int = 5) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


MEDIA: dict[str, Media] = {
    "image": [noise(100, 150, 3)],
    "images": [noise(100, 150, 3), noise(40, 30, 3)],
    "video": Clip.from_arrays(noise(6, 40, 60, 3), fps=2.0),
    "text": [],
}
QUESTIONS = ["Track the red mug.", "How many?", "Track the red mug."]


@pytest.mark.slow
@pytest.mark.parametrize("media", MEDIA.values(), ids=MEDIA.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_questions_over_one_prefix_are_answered_as_if_alone(
    kind: str, media: Media, models: dict[str, Molmo2]
) -> None:
    model = models[kind]
    prefix = model.prefix(media)
    for question in QUESTIONS:
        alone = model.generate(model.build_inputs(media, question), max_new_tokens=10)
        shared = prefix.generate(question, max_new_tokens=10)
        assert shared.token_ids == alone.token_ids
        assert shared.text == alone.text
        assert shared.tokens_in == alone.tokens_in


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_those_of_the_logits(kind: str, models: dict[str, Molmo2]) -> None:
    # One run over prompt and answer together must choose what the step-by-step run chose.
    model = models[kind]
    inputs = model.build_inputs(MEDIA["video"], "Track it.")
    generated = model.generate(inputs, max_new_tokens=8)
    answer = torch.tensor(generated.token_ids)
    nothing = torch.zeros(len(answer), dtype=torch.bool)
    whole = dataclasses.replace(
        inputs,
        input_ids=torch.cat([inputs.input_ids, answer]),
        visual_L=torch.cat([inputs.visual_L, nothing]),
        patch_L=torch.cat([inputs.patch_L, nothing]),
    )
    chosen = model.logits(whole)[len(inputs) - 1 : -1].argmax(dim=1)
    assert chosen.tolist() == answer.tolist()


@pytest.mark.slow
def test_a_seed_gives_the_same_answer_and_another_another(model: Molmo2) -> None:
    inputs = model.build_inputs(MEDIA["image"], "Describe it.")

    def answer(seed: int) -> tuple[int, ...]:
        return model.generate(inputs, max_new_tokens=12, temperature=1.5, top_p=0.95, seed=seed).token_ids

    assert answer(1) == answer(1)
    assert answer(1) != answer(2)


def test_an_answer_stops_at_the_end_word(model: Molmo2) -> None:
    inputs = model.build_inputs([], "Hello.")
    free = model.generate(inputs, max_new_tokens=12)
    assert (free.stop_reason, len(free.token_ids), free.forwards) == ("length", 12, 11)
    stop = free.token_ids[5]
    expected = free.token_ids[: free.token_ids.index(stop)]
    codec = model.codec
    before = codec.stop_ids
    codec.stop_ids = frozenset({stop})
    try:
        ended = model.generate(inputs, max_new_tokens=12)
    finally:
        codec.stop_ids = before
    assert (ended.stop_reason, ended.token_ids) == ("end", expected)


def test_tokens_are_told_as_they_come(model: Molmo2) -> None:
    heard: list[int] = []
    generated = model.generate(model.build_inputs([], "Hi."), max_new_tokens=5, on_token=heard.append)
    assert tuple(heard) == generated.token_ids


def test_a_prefix_survives_an_answer_that_is_broken_off(model: Molmo2) -> None:
    class Enough(Exception):
        pass

    def stop(token: int) -> None:
        raise Enough

    prefix = model.prefix(MEDIA["video"])
    expected = prefix.generate("How many?", max_new_tokens=6)
    with pytest.raises(Enough):
        prefix.generate("Track it.", max_new_tokens=6, on_token=stop)
    assert prefix.generate("How many?", max_new_tokens=6).token_ids == expected.token_ids


@pytest.fixture(scope="module")
def short_sighted(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Molmo2:
    """A model that reads 100 tokens."""
    folder = tmp_path_factory.mktemp("short") / "checkpoint"
    shutil.copytree(folders["qwen"], folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 100
    (folder / "config.json").write_text(json.dumps(config))
    return load_checkpoint(folder, device="cpu")


def test_long_answers_are_cut_where_the_context_ends(short_sighted: Molmo2) -> None:
    inputs = short_sighted.build_inputs([], "1" * 60)
    left = 100 - len(inputs)
    generated = short_sighted.generate(inputs, max_new_tokens=50)
    assert (generated.stop_reason, len(generated.token_ids)) == ("length", left)
    assert 0 < left < 50


def test_a_prompt_without_room_is_refused(short_sighted: Molmo2) -> None:
    fixed = len(short_sighted.build_inputs([], ""))
    long = short_sighted.build_inputs([], "1" * (102 - fixed))
    with pytest.raises(PromptTooLongError, match="has 102 tokens and the model reads 100: 3 too many"):
        short_sighted.generate(long, max_new_tokens=1)
    frames = Clip.from_arrays(np.zeros((20, 4, 4, 3), np.uint8), fps=2.0)
    with pytest.raises(PromptTooLongError, match="fewer frames"):
        short_sighted.prefix(frames)
    just = short_sighted.build_inputs([], "1" * (99 - fixed))
    assert len(short_sighted.generate(just, max_new_tokens=9).token_ids) <= 1


def test_no_words_wanted_is_refused(model: Molmo2) -> None:
    with pytest.raises(ValueError, match="max_new_tokens must be 1 or more; got 0"):
        model.generate(model.build_inputs([], "Hi."), max_new_tokens=0)


def test_times_are_spent_where_the_work_is(model: Molmo2) -> None:
    generated = model.generate(model.build_inputs(MEDIA["video"], "Hi."), max_new_tokens=2)
    assert set(generated.timings_ms) == {"vision", "prefill", "decode_text"}
    assert min(generated.timings_ms.values()) > 0
    prefix = model.prefix(MEDIA["video"])
    assert set(prefix.timings_ms) == {"vision", "prefill"}
    assert set(prefix.generate("Hi.", max_new_tokens=2).timings_ms) == {"prefill", "decode_text"}


def test_frames_are_stretched_to_the_models_square(model: Molmo2) -> None:
    frame = noise(50, 120, 3)
    small = model.resize_frame(frame)
    assert small.shape == (84, 84, 3)
    before = model.build_inputs(Clip.from_arrays([frame], times_s=[0.0]), "Hi.")
    after = model.build_inputs(Clip.from_arrays([small], times_s=[0.0]), "Hi.")
    assert before.visual is not None
    assert after.visual is not None
    assert torch.equal(before.visual.patches_CNP, after.visual.patches_CNP)


def test_limits_are_the_checkpoints(model: Molmo2) -> None:
    limits = model.limits
    assert (limits.max_frames, limits.max_fps, limits.max_crops) == (32, 2.0, 8)
    assert limits.context_tokens == 4096
    assert model.revision is None


def test_nothing_is_logged_while_answering(model: Molmo2, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="molmo2_ground")
    model.generate(model.build_inputs(MEDIA["images"], "Hi."), max_new_tokens=2)
    assert caplog.messages == []


def test_a_device_has_a_name_or_is_chosen() -> None:
    assert chosen_device("cpu") == torch.device("cpu")
    assert chosen_device(torch.device("cpu")) == torch.device("cpu")
    assert chosen_device("auto").type in ("cpu", "cuda", "mps", "xpu")

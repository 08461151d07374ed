from __future__ import annotations

import dataclasses
import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molmo2_ground.backends import Backend
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.backends.native import NativeBackend
from molmo2_ground.clip import Clip
from molmo2_ground.errors import PromptTooLongError
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.answer_rules import START, State
from molmo2_ground.query import Decoding, Prompt, Query, build_prompt

SHORT = Decoding(max_new_tokens=6)
CONTEXT = 150


def noise(*shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(11).integers(0, 256, shape, dtype=np.uint8)


VIDEO = Clip.from_arrays(noise(5, 40, 60, 3), fps=2.0, source="street.mp4")
IMAGE = Clip.from_arrays([noise(150, 220, 3)], source="shelf.jpg")


def asked(query: Query, clip: Clip) -> Prompt:
    return build_prompt(query, clip)


def test_an_answer_says_how_it_came_about(model: Molmo2, folder: Path) -> None:
    backend: Backend = NativeBackend(model)
    prompt = asked(Query.track("the red car"), VIDEO)
    with backend.open(VIDEO) as session:
        raw = session.answer(prompt, decoding=SHORT)
    inputs = model.build_inputs(VIDEO, prompt.text)
    expected = model.generate(inputs, max_new_tokens=6)
    assert raw.text == expected.text
    assert (raw.tokens_in, raw.tokens_out, raw.forwards) == (
        len(inputs),
        len(expected.token_ids),
        expected.forwards,
    )
    assert (raw.stop_reason, raw.backend, raw.recipe) == (
        expected.stop_reason,
        "native",
        "native/greedy/1+rules",
    )
    assert (raw.model_id, raw.revision) == (str(folder), None)
    assert set(raw.timings_ms) == {"preprocess", "vision", "prefill", "decode_text"}


@pytest.mark.slow
def test_later_questions_cost_their_answer_alone(model: Molmo2) -> None:
    queries = [Query.track("the red car"), Query.count("buses"), Query.ask("What is there?")]
    with NativeBackend(model).open(VIDEO) as session:
        together = [session.answer(asked(query, VIDEO), decoding=SHORT) for query in queries]
    assert set(together[1].timings_ms) == {"prefill", "decode_text"}
    for query, answer in zip(queries, together, strict=True):
        with NativeBackend(model).open(VIDEO) as session:
            assert session.answer(asked(query, VIDEO), decoding=SHORT).text == answer.text


def test_sampling_is_named_in_the_recipe(model: Molmo2) -> None:
    drawn = Decoding(max_new_tokens=6, temperature=1.2, top_p=0.9, seed=4)
    with NativeBackend(model).open(VIDEO) as session:
        answers = [session.answer(asked(Query.count("buses"), VIDEO), decoding=drawn) for _ in range(2)]
    assert answers[0].recipe == "native/sample-t1.2-p0.9-s4/1+rules"
    assert answers[0].text == answers[1].text


def test_pointing_may_look_closer(model: Molmo2) -> None:
    point, ask = asked(Query.point("mugs"), IMAGE), asked(Query.ask("What is there?"), IMAGE)
    with NativeBackend(model, pointing_crops=24).open(IMAGE) as session:
        close = session.answer(point, decoding=SHORT)
        plain = session.answer(ask, decoding=SHORT)
    with NativeBackend(model).open(IMAGE) as session:
        usual = session.answer(point, decoding=SHORT)
    assert close.recipe == "native/greedy/1+rules+crops24"
    assert plain.recipe == usual.recipe == "native/greedy/1+rules"
    assert close.tokens_in == len(model.build_inputs(IMAGE, point.text, max_crops=24)) > usual.tokens_in


def test_crops_of_a_video_stay_one(model: Molmo2) -> None:
    with NativeBackend(model, pointing_crops=24).open(VIDEO) as session:
        raw = session.answer(asked(Query.point("mugs"), VIDEO), decoding=SHORT)
    assert raw.recipe == "native/greedy/1+rules"


def test_a_question_without_pictures_is_answered(model: Molmo2) -> None:
    empty = Clip(frames=())
    with NativeBackend(model).open(empty) as session:
        raw = session.answer(asked(Query.ask("Hello."), empty), decoding=SHORT)
    assert raw.tokens_in == len(model.build_inputs([], "Hello."))


@pytest.fixture(scope="module")
def short_sighted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Molmo2:
    copy = tmp_path_factory.mktemp("short") / "checkpoint"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = CONTEXT
    (copy / "config.json").write_text(json.dumps(config))
    return load_checkpoint(copy, device="cpu")


def frames(count: int) -> Clip:
    return Clip.from_arrays(np.zeros((count, 8, 8, 3), np.uint8), fps=2.0, source="street.mp4")


def refusal(model: Molmo2, query: Query, clip: Clip) -> str:
    session = NativeBackend(model).open(clip)
    with pytest.raises(PromptTooLongError) as caught:
        session.answer(asked(query, clip), decoding=SHORT)
    return str(caught.value)


def test_too_many_frames_say_how_many_fit(short_sighted: Molmo2) -> None:
    clip = frames(40)
    query = Query.track("the red car")
    message = refusal(short_sighted, query, clip)
    tokens = len(short_sighted.build_inputs(clip, asked(query, clip).text))
    assert message.startswith(f"street.mp4: the prompt needs {tokens:,} tokens and 64 for an answer")
    assert f"{tokens + 64 - CONTEXT:,} too many" in message
    fitting = int(message.split("The first ")[1].split()[0])
    assert "lower fps" in message
    with NativeBackend(short_sighted).open(frames(fitting)) as session:
        assert session.answer(asked(query, clip), decoding=SHORT).tokens_in <= CONTEXT - 64
    assert "The first" in refusal(short_sighted, query, frames(fitting + 1))


def test_a_large_image_says_which_crops_fit(short_sighted: Molmo2) -> None:
    clip = Clip.from_arrays([np.zeros((600, 300, 3), np.uint8)])
    message = refusal(short_sighted, Query.point("mugs"), clip)
    crops = int(message.split("pointing_crops=")[1].split(".")[0])
    with NativeBackend(short_sighted, pointing_crops=crops).open(clip) as session:
        assert session.answer(asked(Query.point("mugs"), clip), decoding=SHORT).tokens_in <= CONTEXT - 64
    assert "fit: ask about fewer" in refusal(short_sighted, Query.ask("What?"), clip)


def test_a_question_that_is_too_long_alone_says_so(short_sighted: Molmo2) -> None:
    assert "shorten it" in refusal(short_sighted, Query.ask("1" * 300), frames(1))


def test_a_closed_session_answers_no_more(model: Molmo2) -> None:
    session = NativeBackend(model).open(VIDEO)
    session.close()
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.answer(asked(Query.count("buses"), VIDEO), decoding=SHORT)


def test_a_backend_shows_its_model(model: Molmo2) -> None:
    backend = NativeBackend(model)
    assert backend.limits == model.limits
    assert backend.model_id == model.model_id
    assert backend.resize_frame(noise(9, 9, 3)).shape == (84, 84, 3)


PICTURES = Clip.from_arrays([noise(40, 60, 3), noise(40, 50, 3)], source="two")


@pytest.mark.parametrize(
    ("query", "clip", "written", "fits"),
    [
        pytest.param(Query.track("a"), VIDEO, '<tracks coords="0.5 1', True, id="shown-time"),
        pytest.param(Query.track("a"), VIDEO, '<tracks coords="0.7', False, id="no-such-time"),
        pytest.param(Query.track("a"), VIDEO, '<tracks coords="2.5', False, id="after-the-end"),
        pytest.param(Query.point("a"), PICTURES, '<points coords="2 1', True, id="second-picture"),
        pytest.param(Query.point("a"), PICTURES, '<points coords="3', False, id="no-third-picture"),
        pytest.param(Query.ask("a"), Clip(frames=()), "There are 3", True, id="words-without-pictures"),
        pytest.param(Query.ask("a"), Clip(frames=()), "<points ", False, id="no-places-without-pictures"),
        pytest.param(
            Query.point("a", max_objects=1),
            VIDEO,
            '<points coords="0.0 1 100 200 ',
            False,
            id="one-asked-for",
        ),
    ],
)
def test_answers_keep_to_what_was_shown(
    model: Molmo2, query: Query, clip: Clip, written: str, fits: bool
) -> None:
    with NativeBackend(model).open(clip) as session:
        rules = session.begin(asked(query, clip), decoding=SHORT).turn.rules
    assert rules is not None
    state: State | None = START
    for char in written:
        assert state is not None
        state = rules.step(state, char)
    assert (state is not None) is fits


def test_a_model_may_be_left_to_itself(model: Molmo2) -> None:
    with NativeBackend(model).open(VIDEO) as session:
        free = session.begin(asked(Query.track("a"), VIDEO), decoding=Decoding(constrained=False))
    assert free.turn.rules is None
    assert free.recipe == "native/greedy/1"


def test_why_an_answer_was_ended_is_told(model: Molmo2) -> None:
    with NativeBackend(model).open(VIDEO) as session:
        begun = session.begin(asked(Query.track("a"), VIDEO), decoding=SHORT)
    made = model.generate(model.build_inputs(VIDEO, "a"), max_new_tokens=2)
    raw = begun.raw_answer(dataclasses.replace(made, cuts=("8 new things running in one place",)))
    assert raw.notes == ("an answer was ended early: 8 new things running in one place",)


def test_no_crops_are_refused(model: Molmo2) -> None:
    with pytest.raises(ValueError, match="pointing_crops must be 1 or more"):
        NativeBackend(model, pointing_crops=0)


CLIPS = [
    Clip.from_arrays(noise(frames, 40, 60, 3), fps=2.0, source=f"street-{frames}.mp4") for frames in (5, 2, 3)
]


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.9], ids=["greedy", "drawn"])
def test_clips_asked_together_get_what_each_gets_alone(model: Molmo2, temperature: float) -> None:
    backend: Backend = NativeBackend(model)
    queries = [Query.track("the red car"), Query.point("buses"), Query.ask("What is there?")]
    prompts = [asked(query, clip) for query, clip in zip(queries, CLIPS, strict=True)]
    # Of different lengths: the shorter answers leave while the others are still written.
    for most in (1, 4, 30):
        decoding = Decoding(max_new_tokens=most, temperature=temperature, seed=3)
        alone = []
        for prompt, clip in zip(prompts, CLIPS, strict=True):
            with backend.open(clip) as session:
                alone.append(session.answer(prompt, decoding=decoding))
        with ExitStack() as opened:
            sessions = [opened.enter_context(backend.open(clip)) for clip in CLIPS]
            together = backend.answer_together(list(zip(sessions, prompts, strict=True)), decoding=decoding)
        for one, other in zip(alone, together, strict=True):
            assert dataclasses.replace(one, timings_ms={}) == dataclasses.replace(other, timings_ms={})
            assert set(one.timings_ms) == set(other.timings_ms)


@pytest.mark.slow
def test_how_many_clips_go_together_is_a_matter_of_their_length(model: Molmo2) -> None:
    backend = NativeBackend(model)
    assert backend.at_once(VIDEO) == 64
    one = model.build_inputs(VIDEO, "").prefix_length
    text: Any = model.checkpoint.config.text_config
    token_bytes = 8 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    frames = 2 + 128 * 2**20 // (token_bytes * (one // len(VIDEO)))
    still = noise(40, 60, 3)
    long = Clip.from_arrays([still] * frames, source="long")
    assert backend.at_once(long) == 1


class OutOfMemoryOnce:
    """Stands before a network's layers and fails once, as a full accelerator does."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise torch.OutOfMemoryError("no memory left")


@pytest.mark.parametrize("at", [1, 3, 6], ids=["first-pictures", "later-pictures", "while-writing"])
def test_when_memory_runs_out_together_they_are_asked_one_by_one(model: Molmo2, at: int) -> None:
    backend = NativeBackend(model)
    prompt = asked(Query.track("the red car"), VIDEO)
    with ExitStack() as opened:
        sessions = [opened.enter_context(backend.open(clip)) for clip in CLIPS]
        pairs = [(session, prompt) for session in sessions]
        expected = backend.answer_together(pairs, decoding=SHORT)
    failing = OutOfMemoryOnce(at)
    handle = model.network.model.language_model.layers[0].mlp.register_forward_pre_hook(failing)
    try:
        with ExitStack() as opened:
            sessions = [opened.enter_context(backend.open(clip)) for clip in CLIPS]
            pairs = [(session, prompt) for session in sessions]
            got = backend.answer_together(pairs, decoding=SHORT)
    finally:
        handle.remove()
    assert failing.calls > at
    assert [raw.text for raw in got] == [raw.text for raw in expected]


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.9], ids=["greedy", "drawn"])
def test_questions_about_one_clip_asked_together_get_what_each_gets_alone(
    model: Molmo2, temperature: float
) -> None:
    backend = NativeBackend(model)
    car = Query.track("the red car")
    queries = [car, Query.count("buses"), Query.ask("Why?"), car]
    prompts = [asked(query, VIDEO) for query in queries]
    other = asked(Query.point("dogs"), CLIPS[1])
    for most in (1, 30):
        decoding = Decoding(max_new_tokens=most, temperature=temperature, seed=3)
        with backend.open(VIDEO) as session, backend.open(CLIPS[1]) as second:
            alone = [session.answer(prompt, decoding=decoding) for prompt in prompts]
            alone.insert(2, second.answer(other, decoding=decoding))
            pairs: list[tuple[BackendSession, Prompt]] = [(session, prompt) for prompt in prompts]
            pairs.insert(2, (second, other))
            together = backend.answer_together(pairs, decoding=decoding)
            again = session.answer(prompts[1], decoding=decoding)
        texts = [raw.text for raw in together]
        assert texts == [raw.text for raw in alone]
        assert [raw.tokens_in for raw in together] == [raw.tokens_in for raw in alone]
        assert again.text == alone[1].text

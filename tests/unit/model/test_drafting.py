"""Guesses at how an answer goes on, and that no guess changes what is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.answer import format_answer, parse_answer
from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2
from molmo2_ground.model.branch_room import BranchRoom
from molmo2_ground.model.decoding import Sampling, embed, run_prompt, word_logits
from molmo2_ground.model.drafting import NOTHING_KNOWN, Expected, draft
from molmo2_ground.model.kv_cache import BranchCache
from molmo2_ground.model.writing import Drafter, Seat, Writing, write_together

TWO = '<tracks coords="0.0 1 100 200 2 300 400;0.5 1 110 205 2 310 400'

THREE = '<tracks coords="0.0 1 100 200 2 200 300 3 300 400;'


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("", "", id="nothing-yet"),
        pytest.param("There are none.", "", id="no-places"),
        pytest.param('<tracks coords="', "0.0 1 ", id="first-moment"),
        pytest.param('<tracks coords="0.0 1 100 200;', "0.5 1 100 200;1.0 1 100 200", id="one-moment-known"),
        pytest.param(TWO, ";1.0 1 120 210 2 320 400", id="straight-on"),
        pytest.param(
            TWO + ";1.0 1 13", "0 210 2 320 400;1.5 1 150 215 2 330 400", id="fits-the-digits-written"
        ),
        pytest.param(TWO + ";1.0 1 22", "0 210 2 320 400;1.5 1 330 215 2 330 400", id="nearest-that-fits"),
        pytest.param(TWO + ";2.0 1 ", "140 220 2 340 400;2.5 1 150 225 2 350 400", id="after-a-gap"),
        pytest.param(TWO + ";1.0 2 ", "320 400;1.5 2 330 400", id="one-is-hidden"),
        pytest.param(TWO + ";1.0 3 ", "", id="a-new-thing"),
        pytest.param(TWO + ';1.0 1 120 210">the', "", id="the-places-are-over"),
        pytest.param(
            '<tracks coords="0.0 1 990 500;0.5 1 998 500;1.0 1 ', "1000 500;1.5 1 1000 500", id="edge"
        ),
        pytest.param('<points coords="1 1 100 200 2', " ", id="a-space-behind-an-id"),
        pytest.param('<points coords="1 1 100 200 2 300', " ", id="a-space-behind-an-x"),
        pytest.param('<points coords="1 1 100 200 2 300 400', " 3 ", id="where-there-are-two-a-third"),
        pytest.param('<points coords="1 1 100 200 2 30', "", id="half-a-number"),
        pytest.param('<points coords="1 1 100 20', "", id="half-a-number-of-the-first"),
        pytest.param(THREE + "0.5 1 30", "0 400;1.0 1 300 400", id="the-first-two-are-gone"),
        pytest.param(THREE + "0.5 1 203 301 2", " 300 400;1.0 1 206 302 2 300 400", id="numbered-anew"),
        pytest.param(THREE + "0.5 2 ", "200 300 3 300 400;1.0 2 200 300 3 300 400", id="ids-that-stay"),
        pytest.param('<tracks alt="x" coords="0.0 1 100 200;', "0.5 1 100 200;1.0 1 100 200", id="attribute"),
    ],
)
def test_guesses(written: str, expected: str) -> None:
    assert draft(written) == expected


CAR = Expected(label="the red car", last_s=1.0)
END = '">the red car</tracks>'


@pytest.mark.parametrize(
    ("written", "expected", "guess"),
    [
        pytest.param("There", NOTHING_KNOWN, " are none.", id="none"),
        pytest.param("<tracks", NOTHING_KNOWN, ' coords="0.0 1 ', id="how-it-begins"),
        pytest.param("Counting", NOTHING_KNOWN, ' the <points coords="0.0 1 ', id="how-a-count-begins"),
        pytest.param("The car is red", CAR, "", id="free-text"),
        pytest.param(TWO + ";1.0 1 1", CAR, "20 210 2 320 400" + END, id="the-last-moment-and-the-end"),
        pytest.param(TWO + ";1.0 1 120 210 2 320 400", CAR, END, id="the-end"),
        pytest.param(TWO + '">', CAR, "the red car</tracks>", id="label"),
        pytest.param(TWO + '">the r', CAR, "ed car</tracks>", id="rest-of-the-label"),
        pytest.param(TWO + '">a car', CAR, "", id="another-label"),
        pytest.param(TWO + '">the', NOTHING_KNOWN, "", id="no-label-known"),
        pytest.param('<points coords="1.5 1 100 200', CAR, '">the red car</points>', id="a-point"),
        pytest.param('<points coords="1.5 1 100 2', CAR, "", id="half-a-point"),
        pytest.param('<points coords="1.5 1 100 200;', CAR, "", id="a-point-more"),
    ],
)
def test_guesses_at_what_frames_the_places(written: str, expected: Expected, guess: str) -> None:
    assert draft(written, expected) == guess


@pytest.mark.parametrize(
    "text",
    [
        '<tracks coords="0.0 ² 100 200;',
        '<points coords="1 1 100 100 ² 200 200',
        '<tracks coords="0.0 1 100 200;0.5 ² 1',
    ],
)
def test_digits_of_other_writings_are_no_numbers(text: str) -> None:
    assert isinstance(draft(text), str)


@given(st.text(alphabet='<>tracks coords="0123456789.; ', max_size=80))
def test_any_text_gets_a_guess_or_none(text: str) -> None:
    assert isinstance(draft(text), str)
    assert isinstance(draft('<tracks coords="' + text), str)


@given(st.integers(0, len(TWO) - 17))
def test_a_guess_on_a_straight_way_is_right_wherever_it_starts(cut: int) -> None:
    whole = (
        '<tracks coords="0.0 1 100 200 2 300 400;0.5 1 110 205 2 310 400;1.0 1 120 210 2 320 400;'
        '1.5 1 130 215 2 330 400">x</tracks>'
    )
    assert format_answer(parse_answer(whole)) == whole
    start = len(TWO) + 1 + cut % 24
    guess = draft(whole[:start])
    assert guess
    assert whole[start:].startswith(guess) or guess.startswith(whole[start : whole.index('"', start)])


class Oracle:
    """Knows an answer and guesses it, some words spoilt: the protocol of `Drafter`."""

    def __init__(self, answer: Sequence[int], *, spoil: float, seed: int) -> None:
        self.answer, self.spoil = list(answer), spoil
        self.rng = np.random.default_rng(seed)

    def guess(self, token_ids: Sequence[int]) -> list[int]:
        ahead = self.answer[len(token_ids) : len(token_ids) + int(self.rng.integers(0, 7))]
        return [token if self.rng.random() >= self.spoil else token ^ 1 for token in ahead]


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [0.0, 0.3, 1.0], ids=["all-right", "some-wrong", "all-wrong"])
@pytest.mark.parametrize("temperature", [0.0, 0.8], ids=["greedy", "drawn"])
def test_guesses_change_the_runs_and_not_the_answer(
    models: dict[str, Molmo2], spoil: float, temperature: float
) -> None:
    clip = Clip.from_arrays(
        np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8), fps=2.0
    )
    sampling = Sampling(temperature=temperature, seed=4)
    for model in models.values():
        plain = written(model, clip, None, sampling)
        guessed = written(model, clip, Oracle(plain[0], spoil=spoil, seed=1), sampling)
        assert guessed[0] == plain[0]
        if spoil == 1.0:
            assert guessed[1] == plain[1]
        else:
            assert guessed[1] < plain[1]


@torch.inference_mode()
def written(
    model: Molmo2, clip: Clip, drafter: Oracle | None, sampling: Sampling
) -> tuple[tuple[int, ...], int]:
    inputs = model.build_inputs(clip, "Track it.")
    features = model.vision.encode(inputs.visual) if inputs.visual is not None else None
    embeds = embed(model.network, inputs.input_ids, patch_L=inputs.patch_L, features_TD=features)
    text: Any = model.checkpoint.config.text_config
    cache = BranchCache(layers=text.num_hidden_layers)
    hidden = run_prompt(model.network, embeds, visual_L=inputs.visual_L, cache=cache)
    writing = Writing(
        max_new_tokens=25,
        stop_ids=(),
        sampling=sampling,
        drafter=drafter,
    )
    writing.take(word_logits(model.network, hidden[-1:]))
    write_together(model.network, [Seat(writing=writing, room=BranchRoom(cache), branch=0)])
    decoded = writing.answer()
    # What stands in the cache is the prompt and the answer, without its last word and without any guess.
    assert cache.get_seq_length() <= len(inputs) + len(decoded.token_ids) + 6
    return decoded.token_ids, decoded.forwards


def test_a_drafter_spells_its_guess_with_the_models_words(model: Molmo2) -> None:
    drafter = Drafter(model.codec, at_most=4)
    ids = model.codec.encode("<tracks coords=")
    assert model.codec.decode(drafter.guess(ids)).startswith('"')
    ids += model.codec.encode('"')
    assert model.codec.decode(drafter.guess(ids)).startswith("0.0")
    assert len(drafter.guess(ids)) <= 4


def test_a_drafter_knows_the_whole_end_of_a_counted_answer(model: Molmo2) -> None:
    whole = 'Counting the <points coords="2.0 1 595 045">red cars</points> shows a total of 1.'
    drafter = Drafter(model.codec, expected=Expected(label="red cars"), at_most=99)
    begun = whole[: whole.index('"', 32)]
    ids = model.codec.encode(begun[:20])
    drafter.guess(ids)  # called again and again, as an answer grows
    ids += model.codec.encode(begun[20:])
    assert model.codec.decode(drafter.guess(ids)) == '">red cars</points> shows a total of '

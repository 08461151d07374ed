from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch

from molmo2_ground.answer import parse_answer
from molmo2_ground.errors import BackendError
from molmo2_ground.model import Molmo2
from molmo2_ground.model.answer_rules import START, AnswerRules, State
from molmo2_ground.model.guide import Guide
from molmo2_ground.model.token_table import TokenTable
from tests.benches import load_bench

KEYS = ("0.0", "0.5", "1.0", "1.5")
RULES = AnswerRules(KEYS)
DECODE = load_bench("decode")
LETTERS = list(DECODE.LETTERS)


def vocabulary(seed: int) -> list[str]:
    words: list[str] = DECODE.hostile_vocabulary(random.Random(seed))
    return words


def table_of(words: Sequence[str]) -> TokenTable:
    return TokenTable(words, stop_ids=[1])


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_vocabulary_and_no_model_breaks_the_rules(seed: int, temperature: float) -> None:
    text, whole = DECODE.random_answer(seed, temperature=temperature)
    assert DECODE.is_clean(text, whole=whole), text


@pytest.mark.parametrize(
    ("text", "whole", "clean"),
    [
        pytest.param("There are none.", True, True, id="none"),
        pytest.param('<points coords="0.5 1 10', False, True, id="stopped-in-the-middle"),
        pytest.param('<points coords="0.5 1 10', True, False, id="ended-in-the-middle"),
        pytest.param('<points coords="0.5 1 10 200">x</points>', False, False, id="two-digits"),
        pytest.param("<points>x</points>", True, False, id="no-coords"),
    ],
)
def test_what_counts_as_clean(text: str, whole: bool, clean: bool) -> None:
    assert DECODE.is_clean(text, whole=whole) is clean


@pytest.mark.slow
def test_such_models_do_write_places() -> None:
    texts = [DECODE.random_answer(seed)[0] for seed in range(30)]
    assert sum(bool(parse_answer(text).elements) for text in texts) >= 10


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "text",
    ["", "<po", "<points", '<points coords="', '<tracks coords="0.5 1 10', '<points coords="1.5 1 100 1000'],
)
def test_a_walk_through_the_table_finds_what_steps_find(seed: int, text: str) -> None:
    table = table_of(vocabulary(seed))
    state: State | None = START
    for char in text:
        assert state is not None
        state = RULES.step(state, char)
    assert state is not None
    one_by_one = [
        token for token in range(len(vocabulary(seed))) if table.step(RULES, state, token) is not None
    ]
    assert table.fitting(RULES, state).tolist() == one_by_one


def guide_behind(text: str, words: Sequence[str]) -> Guide:
    guide = Guide(RULES, table_of(words))
    for char in text:
        guide.take(words.index(char))
    return guide


@pytest.mark.parametrize(
    ("text", "guesses", "ahead"),
    [
        pytest.param("There are", "", "", id="free"),
        pytest.param('<points coords="', "", "", id="several-times"),
        pytest.param('<points coords="0', "", ".", id="a-point-has-to-come"),
        pytest.param('<points coords="0.0', "", " 1 ", id="so-has-the-id"),
        pytest.param('<points coords="0.0', " 1 12", " 1 12", id="a-guess-that-fits"),
        pytest.param('<points coords="0.0', " 2 12", " 1 ", id="a-guess-that-may-not-stand"),
        pytest.param('<tracks coords="1.5 1 1000 100', '">the', '">the', id="the-end"),
        pytest.param('<tracks coords="1.5 1 1000 1000', '"', '">', id="a-guess-and-what-follows-it"),
        pytest.param('<tracks coords="1.5 1 1000 1000">the </', "", "tracks>", id="the-closing-tag"),
        pytest.param('<tracks coords="1.5 1 1000 1000">the <', "", "", id="an-angle-in-a-label"),
        pytest.param("<points ", "", "", id="coords-or-alt"),
        pytest.param("<points c", "", 'oords="', id="coords"),
    ],
)
def test_what_has_to_come_is_known_ahead(text: str, guesses: str, ahead: str) -> None:
    words = ["", "", *dict.fromkeys(LETTERS + list(text + guesses + ahead))]
    found = guide_behind(text, words).ahead([words.index(char) for char in guesses], at_most=20)
    assert "".join(words[token] for token in found) == ahead


def test_a_word_of_several_letters_leaves_a_choice() -> None:
    words = ["", "", *LETTERS, ' coords="']
    guide = guide_behind("<points", words)
    assert guide.ahead([], at_most=9) == []
    with pytest.raises(ValueError, match="may not stand here"):
        guide.take(words.index(">"))


def test_a_vocabulary_without_digits_is_told() -> None:
    words = ["", "", *(letter for letter in LETTERS if not letter.isdigit())]
    guide = guide_behind('<points coords="', words)
    with pytest.raises(BackendError, match="constrained=False"):
        guide.masked(torch.zeros(len(words)), likeliest=5)


def test_a_cut_is_told() -> None:
    words = ["", "", *dict.fromkeys(LETTERS)]
    guide = Guide(AnswerRules(KEYS, most=1), table_of(words))
    for char in '<points coords="0.0 1 100 200':
        guide.take(words.index(char))
    assert not guide.cuts
    assert "".join(words[token] for token in guide.ahead([], at_most=9)) == '">'
    guide.take(words.index('"'), likeliest=words.index(" "))
    assert guide.cuts == ("no more than 1 asked for",)


def test_an_answer_that_ends_by_itself_is_not_cut() -> None:
    words = ["", "", *dict.fromkeys(LETTERS)]
    guide = Guide(AnswerRules(KEYS, most=1), table_of(words))
    for char in '<points coords="0.0 1 100 200"':
        guide.take(words.index(char), likeliest=words.index(char))
    assert not guide.cuts


def test_a_checkpoints_words_write_what_they_decode_to(model: Molmo2) -> None:
    text = 'Counting the <points coords="0.0 1 031 625;12.5 2 1000 000">red cars</points> shows a total of 2.'
    ids = model.codec.encode(text)
    texts = model.codec.texts(int(model.network.lm_head.weight.shape[0]))
    assert "".join(texts[token] for token in ids) == text
    assert all(texts[token] == "" for token in model.codec.stop_ids if token < len(texts))


@pytest.mark.parametrize(("name", "rest"), [("points", "100"), ("tracks", "100")])
def test_what_may_not_follow_a_number_does_not_make_it_longer(name: str, rest: str) -> None:
    words = ["", "", *dict.fromkeys(LETTERS)]
    guide = Guide(AnswerRules(KEYS, most=1), table_of(words))
    for char in f'<{name} coords="1.5 1 300 {rest}':
        guide.take(words.index(char))
    logits = torch.zeros(len(words))
    for char, liking in {" ": 3.0, "0": 2.0, '"': 1.0}.items():
        logits[words.index(char)] = liking
    assert words[int(guide.masked(logits, likeliest=words.index(" ")).argmax())] == '"'
    assert words[int(guide.masked(logits, likeliest=words.index("0")).argmax())] == "0"


def test_a_second_thing_that_nobody_asked_for_is_told() -> None:
    words = ["", "", *dict.fromkeys(LETTERS)]
    guide = Guide(AnswerRules(KEYS, most=1), table_of(words))
    for char in '<tracks coords="0.0 1 300 200':
        guide.take(words.index(char))
    guide.take(words.index(";"), likeliest=words.index(" "))
    assert guide.cuts == ("no more than 1 asked for",)


def test_what_is_kept_of_one_clip_does_not_hold_for_another() -> None:
    words = ["", "", *dict.fromkeys(LETTERS), ' coords="0.5 1', '"0.5', '</points><points coords="0.5 1']
    table = table_of(words)
    state: State | None = START
    for char in "<points":
        assert state is not None
        state = RULES.step(state, char)
    assert state is not None
    for keys in (("0.5", "1.0"), ("0.0", "1.0"), ("0.5",)):
        rules = AnswerRules(keys)
        closed = table.closed_outside(rules, state)
        assert [n for n in range(len(words)) if not closed[n]] == table.fitting(rules, state).tolist()

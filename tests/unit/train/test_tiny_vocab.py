"""The tiny tokenizer: one token a digit, whole words, and every ASCII text survives."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.model.flags import EXTRA_WORDS
from molmo2_ground.train.tiny_vocab import EXTRA_TOKENS, STYLES, build_tokenizer

TOKENIZER = build_tokenizer(["red", "car", "cars"])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param(
            '<tracks coords="0.0 1 032 624;12.5 2 1000 000">the red car</tracks>',
            [
                '<tracks coords="',
                *("0", ".", "0", " ", "1", " ", "0", "3", "2", " ", "6", "2", "4", ";"),
                *("1", "2", ".", "5", " ", "2", " ", "1", "0", "0", "0", " ", "0", "0", "0"),
                '">',
                *("the", " red", " car", "</tracks>"),
            ],
            id="tracks",
        ),
        pytest.param(
            "shows a total of 12.", ["shows", " a", " total", " of", " ", "1", "2", "."], id="count"
        ),
        pytest.param(" 0.5 ", [" ", "0", ".", "5", " "], id="time-before-a-frame"),
        pytest.param("kart", ["k", "a", "r", "t"], id="unknown-word-is-spelt"),
        pytest.param(f"{STYLES[0]} the car", [STYLES[0], " the", " car"], id="style"),
    ],
)
def test_pieces(text: str, tokens: list[str]) -> None:
    assert TOKENIZER.encode(text, add_special_tokens=False).tokens == tokens


@given(
    st.text(
        alphabet=string.printable.replace("\t", "").replace("\r", "").replace("\x0b", "").replace("\x0c", "")
    )
)
def test_printable_ascii_survives(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_extra_words_follow_the_vocabulary_in_the_released_order() -> None:
    first = TOKENIZER.get_vocab_size() - len(EXTRA_TOKENS)
    assert [TOKENIZER.token_to_id(word) for word in EXTRA_TOKENS] == list(
        range(first, first + len(EXTRA_TOKENS))
    )
    assert EXTRA_WORDS[: len(EXTRA_TOKENS)] == EXTRA_TOKENS

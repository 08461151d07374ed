from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from molmo2_ground.errors import CheckpointError
from molmo2_ground.model.random_checkpoint import byte_tokenizer
from molmo2_ground.model.text_codec import TextCodec

CODEC = TextCodec(byte_tokenizer(), bos_word="<|im_end|>", eos_word="<|im_end|>", stop_ids=[5])


@given(st.text())
def test_any_text_survives(text: str) -> None:
    assert CODEC.decode(CODEC.encode(text)) == text


def test_special_words_are_left_out_of_text() -> None:
    start = CODEC.turn_start_id
    assert CODEC.decode([start, *CODEC.encode("dog"), CODEC.eos_id]) == "dog"


def test_a_half_letter_at_the_end_is_no_error() -> None:
    ids = CODEC.encode("é")
    assert CODEC.decode(ids[:1]) == "\ufffd"


def test_all_ends_are_known() -> None:
    assert CODEC.stop_ids == {5, CODEC.eos_id, CODEC.turn_end_id}


def test_the_tokenizer_handed_in_is_not_changed() -> None:
    tokenizer = byte_tokenizer()
    TextCodec(tokenizer, bos_word="<|im_end|>", eos_word="<|im_end|>")
    end = tokenizer.token_to_id("<|im_end|>")
    assert tokenizer.encode("<|im_end|>", add_special_tokens=False).ids == [end]


@pytest.mark.parametrize(
    ("bos_word", "eos_word"), [("<s>", "<|im_end|>"), ("<|im_end|>", "</s>")], ids=["first", "last"]
)
def test_a_missing_word_is_named(bos_word: str, eos_word: str) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has no word </?s>"):
        TextCodec(byte_tokenizer(), bos_word=bos_word, eos_word=eos_word, where="here")


def test_a_tokenizer_without_turns_is_refused() -> None:
    bare = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    with pytest.raises(CheckpointError, match=r"<\|im_start\|>"):
        TextCodec(bare, bos_word="a", eos_word="b", where="here")

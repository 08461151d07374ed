"""The tiny model's tokenizer: whole words of the toy street, one token a coordinate, letters for the rest.

The released models write a coordinate digit by digit. The tiny model writes it in one token, in steps of
4/1000 (2.6 px on a street 640 px wide): two to three times fewer training steps to the same accuracy.
The text is the same either way, so nothing outside the tokenizer knows.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

if TYPE_CHECKING:
    from collections.abc import Iterable

COORDINATE_STEP = 4  # thousandths between two coordinate tokens
COORDINATES = tuple(range(0, 1001, COORDINATE_STEP))
LARGEST_NUMBER = 60  # whole seconds, object ids and counts up to here are single tokens

TURN_START, TURN_END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
# In the order of the released checkpoints: the first of them has the id right after the base vocabulary.
EXTRA_TOKENS = (
    "<im_start>",
    "<im_end>",
    "<im_patch>",
    "<im_col>",
    "<low_res_im_start>",
    "<|image|>",
    "<im_low>",
    "<frame_start>",
    "<frame_end>",
    "<|video|>",
)
EXTRA_ROWS = 16  # embedding rows kept for them; the released checkpoints keep 128

MARKUP = ('<points coords="', '<tracks coords="', '">', "</points>", "</tracks>", ";")
PROMPT_WORDS = (
    *(
        "user",
        "assistant",
        "Track",
        "Point",
        "to",
        "in",
        "at",
        "FPS",
        "the",
        "picture",
        "video",
        "images",
        "all",
    ),
    *("How", "many", "are", "there", "Counting", "shows", "a", "total", "of", "There", "none", "What", "is"),
    *("At", "List", "where", "Nothing", "image", "every"),
)
PIECES = Regex(
    r'<points coords="|<tracks coords="|">|</points>|</tracks>|\.[0-9](?![0-9])| ?[0-9]+| ?[A-Za-z]+|[\s\S]'
)


def coordinate_text(value: int) -> str:
    """The token of a coordinate in thousandths, with the space in front that the grammar puts there."""
    return f" {value:03d}"


def snap(value: int) -> int:
    """The nearest coordinate that has a token of its own, thousandths."""
    return min(1000, COORDINATE_STEP * round(value / COORDINATE_STEP))


def build_tokenizer(words: Iterable[str]) -> Tokenizer:
    """A tokenizer over `words` (without spaces), the answer grammar and single letters.

    Every printable ASCII text survives encoding and decoding; other letters become `<unk>`.
    """
    pieces: dict[str, float] = {"<unk>": -100.0, TURN_START: -1.0, TURN_END: -1.0, PAD: -1.0}

    def add(piece: str, score: float = -1.0) -> None:
        pieces.setdefault(piece, score)

    for value in COORDINATES:
        add(coordinate_text(value))
    for number in range(LARGEST_NUMBER + 1):
        add(str(number))
        add(f" {number}")
    for digit in string.digits:
        add(f".{digit}")
    for piece in MARKUP:
        add(piece)
    for word in dict.fromkeys([*PROMPT_WORDS, *words]):
        add(word)
        add(f" {word}")
    # A letter costs more than a word, so that a known word is never spelt out.
    for letter in (*string.digits, *string.ascii_letters, *string.punctuation, " ", "\n"):
        add(letter, -10.0)
    tokenizer = Tokenizer(models.Unigram(list(pieces.items()), unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(PIECES, behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in (TURN_START, TURN_END, PAD, *EXTRA_TOKENS)]
    )
    return tokenizer

"""The tiny model's tokenizer: whole words of the toy street, digits one by one, letters for the rest.

As with the released models' tokenizer, every digit is a token of its own, and so is the space in front of
it: ` 031` is four tokens. What is measured about decoding on the tiny model then holds for them too.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

if TYPE_CHECKING:
    from collections.abc import Iterable

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

# The names of two training styles, which the released models are told in front of the question.
STYLES = ("video_single_point_track_per_frame:", "video_point_ground_start_end:")
MARKUP = ('<points coords="', '<tracks coords="', '">', "</points>", "</tracks>", ";", *STYLES)
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
    *("each", "is", "first", "and", "last", "seen"),
)
PIECES = Regex(
    r'<points coords="|<tracks coords="|">|</points>|</tracks>|video_[a-z_]+:|[0-9]| ?[A-Za-z]+|[\s\S]'
)


def build_tokenizer(words: Iterable[str]) -> Tokenizer:
    """A tokenizer over `words` (without spaces), the answer grammar and single letters.

    Every printable ASCII text survives encoding and decoding; other letters become `<unk>`.
    """
    pieces: dict[str, float] = {"<unk>": -100.0, TURN_START: -1.0, TURN_END: -1.0, PAD: -1.0}

    def add(piece: str, score: float = -1.0) -> None:
        pieces.setdefault(piece, score)

    for digit in string.digits:
        add(digit)
    for piece in MARKUP:
        add(piece)
    for word in dict.fromkeys([*PROMPT_WORDS, *words]):
        add(word)
        add(f" {word}")
    # A letter costs more than a word, so that a known word is never spelt out.
    for letter in (*string.ascii_letters, *string.punctuation, " ", "\n"):
        add(letter, -10.0)
    tokenizer = Tokenizer(models.Unigram(list(pieces.items()), unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(PIECES, behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in (TURN_START, TURN_END, PAD, *EXTRA_TOKENS)]
    )
    return tokenizer

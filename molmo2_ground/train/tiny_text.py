"""`Text`: the tiny model's words, and how they become the targets of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.train.tiny_checkpoint import tiny_flags
from molmo2_ground.train.tiny_vocab import TURN_END, build_tokenizer
from molmo2_ground.train.toy.questions import all_phrases
from molmo2_ground.train.tree import BranchWriter

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from molmo2_ground.model.flags import InputFlags


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The tiny model's words, what trees need of them, and how pictures stand between them."""

    tokenizer: Tokenizer
    writer: BranchWriter
    flags: InputFlags

    @classmethod
    def build(cls) -> Text:
        """The tokenizer over every word of the toy street's questions."""
        words = sorted({word for phrase in all_phrases() for word in phrase.split()})
        tokenizer = build_tokenizer(words)
        codec = TextCodec(tokenizer, bos_word=TURN_END, eos_word=TURN_END, where="the tiny model")
        digits = frozenset(int(tokenizer.token_to_id(str(digit)) or 0) for digit in range(10))
        # The last digit is a pixel or less; what a coordinate is worth lies in the first two.
        writer = BranchWriter(codec=codec, digit_ids=digits, digit_weights=(1.0, 1.0, 0.4))
        return cls(tokenizer=tokenizer, writer=writer, flags=tiny_flags(tokenizer))

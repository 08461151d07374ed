"""`TextCodec`: text to token ids and back, with the few special words of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from molmo2_ground.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TextCodec:
    """A checkpoint's tokenizer and the ids that frame a conversation.

    Text is always read as plain text: a user who writes `<im_end>` sends these letters, not the word that
    ends a picture.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        bos_word: str,
        eos_word: str,
        stop_ids: Sequence[int] = (),
        where: str = "",
    ) -> None:
        """Take a fast tokenizer as it is.

        bos_word, eos_word: the first word of every prompt, and the word after every answer.
        stop_ids: further ids that end an answer, from generation_config.json.
        where: the checkpoint's name, for messages. Raises `CheckpointError` when a word is unknown.
        """
        # A copy, because reading special words as text is a setting of the object.
        self._tokenizer: Tokenizer = type(tokenizer).from_str(tokenizer.to_str())
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._where = where
        self.bos_id = self._required(bos_word)
        self.eos_id = self._required(eos_word)
        self.turn_start_id = self._required("<|im_start|>")
        self.turn_end_id = self._required("<|im_end|>")
        self.stop_ids = frozenset({self.eos_id, self.turn_end_id, *stop_ids})

    def _required(self, word: str) -> int:
        found = self.token_id(word)
        if found is None:
            raise CheckpointError(
                f"{self._where}: tokenizer.json has no word {word}, which every prompt needs"
            )
        return found

    def token_id(self, word: str) -> int | None:
        """The id of one word of the vocabulary, or None."""
        found: int | None = self._tokenizer.token_to_id(word)
        return found

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; special words in it are spelled, never obeyed."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special words left out."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text

    def texts(self, size: int) -> list[str]:
        """What each of the first `size` tokens writes behind another word; nothing for special ones."""
        # Some decoders drop the space in front of the first word, so each stands behind a digit.
        lead = self.encode("0")
        cut = len(self.decode(lead))
        pairs = [[*lead, token] for token in range(size)]
        return [text[cut:] for text in self._tokenizer.decode_batch(pairs, skip_special_tokens=True)]

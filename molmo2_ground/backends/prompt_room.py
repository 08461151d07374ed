"""`PromptRoom`: what fits into a checkpoint's context and memory, told from its files without its weights."""

from __future__ import annotations

import bisect
import dataclasses
import functools
from dataclasses import dataclass

import torch

from molmo2_ground.clip import Clip
from molmo2_ground.errors import PromptTooLongError
from molmo2_ground.model.checkpoint import Checkpoint
from molmo2_ground.model.inputs import prompt_ids, visual_length
from molmo2_ground.model.prefix import ANSWER_ROOM
from molmo2_ground.query import Prompt

LEAST_ANSWER_TOKENS = 64
"""A prompt that leaves room for fewer tokens than this could not be answered in any useful way."""

_POINTING = ("point", "count")
# Clips that are asked together hold their keys and values at the same time: at most so many bytes of them.
_TOGETHER_BYTES = 2 * 2**30
_TOGETHER_BYTES_CPU = 256 * 2**20
_TOGETHER_CLIPS = 64  # most are through long before the longest answer: so many keep its runs well filled


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptRoom:
    """What a checkpoint reads of clips and questions when it runs on `device` with numbers of `dtype`.

    int8: the language model's matrices are whole numbers. pointing_crops: as `NativeBackend` takes it.
    """

    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype
    int8: bool = False
    pointing_crops: int | None = None

    def crops(self, prompt: Prompt, clip: Clip) -> int | None:
        """Crops of each still image for this question; None for the checkpoint's own number."""
        closer = prompt.task in _POINTING and clip.kind == "images"
        return self.pointing_crops if closer else None

    def tokens(self, prompt: Prompt, clip: Clip) -> int:
        """Tokens of the whole prompt, as a receipt's `tokens_in` counts them; no pixel is touched."""
        return self._question_tokens(prompt) + self._picture_tokens(clip, self.crops(prompt, clip))

    def check(self, prompt: Prompt, clip: Clip) -> None:
        """Raise `PromptTooLongError`, with what would fit, when there is no room for an answer."""
        limit = self.checkpoint.context_tokens
        tokens = self.tokens(prompt, clip)
        over = tokens + LEAST_ANSWER_TOKENS - limit
        if over <= 0:
            return
        room = limit - LEAST_ANSWER_TOKENS - self._question_tokens(prompt)
        raise PromptTooLongError(
            f"{clip.source}: the prompt needs {tokens:,} tokens and {LEAST_ANSWER_TOKENS} for an answer, "
            f"the model reads {limit:,}: {over:,} too many. {self._what_fits(prompt, clip, room)}"
        )

    def at_once(self, clip: Clip) -> int:
        """How many clips of this length may be asked together, by the memory for their keys and values."""
        tokens = self._picture_tokens(clip, None) + ANSWER_ROOM
        budget = _TOGETHER_BYTES_CPU if self.device.type == "cpu" else _TOGETHER_BYTES
        held = tokens * self.checkpoint.kv_bytes_per_token(self.dtype)
        return min(_TOGETHER_CLIPS, max(1, budget // held))

    def turn_tokens(self, prompt: Prompt) -> int:
        """Tokens of the user's turn, which come behind the pictures."""
        return len(prompt_ids(self.checkpoint.codec, prompt.text))

    def _question_tokens(self, prompt: Prompt) -> int:
        return 1 + self.turn_tokens(prompt)

    def _picture_tokens(self, clip: Clip, crops: int | None) -> int:
        checkpoint = self.checkpoint
        return visual_length(clip, codec=checkpoint.codec, flags=checkpoint.flags, max_crops=crops)

    def _what_fits(self, prompt: Prompt, clip: Clip, room: int) -> str:
        if room <= 0:
            return "The question alone is too long: shorten it."
        flags = self.checkpoint.flags
        length = functools.partial(visual_length, codec=self.checkpoint.codec, flags=flags)
        fitting = bisect.bisect_right(
            range(1, len(clip) + 1),
            room,
            key=lambda count: length(dataclasses.replace(clip, frames=clip.frames[:count])),
        )
        if clip.kind == "video":
            return (
                f"The first {fitting} of its {len(clip)} frames fit: ask about a shorter part, "
                "or at a lower fps."
            )
        if prompt.task in _POINTING:
            for crops in range(flags.max_crops, 0, -1):
                if length(clip, max_crops=crops) <= room:
                    return f"It fits with pointing_crops={crops}."
        return f"The first {fitting} of its {len(clip)} images fit: ask about fewer, or smaller ones."

"""`Prefix`: pictures read once, and the answers to questions about them.

Shapes: Q tokens of a user's turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from molmo2_ground.errors import PromptTooLongError
from molmo2_ground.model.answer_rules import AnswerRules
from molmo2_ground.model.branch_room import BranchRoom
from molmo2_ground.model.decoding import Sampling, embed, keep_prompt
from molmo2_ground.model.drafting import NOTHING_KNOWN, Expected
from molmo2_ground.model.guide import Guide
from molmo2_ground.model.inputs import ModelInputs, VisualInputs, assemble, prompt_ids
from molmo2_ground.model.kv_cache import BranchCache
from molmo2_ground.model.writing import Drafter, Seat, Writing, read_turns, write_together

if TYPE_CHECKING:
    from molmo2_ground.model.molmo2 import Molmo2

# Tokens of room in the cache for a question and its answer, before it has to grow.
ANSWER_ROOM = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """An answer as written.

    text         special words left out. token_ids: without the word that ended the answer.
    stop_reason  `end` when the model ended it, `length` when it was cut at the token limit.
    forwards     runs of the language model that wrote the answer, without those that read the prompt.
    timings_ms   `vision`, `prefill` (reading the prompt) and `decode_text`: milliseconds for this answer.
    cuts         where the answer's rules ended an element, one reason each.
    """

    text: str
    token_ids: tuple[int, ...]
    stop_reason: Literal["end", "length"]
    forwards: int
    tokens_in: int
    timings_ms: Mapping[str, float]
    cuts: tuple[str, ...] = ()


class Prefix:
    """Pictures read once: their features and the keys and values of everything before the user's turn.

    Any number of questions continue from there, one after another or side by side (`answer_together`), each
    as if it were asked alone.
    """

    def __init__(self, model: Molmo2, visual: VisualInputs | None) -> None:
        """Encode the pictures and read them; `timings_ms` says how long it took."""
        self.model = model
        inputs = assemble(visual, "", codec=model.codec, flags=model.flags)
        self._head = inputs.prefix_length
        self._visual_L = inputs.visual_L[: self._head]
        self._check_room(self._head)
        text: Any = model.checkpoint.config.text_config
        self._cache = BranchCache(layers=text.num_hidden_layers)
        self._cache.reserve(self._head + ANSWER_ROOM)
        self.timings_ms: dict[str, float] = {}
        self._read(inputs)

    @torch.inference_mode()
    def _read(self, inputs: ModelInputs) -> None:
        model = self.model
        clock = _Clock(model.device)
        features = None if inputs.visual is None else model.vision.encode(inputs.visual)
        self.timings_ms["vision"] = clock.lap_ms()
        head = slice(0, self._head)
        embeds = embed(
            model.network, inputs.input_ids[head], patch_L=inputs.patch_L[head], features_TD=features
        )
        keep_prompt(model.network, embeds, visual_L=self._visual_L, cache=self._cache)
        self.timings_ms["prefill"] = clock.lap_ms()

    def __len__(self) -> int:
        """Tokens before the user's turn."""
        return self._head

    def generate(
        self,
        user_text: str,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        on_token: Callable[[int], None] | None = None,
    ) -> Generated:
        """Answer one question about the pictures; as `Molmo2.generate`, at the price of the answer alone.

        `timings_ms` holds what this question took; the reading of the pictures is in the prefix's own.
        """
        turn = self.turn(user_text, max_new_tokens=max_new_tokens)
        sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
        return answer_together([turn], sampling=sampling, on_token=on_token)[0]

    def turn(
        self,
        user_text: str,
        *,
        max_new_tokens: int,
        expected: Expected = NOTHING_KNOWN,
        rules: AnswerRules | None = None,
    ) -> Turn:
        """A user's turn about these pictures, for `answer_together`."""
        ids = torch.tensor(prompt_ids(self.model.codec, user_text), dtype=torch.int64)
        return Turn(prefix=self, token_ids=ids, max_new_tokens=max_new_tokens, expected=expected, rules=rules)

    def room(self) -> BranchRoom:
        """Forget earlier turns and make room for new ones, side by side."""
        self._cache.cut_back(self._head)
        return BranchRoom(self._cache)

    def writing(self, turn: Turn, *, sampling: Sampling, on_token: Callable[[int], None] | None) -> Writing:
        """The answer to a turn, not begun. Raises `PromptTooLongError` when there is no room for it."""
        if turn.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be 1 or more; got {turn.max_new_tokens}")
        room = self._check_room(self._head + len(turn.token_ids))
        codec = self.model.codec
        return Writing(
            max_new_tokens=min(turn.max_new_tokens, room),
            stop_ids=codec.stop_ids,
            sampling=sampling,
            drafter=Drafter(codec, expected=turn.expected, at_most=self.model.most_guesses),
            guide=None if turn.rules is None else Guide(turn.rules, self.model.token_table),
            on_token=on_token,
        )

    def _check_room(self, tokens: int) -> int:
        """Tokens that are left for an answer; at least one."""
        limit = self.model.checkpoint.context_tokens
        if tokens >= limit:
            raise PromptTooLongError(
                f"the prompt has {tokens:,} tokens and the model reads {limit:,}: {tokens - limit + 1:,} too "
                "many to leave room for an answer; show fewer frames or images"
            )
        return limit - tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """A user's turn about the pictures of a prefix.

    token_ids: int64[Q]. max_new_tokens: the answer is cut there, or where the context ends.
    expected: what is known of the answer, for guessing ahead. rules: what the answer may look like; None
    lets the model write anything.
    """

    prefix: Prefix
    token_ids: torch.Tensor
    max_new_tokens: int
    expected: Expected = NOTHING_KNOWN
    rules: AnswerRules | None = None


@torch.inference_mode()
def answer_together(
    turns: Sequence[Turn], *, sampling: Sampling, on_token: Callable[[int], None] | None = None
) -> list[Generated]:
    """Answer turns about prefixes of one model, word by word in step; several may be about one prefix.

    Each answer is what its question alone would give, up to the rounding of floats. `forwards` counts the
    runs that an answer took part in; the times are shares, by the words of the turn and by those runs.
    """
    if not turns:
        return []
    model = turns[0].prefix.model
    clock = _Clock(model.device)
    # Branches of one room stand next to each other in a run.
    order = sorted(range(len(turns)), key=[id(turn.prefix) for turn in turns].__getitem__)
    rooms = {id(turn.prefix): turn.prefix.room() for turn in turns}
    seats = [
        Seat(
            writing=turns[n].prefix.writing(turns[n], sampling=sampling, on_token=on_token),
            room=rooms[id(turns[n].prefix)],
            branch=n,
        )
        for n in order
    ]
    read_turns(model.network, [turns[n].token_ids for n in order], seats, layers=model.layers)
    prefill_ms = clock.lap_ms()
    write_together(model.network, seats, tree_rows=model.tree_rows, layers=model.layers)
    decode_ms = clock.lap_ms()
    answers = [seat.writing.answer() for seat in sorted(seats, key=lambda seat: seat.branch)]
    words = sum(len(turn.token_ids) for turn in turns)
    forwards = max(1, sum(answer.forwards for answer in answers))
    return [
        Generated(
            text=model.codec.decode(answer.token_ids),
            token_ids=answer.token_ids,
            stop_reason=answer.stop_reason,
            forwards=answer.forwards,
            tokens_in=len(turn.prefix) + len(turn.token_ids),
            timings_ms={
                "prefill": prefill_ms * len(turn.token_ids) / words,
                "decode_text": decode_ms * answer.forwards / forwards,
            },
            cuts=answer.cuts,
        )
        for turn, answer in zip(turns, answers, strict=True)
    ]


class _Clock:
    """Milliseconds between laps, with the device's work done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = self._now()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def lap_ms(self) -> float:
        last, self._last = self._last, self._now()
        return (self._last - last) * 1000.0

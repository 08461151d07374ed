"""From embedded tokens to text tokens: reading a prompt, and choosing the answer word by word.

Shapes: L tokens, Q of them new, D width of the language model, V words of the base vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from molmo2_ground.errors import BackendError
from molmo2_ground.model.attention import attention_rule
from molmo2_ground.model.drafting import draft
from molmo2_ground.model.kv_cache import BranchCache

if TYPE_CHECKING:
    from molmo2_ground.model.text_codec import TextCodec

ATTENTION_NAME = "molmo2_ground_rule"

# Entries of a mask that are held at once, so that a prompt of tens of thousands of tokens does not need
# gigabytes for its mask. A CPU turns each into a float.
_MASK_ENTRIES_CPU = 2**22
_MASK_ENTRIES = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How words are chosen: temperature 0 is greedy; top_p keeps the likeliest words of that total chance."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be 0 or more; got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1; got {self.top_p}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """An answer's token ids without the word that ended it, and how many times the network ran for them."""

    token_ids: tuple[int, ...]
    stop_reason: Literal["end", "length"]
    forwards: int


class PromptRule:
    """The attention rule over one prompt, handed down to a run's layers; rows are made as they are used."""

    def __init__(self, visual_L: torch.Tensor, *, query_start: int) -> None:
        self._visual_L = visual_L
        self._query_start = query_start
        self._last: tuple[int, int, torch.Tensor] | None = None

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """bool[1, 1, stop - start, L] for new tokens start..stop, counted from the first new one."""
        if self._last is None or self._last[:2] != (start, stop):
            first = self._query_start
            mask = attention_rule(self._visual_L, query_start=first + start, query_stop=first + stop)
            # Kept for the next layer, which asks the same when one block holds all rows.
            self._last = (start, stop, mask[None, None])
        return self._last[2]


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    prompt_rule: PromptRule | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA by blocks of rows under `prompt_rule`; without one, exactly the library's SDPA."""
    if prompt_rule is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    kwargs["is_causal"] = False
    count = query.shape[2]
    if count == 1:
        # One new text token at the end sees everything.
        return sdpa_attention_forward(module, query, key, value, None, **kwargs)
    entries = _MASK_ENTRIES_CPU if query.device.type == "cpu" else _MASK_ENTRIES
    block = max(1, entries // key.shape[2])
    parts = []
    for start in range(0, count, block):
        stop = min(count, start + block)
        mask = prompt_rule.rows(start, stop)
        part, _ = sdpa_attention_forward(module, query[:, :, start:stop], key, value, mask, **kwargs)
        parts.append(part)
    return torch.cat(parts, dim=1), None


def use_prompt_rule(network: Any) -> None:
    """Let the language model of `network` run under a `PromptRule` where one is given.

    The library's own calls keep working on the same network and give what they gave before.
    """
    AttentionInterface.register(ATTENTION_NAME, _attend)
    AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
    network.config.text_config._attn_implementation = ATTENTION_NAME


def embed(
    network: Any, input_ids: torch.Tensor, *, patch_L: torch.Tensor, features_TD: torch.Tensor | None
) -> torch.Tensor:
    """Embeddings [L, D] of the tokens, with each picture feature added to its patch token."""
    table = network.model.language_model.embed_tokens
    device = table.weight.device
    embeds: torch.Tensor = table(input_ids.to(device))
    if features_TD is not None:
        places = patch_L.nonzero().squeeze(1).to(device)
        if len(places) != len(features_TD):
            raise ValueError(f"{len(places)} patch tokens need as many features; got {len(features_TD)}")
        embeds = embeds.index_add(0, places, features_TD.to(embeds.dtype))
    return embeds


def run_prompt(
    network: Any, embeds_QD: torch.Tensor, *, visual_L: torch.Tensor, cache: BranchCache | None
) -> torch.Tensor:
    """Run new tokens behind those in `cache`; returns their last hidden states [Q, D].

    visual_L: bool[L] over all tokens, those in the cache first.
    """
    start = cache.get_seq_length() if cache is not None else 0
    stop = start + len(embeds_QD)
    device = embeds_QD.device
    output = network.model.language_model(
        inputs_embeds=embeds_QD[None],
        # Four dimensions tell the library that the mask is ready; the rule replaces it.
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        position_ids=torch.arange(start, stop, device=device)[None],
        past_key_values=cache,
        use_cache=cache is not None,
        prompt_rule=PromptRule(visual_L.to(device), query_start=start),
    )
    hidden: torch.Tensor = output.last_hidden_state[0]
    return hidden


def word_logits(network: Any, hidden_QD: torch.Tensor) -> torch.Tensor:
    """float32[Q, V]: how likely each word of the base vocabulary comes next."""
    logits: torch.Tensor = network.lm_head(hidden_QD)
    return logits.float()


def choose(logits_V: torch.Tensor, *, sampling: Sampling, generator: torch.Generator) -> int:
    """The next word. Sampling draws on the CPU, so that a seed means the same on every device."""
    best = int(logits_V.argmax())
    if not bool(logits_V[best].isfinite()):
        raise BackendError(
            "the model's numbers left the range of its data type; load it with dtype='bfloat16' or 'float32'"
        )
    if sampling.temperature == 0:
        return best
    chances = torch.softmax(logits_V.double().cpu() / sampling.temperature, dim=-1)
    ordered, words = chances.sort(descending=True, stable=True)
    # A word stays while the likelier ones before it have not reached top_p; the first always stays.
    ordered = torch.where(ordered.cumsum(0) - ordered < sampling.top_p, ordered, 0.0)
    return int(words[torch.multinomial(ordered, 1, generator=generator)])


def decode(
    network: Any,
    logits_V: torch.Tensor,
    *,
    cache: BranchCache,
    max_new_tokens: int,
    stop_ids: Collection[int],
    sampling: Sampling,
    drafter: Guesses | None = None,
    on_token: Callable[[int], None] | None = None,
) -> Decoded:
    """Write an answer behind a prompt that is already in `cache`.

    logits_V: for the first word. on_token is called with each id as it is chosen, and may raise.
    drafter: guesses words ahead, which one run of the network checks together; only those that it would have
    chosen anyway are taken, so the answer is the same. Not used when sampling.
    """
    generator = torch.Generator().manual_seed(sampling.seed)
    table = network.model.language_model.embed_tokens
    token_ids: list[int] = []
    forwards = 0
    guesses: list[int] = []
    # Rows of logits: after the last word taken, and after each guess behind it.
    rows_QV = logits_V[None]
    while True:
        for place in range(len(rows_QV)):
            token = choose(rows_QV[place], sampling=sampling, generator=generator)
            if token in stop_ids:
                return Decoded(token_ids=tuple(token_ids), stop_reason="end", forwards=forwards)
            token_ids.append(token)
            if on_token is not None:
                on_token(token)
            if len(token_ids) == max_new_tokens:
                return Decoded(token_ids=tuple(token_ids), stop_reason="length", forwards=forwards)
            if place == len(guesses) or guesses[place] != token:
                break
        # What was read of guesses that turned out wrong is forgotten.
        cache.cut_back(cache.get_seq_length() - (len(rows_QV) - 1 - place))
        guesses = []
        if drafter is not None and sampling.temperature == 0:
            guesses = drafter.guess(token_ids)[: max_new_tokens - len(token_ids) - 1]
        embeds = table(torch.tensor([token_ids[-1], *guesses], device=table.weight.device))
        # Answer words are no pictures: each sees everything before it, so the rule need not know the tokens.
        everything = torch.zeros(cache.get_seq_length() + len(embeds), dtype=torch.bool)
        rows_QV = word_logits(network, run_prompt(network, embeds, visual_L=everything, cache=cache))
        forwards += 1


class Guesses(Protocol):
    """What `decode` asks for words ahead."""

    def guess(self, token_ids: Sequence[int]) -> list[int]:
        """What may follow an answer of these tokens; they are the ones of the last call and more."""
        ...


class Drafter:
    """Guesses the next words of an answer from its text; see `drafting.draft`."""

    def __init__(self, codec: TextCodec, *, at_most: int = 40) -> None:
        """Spell guesses with the model's own words, `at_most` of them at a time."""
        self._codec = codec
        self._at_most = at_most
        self._text = ""
        self._read = 0

    def guess(self, token_ids: Sequence[int]) -> list[int]:
        """As `Guesses`."""
        # Word by word, a letter of several words can be misread: then the guess is wrong, and not taken.
        self._text += self._codec.decode(token_ids[self._read :])
        self._read = len(token_ids)
        self._text = self._text[max(0, self._text.rfind("<")) :]
        return self._codec.encode(draft(self._text))[: self._at_most]

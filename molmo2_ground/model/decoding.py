"""From embedded tokens to text tokens: reading a prompt, running an answer's words, choosing the next one.

Shapes: L tokens, Q of them new, D width of the language model, V words of the base vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from molmo2_ground.errors import BackendError
from molmo2_ground.model.attention import attention_rule
from molmo2_ground.model.branch_room import BranchRoom, Part
from molmo2_ground.model.kv_cache import BranchCache
from molmo2_ground.model.text_layers import keep_layers, run_layers

Kept = tuple[torch.Tensor, torch.Tensor]

# Entries of a mask that are held at once, so that a prompt of tens of thousands of tokens does not need
# gigabytes for its mask. A CPU turns each into a float.
_MASK_ENTRIES_CPU = 2**22
_MASK_ENTRIES = 2**26
_MASK_ALIGNMENT = 16


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


class Rule(Protocol):
    """Which tokens new ones may look at, by rows; made as they are used."""

    def rows(self, start: int, stop: int) -> torch.Tensor | None:
        """bool[stop - start, L] for new tokens start..stop, counted from the first new one; the asker's own.

        None where all may look at everything.
        """
        ...


class PromptRule:
    """The attention rule over one prompt of pictures and text."""

    def __init__(self, visual_L: torch.Tensor, *, query_start: int) -> None:
        self._visual_L = visual_L
        self._query_start = query_start

    def rows(self, start: int, stop: int) -> torch.Tensor | None:
        """As `Rule`."""
        first = self._query_start
        if stop - start == 1 and first + stop == len(self._visual_L):
            return None  # the last token
        return attention_rule(self._visual_L, query_start=first + start, query_stop=first + stop)


class Mask:
    """A rule as numbers that attention adds to its sums: 0 where a token may look, else minus infinity."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._last: tuple[tuple[object, ...], torch.Tensor | None] | None = None

    def rows(self, start: int, stop: int, *, copies: int, like: torch.Tensor) -> torch.Tensor | None:
        """[copies * (stop - start), L] of the device and type of `like`: a rule's rows, some times over."""
        asked = (start, stop, copies)
        if self._last is None or self._last[0] != asked:
            allowed = self._rule.rows(start, stop)
            numbers = None
            if allowed is not None:
                hidden = allowed.to(like.device).logical_not_()
                count, length = hidden.shape
                # CUDA's kernel would copy a mask in each layer whose rows do not begin at multiples of this.
                wide = -(-length // _MASK_ALIGNMENT) * _MASK_ALIGNMENT
                numbers = like.new_zeros(copies, count, wide)[..., :length]
                numbers = numbers.masked_fill_(hidden, -torch.inf).flatten(0, 1)
            # Kept for the next layer, which asks the same when one block holds all rows.
            self._last = (asked, numbers)
        return self._last[1]


def attend_by(
    mask: Mask, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """What new tokens see under a mask, by blocks of rows; [1, Q, N, H]. Shapes as in `text_layers`."""
    count, length = query.shape[2], key.shape[2]
    entries = mask_entries(query.device)
    sharing = query.shape[1] // key.shape[1]
    if sharing > 1 and query.device.type != "cpu" and sharing * count * length > entries:
        # A mask that has to be made in each layer is better made without copies of its rows.
        key, value = (part.repeat_interleave(sharing, dim=1) for part in (key, value))
        sharing = 1
    block = max(1, entries // (sharing * length))
    parts = []
    for start in range(0, count, block):
        stop = min(count, start + block)
        rows = mask.rows(start, stop, copies=sharing, like=query)
        parts.append(_seen(query[:, :, start:stop], key, value, rows, scale=module.scaling))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def mask_entries(device: torch.device) -> int:
    """Entries of a mask that are held at once on a device, at most, unless one row has more."""
    return _MASK_ENTRIES_CPU if device.type == "cpu" else _MASK_ENTRIES


def _seen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rows: torch.Tensor | None, *, scale: float
) -> torch.Tensor:
    """[1, Q, N, H]. Queries whose heads share keys stand behind one another as rows, one head after another.

    So keys and values need no copy for each head, as the kernels that take a mask would have them.
    """
    (_, heads, count, width), shared = query.shape, key.shape[1]
    asked = query if shared == heads else query.reshape(1, shared, -1, width)
    seen: torch.Tensor = F.scaled_dot_product_attention(asked, key, value, attn_mask=rows, scale=scale)
    if shared < heads:
        seen = seen.reshape(1, shared, heads // shared, count, width).flatten(1, 2)
    return seen.transpose(1, 2)


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


class _PromptPast:
    """What the words of one prompt look at, under its rule: themselves, and what is in a cache."""

    def __init__(self, rule: Rule, cache: BranchCache | None) -> None:
        self._mask = Mask(rule)
        self._cache = cache

    def keep(self, module: Any, key: torch.Tensor, value: torch.Tensor) -> Kept:
        """As `text_layers.Past`."""
        return (key, value) if self._cache is None else self._cache.update(key, value, module.layer_idx)

    def look(self, module: Any, query: torch.Tensor, kept: Kept) -> torch.Tensor:
        """As `text_layers.Past`."""
        return attend_by(self._mask, module, query, *kept)


class _AnswerPasts:
    """What the words of several rooms look at: each what its room lets it."""

    def __init__(self, rooms: Sequence[BranchRoom], counts: Sequence[int]) -> None:
        self._caches = [room.cache for room in rooms]
        self._masks = [Mask(room) for room in rooms]
        self._counts = list(counts)

    def keep(self, module: Any, key: torch.Tensor, value: torch.Tensor) -> list[Kept]:
        """As `text_layers.Past`."""
        parts = zip(self._caches, *(part.split(self._counts, dim=2) for part in (key, value)), strict=True)
        return [cache.update(keys, values, module.layer_idx) for cache, keys, values in parts]

    def look(self, module: Any, query: torch.Tensor, kept: list[Kept]) -> torch.Tensor:
        """As `text_layers.Past`."""
        parts = zip(self._masks, query.split(self._counts, dim=2), kept, strict=True)
        seen = [attend_by(mask, module, own, *past) for mask, own, past in parts]
        return seen[0] if len(seen) == 1 else torch.cat(seen, dim=1)


def run_prompt(
    network: Any, embeds_QD: torch.Tensor, *, visual_L: torch.Tensor, cache: BranchCache | None
) -> torch.Tensor:
    """Run new tokens behind those in `cache`; returns their last hidden states [Q, D].

    visual_L: bool[L] over all tokens, those in the cache first.
    """
    positions, past = _prompt(embeds_QD, visual_L=visual_L, cache=cache)
    return run_layers(network.model.language_model, embeds_QD, positions_Q=positions, past=past)


def keep_prompt(network: Any, embeds_QD: torch.Tensor, *, visual_L: torch.Tensor, cache: BranchCache) -> None:
    """As `run_prompt`, for what comes behind: nothing is computed that is not kept in `cache`."""
    positions, past = _prompt(embeds_QD, visual_L=visual_L, cache=cache)
    keep_layers(network.model.language_model, embeds_QD, positions_Q=positions, past=past)


def _prompt(
    embeds_QD: torch.Tensor, *, visual_L: torch.Tensor, cache: BranchCache | None
) -> tuple[torch.Tensor, _PromptPast]:
    start = cache.get_seq_length() if cache is not None else 0
    positions = torch.arange(start, start + len(embeds_QD), device=embeds_QD.device)
    return positions, _PromptPast(PromptRule(visual_L.to(embeds_QD.device), query_start=start), cache)


def run_answers(
    network: Any, embeds_QD: torch.Tensor, *, rooms: Sequence[tuple[BranchRoom, Sequence[Part]]]
) -> torch.Tensor:
    """Run the newest words of several answers at once; hidden states [Q, D].

    rooms: each with its parts of the Q words, in order. Words are no pictures: each sees the prefix and what
    stands before it in its own branch. `BranchRoom.settle` is to follow.
    """
    places = [room.begin(parts) for room, parts in rooms]
    positions = torch.tensor([place for own in places for place in own], device=embeds_QD.device)
    past = _AnswerPasts([room for room, _ in rooms], [len(own) for own in places])
    return run_layers(network.model.language_model, embeds_QD, positions_Q=positions, past=past)


def word_logits(network: Any, hidden_QD: torch.Tensor) -> torch.Tensor:
    """float32[Q, V]: how likely each word of the base vocabulary comes next."""
    logits: torch.Tensor = network.lm_head(hidden_QD)
    return logits.float()


def likeliest(logits_QV: torch.Tensor) -> list[int]:
    """The likeliest word of each row, the first of several. Raises `BackendError` where there is none."""
    values, words = logits_QV.max(dim=-1)
    if not bool(values.isfinite().all()):
        raise BackendError(
            "the model's numbers left the range of its data type; load it with dtype='bfloat16' or 'float32'"
        )
    found: list[int] = words.tolist()
    return found


def choose(logits_V: torch.Tensor, *, sampling: Sampling, generator: torch.Generator) -> int:
    """The next word. Sampling draws on the CPU, so that a seed means the same on every device."""
    (best,) = likeliest(logits_V[None])
    if sampling.temperature == 0:
        return best
    chances = torch.softmax(logits_V.double().cpu() / sampling.temperature, dim=-1)
    ordered, words = chances.sort(descending=True, stable=True)
    # A word stays while the likelier ones before it have not reached top_p; the first always stays.
    ordered = torch.where(ordered.cumsum(0) - ordered < sampling.top_p, ordered, 0.0)
    return int(words[torch.multinomial(ordered, 1, generator=generator)])

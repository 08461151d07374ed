"""From embedded tokens to text tokens: reading a prompt, running an answer's words, choosing the next one.

Shapes: L tokens, Q of them new, D width of the language model, V words of the base vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from molmo2_ground.errors import BackendError
from molmo2_ground.model.branch_room import BranchRoom, Part
from molmo2_ground.model.kv_cache import BranchCache
from molmo2_ground.model.masked_attention import Mask, attend_by
from molmo2_ground.model.prompt_order import PromptOrder
from molmo2_ground.model.text_layers import RunLayers, keep_layers, run_layers

Kept = tuple[torch.Tensor, torch.Tensor]


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
    """What the tokens of one prompt look at: themselves, and what is in a cache."""

    def __init__(self, order: PromptOrder, cache: BranchCache | None) -> None:
        self._pictures = order.pictures
        self._masks = (Mask(order.rule_of_pictures()), Mask(order.rule_of_words()))
        self._cache = cache

    def keep(self, module: Any, key: torch.Tensor, value: torch.Tensor) -> Kept:
        """As `text_layers.Past`."""
        return (key, value) if self._cache is None else self._cache.update(key, value, module.layer_idx)

    def look(self, module: Any, query: torch.Tensor, kept: Kept) -> torch.Tensor:
        """As `text_layers.Past`."""
        counts = [self._pictures, query.shape[2] - self._pictures]
        parts = zip(self._masks, query.split(counts, dim=2), strict=True)
        seen = [attend_by(mask, own, *kept, scale=module.scaling) for mask, own in parts if own.shape[2]]
        return seen[0] if len(seen) == 1 else torch.cat(seen, dim=1)


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
        seen = [attend_by(mask, own, *past, scale=module.scaling) for mask, own, past in parts]
        return seen[0] if len(seen) == 1 else torch.cat(seen, dim=1)


def run_prompt(
    network: Any, embeds_QD: torch.Tensor, *, visual_L: torch.Tensor, cache: BranchCache | None
) -> torch.Tensor:
    """Run new tokens behind those in `cache`; returns their last hidden states [Q, D].

    visual_L: bool[L] over all tokens, those in the cache first.
    """
    order = _order(visual_L, embeds_QD, cache)
    hidden = run_layers(
        network.model.language_model,
        order.sorted(embeds_QD),
        positions_Q=order.positions_Q,
        past=_PromptPast(order, cache),
    )
    return order.restored(hidden)


def keep_prompt(network: Any, embeds_QD: torch.Tensor, *, visual_L: torch.Tensor, cache: BranchCache) -> None:
    """As `run_prompt`, for what comes behind: nothing is computed that is not kept in `cache`."""
    order = _order(visual_L, embeds_QD, cache)
    keep_layers(
        network.model.language_model,
        order.sorted(embeds_QD),
        positions_Q=order.positions_Q,
        past=_PromptPast(order, cache),
    )


def _order(visual_L: torch.Tensor, embeds_QD: torch.Tensor, cache: BranchCache | None) -> PromptOrder:
    start = cache.get_seq_length() if cache is not None else 0
    return PromptOrder(visual_L.to(embeds_QD.device), start=start)


def run_answers(
    network: Any,
    embeds_QD: torch.Tensor,
    *,
    rooms: Sequence[tuple[BranchRoom, Sequence[Part]]],
    layers: RunLayers | None = None,
) -> torch.Tensor:
    """Run the newest words of several answers at once; hidden states [Q, D].

    rooms: each with its parts of the Q words, in order. Words are no pictures: each sees the prefix and what
    stands before it in its own branch. `BranchRoom.settle` is to follow.
    layers: what runs them; step by step by default.
    """
    places = [room.begin(parts) for room, parts in rooms]
    positions = torch.tensor([place for own in places for place in own], device=embeds_QD.device)
    past = _AnswerPasts([room for room, _ in rooms], [len(own) for own in places])
    if layers is not None:
        return layers(embeds_QD, positions_Q=positions, past=past)
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
    logits = logits_V.double().cpu()
    # The likeliest at 0, where no temperature, however small, makes it endless.
    chances = torch.softmax((logits - logits.max()) / sampling.temperature, dim=-1)
    ordered, words = chances.sort(descending=True, stable=True)
    # A word stays while the likelier ones before it have not reached top_p; the first always stays.
    ordered = torch.where(ordered.cumsum(0) - ordered < sampling.top_p, ordered, 0.0)
    return int(words[torch.multinomial(ordered, 1, generator=generator)])

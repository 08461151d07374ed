"""`BranchCache`: keys and values in place, with a shared prefix that questions branch off from.

The library's growing cache copies everything on each new token and everything again for each question. Here a
token is written into room that is already there, and going back to the prefix costs nothing.
Shapes: G key and value heads, L tokens, H width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class _Layer(CacheLayerMixin):
    """One layer's keys and values; the first `length` places of the room are in use."""

    is_croppable = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the library's base has no types
        self.length = 0
        self.wanted_room = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        room = max(self.wanted_room, key_states.shape[-2])
        self.keys = key_states.new_empty((*key_states.shape[:-2], room, key_states.shape[-1]))
        self.values = value_states.new_empty((*value_states.shape[:-2], room, value_states.shape[-1]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        count = key_states.shape[-2]
        stop = self.length + count
        if stop > self.keys.shape[-2]:
            # Half as much again, so that a long answer moves its keys a few times only.
            room = max(stop, self.wanted_room, self.keys.shape[-2] * 3 // 2)
            self.keys = _moved(self.keys, used=self.length, room=room)
            self.values = _moved(self.values, used=self.length, room=room)
        self.keys.narrow(-2, self.length, count).copy_(key_states)
        self.values.narrow(-2, self.length, count).copy_(value_states)
        self.length = stop
        return self.keys.narrow(-2, 0, stop), self.values.narrow(-2, 0, stop)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1


def _moved(held: torch.Tensor, *, used: int, room: int) -> torch.Tensor:
    larger = held.new_empty((*held.shape[:-2], room, held.shape[-1]))
    larger[..., :used, :] = held[..., :used, :]
    return larger


class BranchCache(Cache):
    """Keys and values of all layers of one network."""

    def __init__(self, *, layers: int) -> None:
        self._own = [_Layer() for _ in range(layers)]
        super().__init__(layers=list(self._own))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add a layer's new tokens [..., G, Q, H]; all that it then holds, as views."""
        # Without what the library asks about caches that move between devices.
        return self._own[layer_idx].update(key_states, value_states)

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` tokens in all when room is next needed."""
        for layer in self._own:
            layer.wanted_room = tokens

    def keep_only(self, head: int, places: torch.Tensor) -> None:
        """Forget every token behind the first `head` but those at `head + places`, int64 in rising order."""
        for layer in self._own:
            assert layer.keys is not None
            assert layer.values is not None
            stop = head + len(places)
            for held in (layer.keys, layer.values):
                held[..., head:stop, :] = held[..., head + places.to(held.device), :]
            layer.length = stop

    def cut_back(self, tokens: int) -> None:
        """Forget everything behind the first `tokens` tokens, also after a run that was broken off."""
        for layer in self._own:
            if layer.length < tokens:
                raise ValueError(f"the cache holds {layer.length} tokens; it cannot be cut back to {tokens}")
            layer.length = tokens

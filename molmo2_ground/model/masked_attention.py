"""`Mask`: a rule about who may look at whom, as numbers, and attention under it by blocks of rows.

Shapes: L tokens of the past and new, F of them at its front free for all, Q new ones, N heads of queries, G
of keys and values, H width of a head.
"""

from __future__ import annotations

from typing import Protocol

import torch

from molmo2_ground.model.part_attention import attend_part, attend_whole, gives_sums, joined

# Entries of a mask that are held at once, so that a prompt of tens of thousands of tokens does not need
# gigabytes for its mask. A CPU turns each into a float.
_MASK_ENTRIES_CPU = 2**22
_MASK_ENTRIES = 2**26
_MASK_ALIGNMENT = 16
LEAST_FREE = 2048
"""Free tokens from which on they are looked at apart, without a mask: fewer cost less in one product."""


class Rule(Protocol):
    """Which tokens new ones may look at, by rows; made as they are used."""

    @property
    def free(self) -> int:
        """How many tokens at the front all of the new ones may look at, F."""
        ...

    def rows(self, start: int, stop: int) -> torch.Tensor | None:
        """bool[stop - start, L - F] for new tokens start..stop, counted from the first new one.

        The asker may write to it. None where all may look at everything.
        """
        ...


class Mask:
    """A rule as numbers that attention adds to its products: 0 where a token may look, else very negative.

    Not minus infinity, which a row that may look at nothing behind the free tokens turns into NaN.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._last: tuple[tuple[object, ...], torch.Tensor | None] | None = None

    @property
    def free(self) -> int:
        """As the rule's."""
        return self._rule.free

    def rows(
        self, start: int, stop: int, *, copies: int, front: int, like: torch.Tensor
    ) -> torch.Tensor | None:
        """[copies * (stop - start), front + L - F] of the device and type of `like`: rows, some times over.

        front: how many of the free tokens have a column too.
        """
        asked = (start, stop, copies, front)
        if self._last is None or self._last[0] != asked:
            allowed = self._rule.rows(start, stop)
            numbers = None
            if allowed is not None:
                hidden = allowed.to(like.device).logical_not_()
                count, length = len(hidden), front + hidden.shape[1]
                # CUDA's kernel would copy a mask in each layer whose rows do not begin at multiples of this.
                wide = -(-length // _MASK_ALIGNMENT) * _MASK_ALIGNMENT
                numbers = like.new_zeros(copies, count, wide)[..., :length]
                numbers[..., front:].masked_fill_(hidden, torch.finfo(like.dtype).min / 2)
                numbers = numbers.flatten(0, 1)
            # Kept for the next layer, which asks the same when one block holds all rows.
            self._last = (asked, numbers)
        return self._last[1]


def attend_by(
    mask: Mask, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float
) -> torch.Tensor:
    """What new tokens [1, N, Q, H] see of keys and values [1, G, L, H] under a mask; [1, Q, N, H]."""
    count, length = query.shape[2], key.shape[2]
    entries = mask_entries(query.device)
    sharing = query.shape[1] // key.shape[1]
    apart = mask.free if mask.free >= LEAST_FREE and gives_sums(query) else 0
    columns = length - apart
    if sharing > 1 and query.device.type != "cpu" and sharing * count * columns > entries:
        # A mask that has to be made in each layer is better made without copies of its rows.
        key, value = (part.repeat_interleave(sharing, dim=1) for part in (key, value))
        sharing = 1
    block = max(1, entries // max(1, sharing * columns))
    parts = []
    for start in range(0, count, block):
        stop = min(count, start + block)
        # A part without tokens has no mask either, and some kernels fail at it.
        rows = None
        if columns:
            rows = mask.rows(start, stop, copies=sharing, front=mask.free - apart, like=query)
        asked = query[:, :, start:stop]
        if rows is None or not apart:
            parts.append(attend_whole(asked, key, value, rows, scale=scale))
            continue
        free = attend_part(asked, key[:, :, :apart], value[:, :, :apart], None, scale=scale)
        behind = attend_part(asked, key[:, :, apart:], value[:, :, apart:], rows, scale=scale)
        parts.append(joined(free, behind))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def mask_entries(device: torch.device) -> int:
    """Entries of a mask that are held at once on a device, at most, unless one row has more."""
    return _MASK_ENTRIES_CPU if device.type == "cpu" else _MASK_ENTRIES

"""Attention over one part of what tokens may look at, and what two parts make together.

Softmax over two sets of keys is both results weighed by their sums of exponentials, so a part that all may
look at needs no mask, and a part with a mask can be small. (The step from block to block in FlashAttention:
Dao et al. 2022, arXiv 2205.14135, section 3.1.)
Shapes: Q new tokens, N heads, G of keys and values, S tokens of the part, H width of a head.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F

_aten = torch.ops.aten


class PartSeen(NamedTuple):
    """What tokens see of a part, [1, Q, N, H], and the logarithms of their sums, float32[1, Q, N, 1]."""

    values: torch.Tensor
    log_sums: torch.Tensor


def attend_part(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, *, scale: float
) -> PartSeen:
    """What queries [1, N, Q, H] see of keys and values [1, G, S, H] that are a part of all.

    mask: [N // G * Q, S], the rows of the heads that share keys behind one another, is added to the products.
    A row that may look at nothing is filled with a large negative number, not with minus infinity: its sum is
    then nothing beside another part's. For what `gives_sums` says.
    """
    seen, sums = _with_sums(_rows(query, key), key, value, mask, scale)
    return PartSeen(_by_heads(seen, query), _by_heads(sums[..., None], query))


def attend_whole(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, *, scale: float
) -> torch.Tensor:
    """As `attend_part` over all there is, without the sums; [1, Q, N, H]."""
    if query.device.type == "cuda" and gives_sums(query):
        # Left to choose, torch may take cuDNN, which makes a plan for each length that it meets, and an
        # answer's past has another length with each word.
        seen, _ = _with_sums(_rows(query, key), key, value, mask, scale)
    else:
        seen = _plain(_rows(query, key), key, value, mask, scale)
    return _by_heads(seen, query)


def joined(first: PartSeen, second: PartSeen) -> torch.Tensor:
    """What tokens see of both parts, [1, Q, N, H]."""
    share = torch.sigmoid(first.log_sums - second.log_sums)
    return torch.lerp(second.values, first.values, share.to(first.values.dtype))


def gives_sums(query: torch.Tensor) -> bool:
    """Whether `attend_part` works for queries of this type, width and device."""
    return _gives_sums(query.device, query.dtype, query.shape[-1])


def _rows(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Queries whose heads share keys stand behind one another as rows, one head after another.

    So keys and values need no copy for each head, as the kernels that take a mask would have them.
    """
    shared = key.shape[1]
    return query if shared == query.shape[1] else query.reshape(1, shared, -1, query.shape[-1])


def _by_heads(rows: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Rows as `_rows` lays them, [1, G, N // G * Q, X], as [1, Q, N, X]."""
    (_, heads, count, _), shared = query.shape, rows.shape[1]
    return rows.reshape(1, shared, heads // shared, count, -1).flatten(1, 2).transpose(1, 2)


def _plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    seen: torch.Tensor = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return seen


def _with_sums(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """[1, G, R, H] and float32[1, G, R] by the kernels behind torch's attention, which keep the sums."""
    rows = query.shape[2]
    if query.device.type == "cpu":
        return _aten._scaled_dot_product_flash_attention_for_cpu(  # type: ignore[no-any-return]
            query, key, value, attn_mask=mask, scale=scale
        )
    if mask is None and query.dtype != torch.float32:
        seen, sums, *_ = _aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)
        return seen, sums[..., :rows]
    if mask is not None:
        mask = mask.expand(1, key.shape[1], *mask.shape)
    seen, sums, *_ = _aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, compute_log_sumexp=True, scale=scale
    )
    return seen, sums[..., :rows]  # filled up to a multiple of 32


@functools.cache
def _gives_sums(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Tried out: these kernels are no public ones, and not every device, type and width has them."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, rows, width, generator=generator).to(device, dtype)
        for heads, rows in ((4, 5), (2, 24), (2, 24))
    )
    # As a mask comes from `Mask`: rows that begin at multiples of what the kernels ask for.
    mask = query.new_zeros(10, 16)[:, :8]
    mask[3:6] = torch.finfo(dtype).min / 2
    whole = torch.cat([mask.new_zeros(10, 16), mask], dim=1)
    try:
        first = attend_part(query, key[:, :, :16], value[:, :, :16], None, scale=width**-0.5)
        second = attend_part(query, key[:, :, 16:], value[:, :, 16:], mask, scale=width**-0.5)
        found = joined(first, second).cpu().double()
    except torch.OutOfMemoryError:
        raise  # says nothing about the kernels
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False  # another torch without them, or a card, type or width that they refuse
    query, key, value, whole = (part.cpu().double() for part in (_rows(query, key), key, value, whole))
    known = _plain(query, key, value, whole, width**-0.5).reshape(1, 4, 5, width).transpose(1, 2)
    return bool((found - known).abs().max() < 64 * torch.finfo(dtype).eps)

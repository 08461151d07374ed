"""Attention of packed rows: FlexAttention under a block mask, or scaled dot products under a dense one.

Under any other mask it is the library's own, so one network can be trained and asked in turn.
Shapes: B rows, H heads, L tokens, D channels a head.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "molmo2_ground_packed"  # the name under which transformers finds this attention


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | BlockMask | None,
    *,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention [B, H, L, D] -> [B, L, H, D]; key and value may have fewer heads than the query."""
    if not isinstance(attention_mask, BlockMask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    # Under autocast the norms of query and key give fp32, the value's product bf16; the kernel takes one.
    out = _flex(query.device.type)(
        query.to(value.dtype),
        key.to(value.dtype),
        value,
        block_mask=attention_mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2).contiguous(), None


@cache
def _flex(device: str) -> Any:
    # Compiled, it skips the blocks that nobody may look into. On a CPU, where it has no backward pass when
    # compiled, the plain one is for checks of small rows.
    return flex_attention if device == "cpu" else torch.compile(flex_attention, dynamic=False)


def use_packed_attention(network: Any) -> None:
    """Let the language model of `network` run under block masks too; what it ran before, it still runs."""
    if network.config.text_config._attn_implementation == NAME:
        return
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    network.config.text_config._attn_implementation = NAME

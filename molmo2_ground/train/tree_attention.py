"""Attention of message trees, split into prefix and slots: fused kernels, or plain products for bf16 on CPUs.

Equal to one long row under `model.attention.attention_rule` (a test holds it), without the scores between
branches that the rule forbids anyway. Shapes: B trees, H heads, P prefix tokens, K slots, S tokens a slot,
D channels a head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from molmo2_ground.model.attention import attention_rule

if TYPE_CHECKING:
    from torch import Tensor, nn

    from molmo2_ground.train.tree import SlotBatch

NAME = "molmo2_ground_tree"  # the name under which transformers finds this attention


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeMasks:
    """Additive masks (0 or -inf) of one batch.

    prefix_B1PP, prefix_B11P (which prefix tokens exist), slots_BKSS (own branch, not later); for the fused
    kernels also both of a slot's side by side, rows_N1SL with N slots of all trees and L = P + S keys.
    """

    prefix_B1PP: Tensor
    prefix_B11P: Tensor
    slots_BKSS: Tensor
    rows_N1SL: Tensor | None = None


def tree_masks(batch: SlotBatch, *, dtype: torch.dtype) -> TreeMasks:
    """Masks of a batch, from the one rule that inference uses too; there where the batch's arrays are."""
    valid_BP = torch.as_tensor(batch.prefix_valid)
    visual_BP = torch.as_tensor(batch.prefix_visual)
    branch_BKS = torch.as_tensor(batch.branch_ids)
    prefix_BPP = attention_rule(visual_BP, valid_L=valid_BP)
    n_slots = branch_BKS.shape[0] * branch_BKS.shape[1]
    branch_NS = branch_BKS.reshape(n_slots, -1)
    slots_NSS = attention_rule(torch.zeros_like(branch_NS, dtype=torch.bool), branch_ids_L=branch_NS)
    # A padding row may look at itself: a softmax over nothing is not a number.
    eye_P = torch.eye(prefix_BPP.shape[-1], dtype=torch.bool, device=valid_BP.device)
    eye_S = torch.eye(branch_NS.shape[-1], dtype=torch.bool, device=valid_BP.device)
    masks = TreeMasks(
        prefix_B1PP=_additive(prefix_BPP | eye_P, dtype)[:, None],
        prefix_B11P=_additive(valid_BP, dtype)[:, None, None, :],
        slots_BKSS=_additive(slots_NSS | eye_S, dtype).reshape(*branch_BKS.shape, -1),
    )
    return replace(masks, rows_N1SL=row_masks(masks)) if _fuses(masks.prefix_B1PP) else masks


def _fuses(tensor: Tensor) -> bool:
    """Whether the fused kernels are the faster ones for numbers of this kind, where they are.

    In fp32 a CPU is held up by the scores going through memory, and the fused kernels keep none: a step takes
    half the time. In bf16 they are slower there than matrix products, several times.
    """
    return tensor.is_cuda or tensor.dtype != torch.bfloat16


def row_masks(masks: TreeMasks) -> Tensor:
    """The masks of a slot's tokens on their prefix and on their own slot side by side, [N, 1, S, P + S]."""
    n_slots, slot_len = masks.slots_BKSS.shape[1:3]
    to_prefix = masks.prefix_B11P.expand(-1, n_slots, slot_len, -1)
    return torch.cat([to_prefix, masks.slots_BKSS], -1).flatten(0, 1)[:, None]


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
        ~allowed, float("-inf")
    )


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    tree: TreeMasks | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention [B, H, L, D] -> [B, L, H, D]; with `tree`, L is the prefix followed by the slots.

    Without it (vision tower, connector) every query sees every key. Needs as many key heads as query heads.
    """
    if tree is None and _fuses(query):
        fused = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
        return fused.transpose(1, 2), None
    query = query * scaling
    if tree is None:
        scores = query @ key.transpose(-1, -2)
        if attention_mask is not None:
            scores = scores + attention_mask
        return (torch.softmax(scores, -1) @ value).transpose(1, 2), None
    n_prefix = tree.prefix_B1PP.shape[-1]
    # `split` rather than slices: its backward is one copy, not one a slice.
    parts = [x.split([n_prefix, x.shape[2] - n_prefix], 2) for x in (query, key, value)]
    if tree.rows_N1SL is not None:
        return _fused(parts, tree, tree.rows_N1SL), None
    return _plain(parts, tree), None


Parts = list[tuple["Tensor", ...]]  # query, key and value, each as (prefix, slots)


def _plain(parts: Parts, tree: TreeMasks) -> Tensor:
    (q_BHPD, q_BHTD), (k_BHPD, k_BHTD), (v_BHPD, v_BHTD) = parts
    batch, heads, n_prefix, width = q_BHPD.shape
    n_slots, slot_len = tree.slots_BKSS.shape[1:3]
    prefix_BHPD = torch.softmax(q_BHPD @ k_BHPD.transpose(-1, -2) + tree.prefix_B1PP, -1) @ v_BHPD
    split = (batch, heads, n_slots, slot_len, width)
    q_BHKSD, k_BHKSD, v_BHKSD = (x.reshape(split) for x in (q_BHTD, k_BHTD, v_BHTD))
    to_prefix_BHTP = q_BHTD @ k_BHPD.transpose(-1, -2) + tree.prefix_B11P
    to_slot_BHKSS = q_BHKSD @ k_BHKSD.transpose(-1, -2) + tree.slots_BKSS[:, None]
    scores = torch.cat(
        [to_prefix_BHTP, to_slot_BHKSS.reshape(batch, heads, n_slots * slot_len, slot_len)], -1
    )
    to_prefix, to_own = torch.softmax(scores, -1).split([n_prefix, slot_len], -1)
    own_BHKSD = to_own.reshape(*split[:-1], slot_len) @ v_BHKSD
    out_BHTD = to_prefix @ v_BHPD + own_BHKSD.reshape(q_BHTD.shape)
    return torch.cat([prefix_BHPD, out_BHTD], 2).transpose(1, 2)


def _fused(parts: Parts, tree: TreeMasks, rows_N1SL: Tensor) -> Tensor:
    """The same in fused kernels that keep no scores: every slot gets a copy of its prefix's keys."""
    (q_BHPD, q_BHTD), (k_BHPD, k_BHTD), (v_BHPD, v_BHTD) = parts
    batch, heads, _, width = q_BHPD.shape
    n_slots, slot_len = tree.slots_BKSS.shape[1:3]

    def own(x_BHTD: Tensor) -> Tensor:
        return x_BHTD.reshape(batch, heads, n_slots, slot_len, width).transpose(1, 2)

    def with_prefix(x_BHPD: Tensor, x_BHTD: Tensor) -> Tensor:
        prefix = x_BHPD[:, None].expand(-1, n_slots, -1, -1, -1)
        return torch.cat([prefix, own(x_BHTD)], 3).flatten(0, 1)

    prefix_BHPD = F.scaled_dot_product_attention(
        q_BHPD, k_BHPD, v_BHPD, attn_mask=tree.prefix_B1PP, scale=1.0
    )
    rows_NHSD = F.scaled_dot_product_attention(
        own(q_BHTD).flatten(0, 1),
        with_prefix(k_BHPD, k_BHTD),
        with_prefix(v_BHPD, v_BHTD),
        attn_mask=rows_N1SL,
        scale=1.0,
    )
    out_BHTD = rows_NHSD.reshape(batch, n_slots, heads, slot_len, width).transpose(1, 2)
    return torch.cat([prefix_BHPD, out_BHTD.reshape(q_BHTD.shape)], 2).transpose(1, 2)


def register() -> str:
    """Make this attention known to transformers; returns the name for `config._attn_implementation`."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, tree_attention)
    return NAME

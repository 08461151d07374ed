"""Attention of message trees on a CPU: plain matrix products, split into prefix and slots.

Equal to one long row under `model.attention.attention_rule` (a test holds it), without the scores between
branches that the rule forbids anyway. Shapes: B trees, H heads, P prefix tokens, K slots, S tokens a slot,
D channels a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from molmo2_ground.model.attention import attention_rule

if TYPE_CHECKING:
    from torch import Tensor, nn

    from molmo2_ground.train.tree import SlotBatch

NAME = "molmo2_ground_tree"  # the name under which transformers finds this attention


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeMasks:
    """Additive masks (0 or -inf) of one batch.

    prefix_B1PP, prefix_B11P (which prefix tokens exist), slots_BKSS (own branch, not later).
    """

    prefix_B1PP: Tensor
    prefix_B11P: Tensor
    slots_BKSS: Tensor


def tree_masks(batch: SlotBatch, *, dtype: torch.dtype) -> TreeMasks:
    """Masks of a batch, from the one rule that inference uses too."""
    valid_BP = torch.from_numpy(batch.prefix_valid)
    visual_BP = torch.from_numpy(batch.prefix_visual)
    branch_BKS = torch.from_numpy(batch.branch_ids)
    prefix_BPP = attention_rule(visual_BP, valid_L=valid_BP)
    n_slots = branch_BKS.shape[0] * branch_BKS.shape[1]
    branch_NS = branch_BKS.reshape(n_slots, -1)
    slots_NSS = attention_rule(torch.zeros_like(branch_NS, dtype=torch.bool), branch_ids_L=branch_NS)
    # A padding row may look at itself: a softmax over nothing is not a number.
    eye_P = torch.eye(prefix_BPP.shape[-1], dtype=torch.bool)
    eye_S = torch.eye(branch_NS.shape[-1], dtype=torch.bool)
    return TreeMasks(
        prefix_B1PP=_additive(prefix_BPP | eye_P, dtype)[:, None],
        prefix_B11P=_additive(valid_BP, dtype)[:, None, None, :],
        slots_BKSS=_additive(slots_NSS | eye_S, dtype).reshape(*branch_BKS.shape, -1),
    )


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, float("-inf"))


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
    query = query * scaling
    if tree is None:
        scores = query @ key.transpose(-1, -2)
        if attention_mask is not None:
            scores = scores + attention_mask
        return (torch.softmax(scores, -1) @ value).transpose(1, 2), None
    n_prefix = tree.prefix_B1PP.shape[-1]
    batch, n_slots, slot_len = tree.slots_BKSS.shape[:3]
    heads, width = query.shape[1], query.shape[-1]
    q_BHPD, k_BHPD, v_BHPD = query[:, :, :n_prefix], key[:, :, :n_prefix], value[:, :, :n_prefix]
    prefix_BHPD = torch.softmax(q_BHPD @ k_BHPD.transpose(-1, -2) + tree.prefix_B1PP, -1) @ v_BHPD

    q_BHTD = query[:, :, n_prefix:]
    split = (batch, heads, n_slots, slot_len, width)
    q_BHKSD, k_BHKSD, v_BHKSD = (x[:, :, n_prefix:].reshape(split) for x in (query, key, value))
    to_prefix_BHTP = q_BHTD @ k_BHPD.transpose(-1, -2) + tree.prefix_B11P
    to_slot_BHKSS = q_BHKSD @ k_BHKSD.transpose(-1, -2) + tree.slots_BKSS[:, None]
    scores = torch.cat(
        [to_prefix_BHTP, to_slot_BHKSS.reshape(batch, heads, n_slots * slot_len, slot_len)], -1
    )
    weights = torch.softmax(scores, -1)
    out_BHTD = weights[..., :n_prefix] @ v_BHPD
    own_BHKSS = weights[..., n_prefix:].reshape(batch, heads, n_slots, slot_len, slot_len)
    out_BHTD = out_BHTD + (own_BHKSS @ v_BHKSD).reshape(out_BHTD.shape)
    return torch.cat([prefix_BHPD, out_BHTD], 2).transpose(1, 2), None


def register() -> str:
    """Make this attention known to transformers; returns the name for `config._attn_implementation`."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, tree_attention)
    return NAME

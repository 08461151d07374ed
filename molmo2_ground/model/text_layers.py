"""The language model's layers, run on rows of tokens without the library's wrapping.

The same modules and weights, and the same numbers to the rounding of floats: norms in one call, angles
turned once a run instead of once a layer, and no batch dimension, so that words of several answers can share
one run of the matrix products while each looks at its own past (`attend`).
Shapes: Q new tokens, D width of the language model, N heads, H width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

Attend = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(attention module, queries, new keys, new values), each [1, N, Q, H], to what was seen, [1, Q, N, H]."""


class _Angles(NamedTuple):
    """Rotary angles of the new tokens, [Q, 1, H]: cosines, and sines with the first half's sign turned."""

    cosines: torch.Tensor
    sines: torch.Tensor


def run_layers(
    text: Any, embeds_QD: torch.Tensor, *, positions_Q: torch.Tensor, attend: Attend
) -> torch.Tensor:
    """Last hidden states [Q, D] of new tokens.

    text: the library's `Molmo2TextModel`, in evaluation mode. positions_Q: int64, where each token stands.
    """
    rotaries = {"scaled": text.rotary_emb, "unscaled": text.rotary_emb_unscaled}
    angles = {kind: _angles(rotaries[kind], embeds_QD, positions_Q) for kind in set(text.rope_types)}
    hidden = embeds_QD
    for layer, kind in zip(text.layers, text.rope_types, strict=True):
        if layer.norm_after:  # Olmo's order
            seen = _attention(layer.self_attn, hidden, angles[kind], attend)
            hidden = hidden + _normed(layer.input_layernorm, seen)
            hidden = hidden + _normed(layer.post_attention_layernorm, layer.mlp(hidden))
        else:
            seen = _attention(layer.self_attn, _normed(layer.input_layernorm, hidden), angles[kind], attend)
            hidden = hidden + seen
            hidden = hidden + layer.mlp(_normed(layer.post_attention_layernorm, hidden))
    return _normed(text.norm, hidden)


def _attention(attention: Any, hidden_QD: torch.Tensor, angles: _Angles, attend: Attend) -> torch.Tensor:
    heads = (len(hidden_QD), -1, attention.head_dim)
    query, key = attention.q_proj(hidden_QD), attention.k_proj(hidden_QD)
    value = attention.v_proj(hidden_QD).view(heads)
    if attention.qk_norm_type == "olmo":  # over all heads at once
        query, key = _normed(attention.q_norm, query), _normed(attention.k_norm, key)
    query, key = query.view(heads), key.view(heads)
    if attention.qk_norm_type == "qwen3":  # each head by itself
        query, key = _normed(attention.q_norm, query), _normed(attention.k_norm, key)
    rows = (part.transpose(0, 1)[None] for part in (_turned(query, angles), _turned(key, angles), value))
    seen: torch.Tensor = attention.o_proj(attend(attention, *rows)[0].reshape(len(hidden_QD), -1))
    return seen


def _normed(norm: Any, hidden: torch.Tensor) -> torch.Tensor:
    """RMS norm in float32; its weight is applied in the model's own type, as in training."""
    if hidden.dtype == torch.float32:
        return F.rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)
    whole = F.rms_norm(hidden.float(), norm.weight.shape, None, norm.variance_epsilon)
    scaled: torch.Tensor = norm.weight * whole.to(hidden.dtype)
    return scaled


def _angles(rotary: Any, embeds_QD: torch.Tensor, positions_Q: torch.Tensor) -> _Angles:
    cosines, sines = (part[0, :, None] for part in rotary(embeds_QD, position_ids=positions_Q[None]))
    half = sines.shape[-1] // 2
    return _Angles(cosines, torch.cat([-sines[..., :half], sines[..., half:]], dim=-1))


def _turned(heads_QNH: torch.Tensor, angles: _Angles) -> torch.Tensor:
    """Rotary position: each pair (i, i + H/2) turned by its angle."""
    swapped = heads_QNH.roll(heads_QNH.shape[-1] // 2, dims=-1)
    return torch.addcmul(heads_QNH * angles.cosines, swapped, angles.sines)

"""The language model's layers, run on rows of tokens without the library's wrapping.

The same modules and weights, and the same numbers to the rounding of floats: norms in one call, angles
turned once a run instead of once a layer, and no batch dimension, so that words of several answers can share
one run of the matrix products while each looks at its own past.
Shapes: Q new tokens, D width of the language model, N heads, H width of a head.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F

KeptT = TypeVar("KeptT")


class Past(Protocol[KeptT]):
    """The tokens that new ones look at, themselves among them; one for all layers of a run."""

    def keep(self, module: Any, key: torch.Tensor, value: torch.Tensor) -> KeptT:
        """Add the new tokens' keys and values [1, N, Q, H] of a layer's attention module to its past."""
        ...

    def look(self, module: Any, query: torch.Tensor, kept: KeptT) -> torch.Tensor:
        """What the new tokens see, [1, Q, N, H], by their queries [1, N, Q, H] and what `keep` gave."""
        ...


class _Angles(NamedTuple):
    """Rotary angles of the new tokens, [Q, 1, H]: cosines, and sines with the first half's sign turned."""

    cosines: torch.Tensor
    sines: torch.Tensor


def run_layers(
    text: Any, embeds_QD: torch.Tensor, *, positions_Q: torch.Tensor, past: Past[Any]
) -> torch.Tensor:
    """Last hidden states [Q, D] of new tokens.

    text: the library's `Molmo2TextModel`, in evaluation mode. positions_Q: int64, where each token stands.
    """
    angles = _angles_of(text, embeds_QD, positions_Q)
    hidden = embeds_QD
    for layer, kind in zip(text.layers, text.rope_types, strict=True):
        hidden = _layer(layer, hidden, angles[kind], past)
    return _normed(text.norm, hidden)


def keep_layers(text: Any, embeds_QD: torch.Tensor, *, positions_Q: torch.Tensor, past: Past[Any]) -> None:
    """As `run_layers` where only the past is wanted: the last layer gives its keys and values and stops."""
    angles = _angles_of(text, embeds_QD, positions_Q)
    hidden = embeds_QD
    for layer, kind in zip(text.layers[:-1], text.rope_types[:-1], strict=True):
        hidden = _layer(layer, hidden, angles[kind], past)
    last = text.layers[-1]
    key, value = _keys(last.self_attn, _before(last, hidden), angles[text.rope_types[-1]])
    past.keep(last.self_attn, key, value)


def _layer(layer: Any, hidden_QD: torch.Tensor, angles: _Angles, past: Past[Any]) -> torch.Tensor:
    seen = _attention(layer.self_attn, _before(layer, hidden_QD), angles, past)
    if layer.norm_after:  # Olmo's order
        hidden_QD = hidden_QD + _normed(layer.input_layernorm, seen)
        return hidden_QD + _normed(layer.post_attention_layernorm, layer.mlp(hidden_QD))
    hidden_QD = hidden_QD + seen
    summed: torch.Tensor = hidden_QD + layer.mlp(_normed(layer.post_attention_layernorm, hidden_QD))
    return summed


def _before(layer: Any, hidden_QD: torch.Tensor) -> torch.Tensor:
    """What a layer's attention reads."""
    return hidden_QD if layer.norm_after else _normed(layer.input_layernorm, hidden_QD)


def _attention(attention: Any, hidden_QD: torch.Tensor, angles: _Angles, past: Past[Any]) -> torch.Tensor:
    key, value = _keys(attention, hidden_QD, angles)
    query = _turned(_heads(attention, attention.q_proj(hidden_QD), attention.q_norm), angles)
    looked = past.look(attention, _row(query), past.keep(attention, key, value))
    seen: torch.Tensor = attention.o_proj(looked[0].reshape(len(hidden_QD), -1))
    return seen


def _keys(attention: Any, hidden_QD: torch.Tensor, angles: _Angles) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of the new tokens, [1, N, Q, H]."""
    key = _turned(_heads(attention, attention.k_proj(hidden_QD), attention.k_norm), angles)
    return _row(key), _row(_heads(attention, attention.v_proj(hidden_QD), None))


def _heads(attention: Any, projected: torch.Tensor, norm: Any | None) -> torch.Tensor:
    """[Q, N, H], normed over all heads at once (Olmo) or each by itself (Qwen)."""
    if norm is not None and attention.qk_norm_type == "olmo":
        projected = _normed(norm, projected)
    heads = projected.view(len(projected), -1, attention.head_dim)
    return _normed(norm, heads) if norm is not None and attention.qk_norm_type == "qwen3" else heads


def _row(heads_QNH: torch.Tensor) -> torch.Tensor:
    return heads_QNH.transpose(0, 1)[None]


def _normed(norm: Any, hidden: torch.Tensor) -> torch.Tensor:
    """RMS norm in float32; its weight is applied in the model's own type, as in training."""
    if hidden.dtype == torch.float32:
        return F.rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)
    whole = F.rms_norm(hidden.float(), norm.weight.shape, None, norm.variance_epsilon)
    scaled: torch.Tensor = norm.weight * whole.to(hidden.dtype)
    return scaled


def _angles_of(text: Any, embeds_QD: torch.Tensor, positions_Q: torch.Tensor) -> dict[str, _Angles]:
    """By the kind that each layer names in `rope_types`."""
    rotaries = {"scaled": text.rotary_emb, "unscaled": text.rotary_emb_unscaled}
    return {kind: _angles(rotaries[kind], embeds_QD, positions_Q) for kind in set(text.rope_types)}


def _angles(rotary: Any, embeds_QD: torch.Tensor, positions_Q: torch.Tensor) -> _Angles:
    cosines, sines = (part[0, :, None] for part in rotary(embeds_QD, position_ids=positions_Q[None]))
    half = sines.shape[-1] // 2
    return _Angles(cosines, torch.cat([-sines[..., :half], sines[..., half:]], dim=-1))


def _turned(heads_QNH: torch.Tensor, angles: _Angles) -> torch.Tensor:
    """Rotary position: each pair (i, i + H/2) turned by its angle."""
    swapped = heads_QNH.roll(heads_QNH.shape[-1] // 2, dims=-1)
    return torch.addcmul(heads_QNH * angles.cosines, swapped, angles.sines)

"""The language model's layers, run on rows of tokens without the library's wrapping.

The same modules and weights, and the same numbers to the rounding of floats: matrices that read the same
inputs as one, queries and keys normed and turned together, angles found once a run instead of once a layer,
and no batch dimension, so that words of several answers can share one run of the matrix products while each
looks at its own past. For answering only: sums are written over where they stand, which gradients forbid.
Shapes: Q new tokens, D width of the language model, N heads (of queries, or of the fewer keys and values),
H width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F

from molmo2_ground.model.joined_linear import linear_together

KeptT = TypeVar("KeptT")


class Past(Protocol[KeptT]):
    """The tokens that new ones look at, themselves among them; one for all layers of a run."""

    def keep(self, module: Any, key: torch.Tensor, value: torch.Tensor) -> KeptT:
        """Add the new tokens' keys and values [1, N, Q, H] of a layer's attention module to its past."""
        ...

    def look(self, module: Any, query: torch.Tensor, kept: KeptT) -> torch.Tensor:
        """What the new tokens see, [1, Q, N, H], by their queries [1, N, Q, H] and what `keep` gave."""
        ...


class RunLayers(Protocol):
    """What runs new tokens through the layers of one network, as `run_layers` does."""

    def __call__(
        self, embeds_QD: torch.Tensor, *, positions_Q: torch.Tensor, past: Past[Any]
    ) -> torch.Tensor:
        """Last hidden states [Q, D]."""
        ...


class Angles(NamedTuple):
    """Rotary angles of the new tokens, [Q, 1, H]: cosines, and sines with the first half's sign turned."""

    cosines: torch.Tensor
    sines: torch.Tensor


def run_layers(
    text: Any, embeds_QD: torch.Tensor, *, positions_Q: torch.Tensor, past: Past[Any]
) -> torch.Tensor:
    """Last hidden states [Q, D] of new tokens.

    text: the library's `Molmo2TextModel`, in evaluation mode. positions_Q: int64, where each token stands.
    """
    angles = angles_of(text, embeds_QD, positions_Q)
    hidden = embeds_QD
    for layer, kind in zip(text.layers, text.rope_types, strict=True):
        hidden = _layer(layer, hidden, angles[kind], past)
    return last_norm(text, hidden)


def keep_layers(text: Any, embeds_QD: torch.Tensor, *, positions_Q: torch.Tensor, past: Past[Any]) -> None:
    """As `run_layers` where only the past is wanted: the last layer gives its keys and values and stops."""
    angles = angles_of(text, embeds_QD, positions_Q)
    hidden = embeds_QD
    for layer, kind in zip(text.layers[:-1], text.rope_types[:-1], strict=True):
        hidden = _layer(layer, hidden, angles[kind], past)
    last = text.layers[-1]
    attention = last.self_attn
    both = linear_together((attention.k_proj, attention.v_proj), _before(last, hidden))
    key, value = _placed(attention, both, (attention.k_norm,), angles[text.rope_types[-1]])
    past.keep(attention, key, value)


def last_norm(text: Any, hidden_QD: torch.Tensor) -> torch.Tensor:
    """Hidden states behind the last layer as the next word is read from them."""
    return _normed(text.norm, hidden_QD)


def _layer(layer: Any, hidden_QD: torch.Tensor, angles: Angles, past: Past[Any]) -> torch.Tensor:
    attention = layer.self_attn
    query, *new = asked(layer, hidden_QD, angles)
    kept = past.keep(attention, *new)
    del new  # they hold memory, and a cache has its own copy
    looked = past.look(attention, query, kept)
    del query
    looked = projected(layer, looked)
    return gone_on(layer, hidden_QD, looked)


def asked(layer: Any, hidden_QD: torch.Tensor, angles: Angles) -> list[torch.Tensor]:
    """What a layer asks of the past: its queries, and the keys and values that are new, [1, N, Q, H]."""
    attention = layer.self_attn
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    norms = (attention.q_norm, attention.k_norm)
    return _placed(attention, linear_together(projections, _before(layer, hidden_QD)), norms, angles)


def projected(layer: Any, looked: torch.Tensor) -> torch.Tensor:
    """What a layer makes, [Q, D], of what its heads saw of the past, [1, Q, N, H]."""
    seen: torch.Tensor = layer.self_attn.o_proj(looked[0].flatten(1))
    return seen


def gone_on(layer: Any, hidden_QD: torch.Tensor, seen_QD: torch.Tensor) -> torch.Tensor:
    """Hidden states behind a layer, [Q, D], by those before it and what `projected` gave."""
    if layer.norm_after:  # Olmo's order
        hidden_QD = hidden_QD + _normed(layer.input_layernorm, seen_QD)
        return hidden_QD + _normed(layer.post_attention_layernorm, layer.mlp(hidden_QD))
    hidden_QD = hidden_QD + seen_QD
    summed: torch.Tensor = hidden_QD + layer.mlp(_normed(layer.post_attention_layernorm, hidden_QD))
    return summed


def _before(layer: Any, hidden_QD: torch.Tensor) -> torch.Tensor:
    """What a layer's attention reads."""
    return hidden_QD if layer.norm_after else _normed(layer.input_layernorm, hidden_QD)


def _placed(
    attention: Any, projected: torch.Tensor, norms: Sequence[Any], angles: Angles
) -> list[torch.Tensor]:
    """The heads [1, N, Q, H] of what lies side by side in a projection, its values last.

    norms: of each part before the values. Those parts are normed and turned, together where that is the same.
    """
    heads = projected.view(len(projected), -1, attention.head_dim)
    shared = attention.config.num_key_value_heads
    counts = [attention.config.num_attention_heads, shared][-len(norms) :]
    turning, values = heads.split([sum(counts), shared], dim=1)
    if attention.qk_norm_type == "olmo":  # over all heads of a part at once
        parts = zip(norms, turning.split(counts, dim=1), strict=True)
        normed = torch.cat([_normed(norm, part.flatten(1)) for norm, part in parts], dim=1).view_as(turning)
    else:  # each head by itself
        normed = _unit(turning, norms[0].variance_epsilon)
        for norm, part in zip(norms, normed.split(counts, dim=1), strict=True):
            part.mul_(norm.weight)
    rows = [*_turned(normed, angles).split(counts, dim=1), values]
    return [part.transpose(0, 1)[None] for part in rows]


def _normed(norm: Any, hidden: torch.Tensor) -> torch.Tensor:
    """RMS norm in float32; its weight is applied in the model's own type, as in training."""
    if hidden.dtype == torch.float32 and hidden.device.type != "cpu":
        return F.rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)
    return _unit(hidden, norm.variance_epsilon).mul_(norm.weight)


def _unit(hidden: torch.Tensor, epsilon: float) -> torch.Tensor:
    """What lies in the last dimension, brought to a mean square of one; computed in float32."""
    whole = hidden.float()
    if hidden.device.type == "cpu":
        # The same steps and numbers as the library's call, which has no kernel of its own here.
        scale = (whole * whole).mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        return (whole * scale).to(hidden.dtype)
    return F.rms_norm(whole, hidden.shape[-1:], None, epsilon).to(hidden.dtype)


def angles_of(text: Any, embeds_QD: torch.Tensor, positions_Q: torch.Tensor) -> dict[str, Angles]:
    """By the kind that each layer names in `rope_types`."""
    rotaries = {"scaled": text.rotary_emb, "unscaled": text.rotary_emb_unscaled}
    return {kind: _angles(rotaries[kind], embeds_QD, positions_Q) for kind in set(text.rope_types)}


def _angles(rotary: Any, embeds_QD: torch.Tensor, positions_Q: torch.Tensor) -> Angles:
    cosines, sines = (part[0, :, None] for part in rotary(embeds_QD, position_ids=positions_Q[None]))
    half = sines.shape[-1] // 2
    return Angles(cosines, torch.cat([-sines[..., :half], sines[..., half:]], dim=-1))


def _turned(heads_QNH: torch.Tensor, angles: Angles) -> torch.Tensor:
    """Rotary position: each pair (i, i + H/2) turned by its angle; written over the heads."""
    swapped = heads_QNH.roll(heads_QNH.shape[-1] // 2, dims=-1)
    return heads_QNH.mul_(angles.cosines).addcmul_(swapped, angles.sines)

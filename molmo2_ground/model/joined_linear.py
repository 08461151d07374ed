"""Linear layers that read the same inputs, run as one: fewer and larger matrix products.

The released files hold queries, keys and values as one matrix. The library cuts it into views; where the
pieces still lie behind one another in memory, one view spans them all. Nothing is copied for it, and each
layer keeps its own parameters. (The two halves of the MLP are stored so too, but one product for both is
slower on a CPU: the steps behind it then read rows with gaps.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def linear_together(linears: Sequence[nn.Module], inputs: torch.Tensor) -> torch.Tensor:
    """What each of several layers gives for the same inputs, side by side in the last dimension.

    One product where they are plain layers whose frozen weights lie together, else one each.
    """
    spanned = _spanned(linears)
    if spanned is None:
        return torch.cat([linear(inputs) for linear in linears], dim=-1)
    return F.linear(inputs, *spanned)


def lay_together(network: Any) -> None:
    """Move the weights of queries, keys and values behind one another, layer by layer.

    The parameters stay the same objects, now views of one tensor. Those that lie so
    already, and layers that are not plain, are left alone.
    """
    for layer in network.model.language_model.layers:
        attention = layer.self_attn
        _join((attention.q_proj, attention.k_proj, attention.v_proj))


def _join(linears: Sequence[Any]) -> None:
    if _spanned(linears) is not None or not all(type(linear) is nn.Linear for linear in linears):
        return
    for parts in ([linear.weight for linear in linears], [linear.bias for linear in linears]):
        if any(part is None for part in parts) or len({(part.dtype, part.device) for part in parts}) > 1:
            continue
        whole = torch.cat([part.data for part in parts])
        for part, rows in zip(parts, whole.split([len(part) for part in parts]), strict=True):
            part.data = rows


def _spanned(linears: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """The weight and bias of all layers as one; None where that takes a copy, or they are something else."""
    # Others stand in for a plain layer (`Int8Linear`), and may inherit from it.
    if not all(type(linear) is nn.Linear for linear in linears):
        return None
    weight = _span([linear.weight for linear in linears])
    biases = [linear.bias for linear in linears]
    if weight is None or all(bias is None for bias in biases):
        return None if weight is None else (weight, None)
    bias = None if any(bias is None for bias in biases) else _span(biases)
    return None if bias is None else (weight, bias)


def _span(parts: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """A view over tensors that lie behind one another in the same storage, joined in the first dimension."""
    first = parts[0]
    storage, place = first.untyped_storage().data_ptr(), first.data_ptr()
    for part in parts:
        # A view over all of them would take the gradient of one only.
        if part.data_ptr() != place or part.requires_grad or not part.is_contiguous():
            return None
        if part.untyped_storage().data_ptr() != storage or part.dtype != first.dtype:
            return None
        place += part.nbytes
    return first.as_strided((sum(map(len, parts)), *first.shape[1:]), first.stride())

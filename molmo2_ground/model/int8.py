"""The language model's matrices as whole numbers: half the memory of bfloat16.

Each row of a matrix is divided by a number of its own, so that its largest entry becomes 127, and rounded
(symmetric, per output channel). Vision tower, connector, embeddings and the last matrix stay as they are:
they are small beside the rest, and places in pictures hang on them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_LARGEST = 127
_MATRICES = (
    ("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj")),
    ("mlp", ("gate_proj", "up_proj", "down_proj")),
)


class Int8Linear(nn.Module):
    """A linear layer whose weight is int8[out, in], with a scale for each output."""

    def __init__(self, linear: nn.Linear) -> None:
        """Take over a layer's weights, rounded."""
        super().__init__()
        weight = linear.weight.detach().float()
        # A row of zeros stays one, whatever it is divided by.
        scale = (weight.abs().amax(dim=1) / _LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale.to(linear.weight.dtype))
        self.bias = linear.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As the layer that it stands for; the weight is spread to the inputs' type for the time it takes."""
        weight, scale = self.get_buffer("weight"), self.get_buffer("scale")
        product = F.linear(inputs, weight.to(inputs.dtype)) * scale
        return product if self.bias is None else product + self.bias


def to_int8(network: Any) -> None:
    """Replace the matrices of the language model's layers, one by one, in place."""
    for layer in network.model.language_model.layers:
        for part, names in _MATRICES:
            for name in names:
                module = getattr(layer, part)
                setattr(module, name, Int8Linear(getattr(module, name)))


def is_int8(network: Any) -> bool:
    """Whether `to_int8` was done."""
    return isinstance(network.model.language_model.layers[0].self_attn.q_proj, Int8Linear)


def saved_parameters(shapes: Any) -> int:
    """How many of a text config's numbers `to_int8` turns into bytes."""
    width, heads, kv_heads = shapes.hidden_size, shapes.num_attention_heads, shapes.num_key_value_heads
    attention = width * shapes.head_dim * (2 * heads + 2 * kv_heads)
    return int(shapes.num_hidden_layers * (attention + 3 * width * shapes.intermediate_size))

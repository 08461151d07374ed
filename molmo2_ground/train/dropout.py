"""`ResidualDropout`: dropout on what a layer adds, with its own chance for the tokens that carry loss.

Stage 1 drops a tenth of what is added to response tokens and nothing of the pictures and questions: the
model must not lean on the last answer words alone. Masks come from (seed, layer, place in the layer), so a
step can be run again, or recomputed under activation checkpointing, with the same ones, whatever else draws
random numbers. Shapes: B rows, L tokens, C channels.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from molmo2_ground.train.tree import IGNORE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor, nn


def response_tokens(targets_L: Tensor, weights_L: Tensor) -> Tensor:
    """Which tokens have a next word that carries loss: bool of the same shape."""
    return (targets_L != IGNORE) & (weights_L > 0)


def token_dropout(
    added_BLC: Tensor, response_BL: Tensor, *, response_p: float, other_p: float, seed: int
) -> Tensor:
    """Set elements to zero with a chance of their token's kind; what is left grows so that the mean stays.

    Raises `ValueError` for chances outside 0 to below 1.
    """
    for p in (response_p, other_p):
        if not 0.0 <= p < 1.0:
            raise ValueError(f"a chance of dropout must be at least 0 and below 1; got {p}")
    if response_p == other_p == 0.0:
        return added_BLC
    generator = torch.Generator(added_BLC.device).manual_seed(seed)
    drawn = torch.rand(added_BLC.shape, generator=generator, device=added_BLC.device)
    keep_BL1 = torch.where(response_BL, 1.0 - response_p, 1.0 - other_p)[..., None]
    return added_BLC * ((drawn < keep_BL1) / keep_BL1).to(added_BLC.dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Step:
    response_BL: Tensor
    response_p: float
    other_p: float
    seed: int


class ResidualDropout:
    """Dropout in the decoder layers of a language model; it sleeps outside of `active`.

    layers: transformers' decoder layers of Molmo2. The attention's and the MLP's outputs are dropped from
    where they are added, behind their norms in models that have these there.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self._step: _Step | None = None
        for number, layer in enumerate(layers):
            # Typed as modules only; these are attributes of every Molmo2 decoder layer.
            parts: Any = layer
            after = bool(parts.norm_after)
            sites = (
                (parts.input_layernorm, parts.post_attention_layernorm)
                if after
                else (parts.self_attn, parts.mlp)
            )
            for place, site in enumerate(sites):
                site.register_forward_hook(self._hook(2 * number + place))

    @contextmanager
    def active(
        self, response_BL: Tensor, *, seed: int, response_p: float = 0.1, other_p: float = 0.0
    ) -> Iterator[None]:
        """Drop in every forward pass inside; layers that recompute need it then too, or `again`.

        seed: of this step, this process and this part of an accumulated batch; equal seeds drop alike.
        """
        with self._during(_Step(response_BL=response_BL, response_p=response_p, other_p=other_p, seed=seed)):
            yield

    def again(self) -> AbstractContextManager[None]:
        """A context, to be entered later, in which is dropped as now: what a layer's recomputation needs.

        So `active` may have ended, or another step have begun, when the backward pass recomputes.
        """
        return self._during(self._step)

    @contextmanager
    def _during(self, step: _Step | None) -> Iterator[None]:
        before, self._step = self._step, step
        try:
            yield
        finally:
            self._step = before

    def _hook(self, site: int) -> Any:
        def drop(module: nn.Module, given: Any, output: Any) -> Any:
            step = self._step
            if step is None:
                return output
            added = output[0] if isinstance(output, tuple) else output
            dropped = token_dropout(
                added,
                step.response_BL,
                response_p=step.response_p,
                other_p=step.other_p,
                seed=_site_seed(step.seed, site),
            )
            return (dropped, *output[1:]) if isinstance(output, tuple) else dropped

        return drop


def _site_seed(seed: int, site: int) -> int:
    # A large odd factor (2^64 over the golden ratio) keeps the sites of neighbouring seeds apart.
    return (seed * 0x9E3779B97F4A7C15 + site) % 2**63

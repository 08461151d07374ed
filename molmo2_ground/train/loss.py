"""`weighted_loss`: cross-entropy over a large vocabulary in bounded memory, in fp32, on learnt tokens only.

The logits of 16 384 tokens over 152 000 words are 10 GB in fp32, their gradient as much again. Here a few
hundred tokens at a time get their logits, their loss and, in the same pass, their gradient: nothing of the
vocabulary's width is kept for the backward pass, and nothing is computed twice.
Shapes: L tokens, M of them learnt, m of those in one chunk, C channels, V words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from molmo2_ground.train.tree import IGNORE

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_BYTES = 256 * 2**20  # fp32 logits of 440 tokens over 152 000 words


class TokenLoss(NamedTuple):
    """The loss of one batch, and what it is made of.

    loss             scalar; the one to call `backward` on.
    index_M          int64: places of the learnt tokens among the L.
    cross_entropy_M  float32, unweighted and without z-loss; for logs by task and for finding odd examples.
    """

    loss: Tensor
    index_M: Tensor
    cross_entropy_M: Tensor


def weighted_loss(
    hidden_LC: Tensor,
    table_VC: Tensor,
    targets_L: Tensor,
    weights_L: Tensor,
    *,
    weight_sum: float | Tensor,
    ranks: int = 1,
    z_loss: float = 0.0,
    chunk_bytes: int = CHUNK_BYTES,
) -> TokenLoss:
    """Sum of weight · (cross-entropy + z_loss · logsumexp²) over the learnt tokens, divided by `weight_sum`.

    hidden_LC   the language model's last states, in the dtype that the products are computed in.
    table_VC    the output table; a frozen one costs no gradient.
    targets_L   int64: the word that should follow each token, IGNORE where nothing is learnt.
    weights_L   float; tokens of weight 0 are left out like those without a target.
    weight_sum  the weights of the whole step: every row, every accumulated part, every process. So a token
                counts the same wherever it lies, and a common factor on all weights changes nothing.
    ranks       processes whose gradients are averaged afterwards; 1 where they are summed.
    z_loss      pulls the logits' normaliser to 1; 1e-4 in the paper's stages.
    chunk_bytes bound on one chunk's fp32 logits. Next to it stand a copy in the dtype of the products and,
                when the table learns, its gradient in fp32.

    A batch without a learnt token has loss 0 and gradients of zeros. One loss can go backward once.
    Raises `ValueError` for shapes that do not go together and for a weight_sum that is not positive (one
    on a GPU is taken as it is).
    """
    if not hidden_LC.shape[:-1] == targets_L.shape == weights_L.shape or hidden_LC.ndim != 2:
        raise ValueError(
            f"hidden_LC [L, C], targets_L [L] and weights_L [L] are needed; "
            f"got {tuple(hidden_LC.shape)}, {tuple(targets_L.shape)} and {tuple(weights_L.shape)}"
        )
    if not (isinstance(weight_sum, torch.Tensor) and weight_sum.is_cuda) and not weight_sum > 0:
        raise ValueError(
            f"weight_sum must be above 0; got {float(weight_sum)}. "
            "Leave out steps in which nothing is learnt."
        )
    index_M = torch.nonzero((targets_L != IGNORE) & (weights_L > 0)).squeeze(1)
    total, cross_entropy_M = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch leaves it so
        hidden_LC[index_M],
        table_VC,
        targets_L[index_M],
        weights_L[index_M].float(),
        z_loss,
        max(1, chunk_bytes // (4 * table_VC.shape[0])),
        torch.is_grad_enabled(),
    )
    return TokenLoss(total * ranks / weight_sum, index_M, cross_entropy_M)


class _ChunkedCrossEntropy(Function):
    """(sum of weight · (cross-entropy + z · lse²), cross-entropy of each token).

    The forward pass also makes the gradients of the sum; the backward pass scales them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_MC: Tensor,
        table_VC: Tensor,
        targets_M: Tensor,
        weights_M: Tensor,
        z_loss: float,
        chunk: int,
        learn: bool,
    ) -> tuple[Tensor, Tensor]:
        rows = table_VC.detach().to(hidden_MC.dtype)
        grad_hidden = torch.zeros_like(hidden_MC) if learn and ctx.needs_input_grad[0] else None
        # fp32: hundreds of small products are added up here, and bf16 would lose most of them.
        grad_table = (
            torch.zeros_like(table_VC, dtype=torch.float32) if learn and ctx.needs_input_grad[1] else None
        )
        cross_entropy_M = torch.empty_like(weights_M)
        total = torch.zeros((), dtype=torch.float32, device=hidden_MC.device)
        # Mixed precision is the caller's choice of hidden's dtype; autocast would make it a second time.
        with torch.autocast(hidden_MC.device.type, enabled=False):
            for start in range(0, len(hidden_MC), chunk):
                part = slice(start, start + chunk)
                hidden, weights = hidden_MC[part], weights_M[part]
                scores_mV = F.linear(hidden, rows).float()
                cross_entropy, lse = _normalise(scores_mV, targets_M[part])
                cross_entropy_M[part] = cross_entropy
                total += (weights * (cross_entropy + z_loss * lse.square())).sum()
                if grad_hidden is None and grad_table is None:
                    continue
                # d lse / d logits is the probabilities, so z-loss only scales them.
                slope_mV = scores_mV.mul_((weights * (1 + 2 * z_loss * lse))[:, None])
                slope_mV[torch.arange(len(weights), device=weights.device), targets_M[part]] -= weights
                slope_mV = slope_mV.to(hidden.dtype)
                if grad_hidden is not None:
                    grad_hidden[part] = slope_mV @ rows
                if grad_table is not None:
                    grad_table += slope_mV.T @ hidden
        ctx.save_for_backward(grad_hidden, grad_table)
        ctx.table_dtype = table_VC.dtype
        ctx.mark_non_differentiable(cross_entropy_M)
        return total, cross_entropy_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_table = ctx.saved_tensors
        # In place: a second copy would be gigabytes. Autograd notices, and refuses a second backward pass.
        if grad_hidden is not None:
            grad_hidden.mul_(grad_total)
        if grad_table is not None:
            grad_table = grad_table.mul_(grad_total).to(ctx.table_dtype)
        return grad_hidden, grad_table, None, None, None, None, None


def _normalise(logits_mV: Tensor, targets_m: Tensor) -> tuple[Tensor, Tensor]:
    """(cross-entropy, logsumexp) of each row; the logits become probabilities, in place."""
    wanted_m = logits_mV.gather(1, targets_m[:, None]).squeeze(1)
    highest_m = logits_mV.amax(1)
    sums_m = logits_mV.sub_(highest_m[:, None]).exp_().sum(1)
    logits_mV.div_(sums_m[:, None])
    lse_m = highest_m + sums_m.log()
    return lse_m - wanted_m, lse_m

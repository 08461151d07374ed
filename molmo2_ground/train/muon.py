"""`Muon`: momentum whose matrix updates are made orthogonal, AdamW for everything else.

Source of the method: K. Jordan and others, "Muon: an optimizer for hidden layers in neural networks" (2024);
quintic Newton-Schulz iteration with the coefficients given there. Matrices of one shape are stacked, so a
small model costs a handful of batched products a step instead of one call a matrix. Parameters may be bf16:
the optimizer keeps fp32 masters and writes rounded copies.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch

from molmo2_ground.train.on_device import fast_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.nn import Parameter

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration, from the source above


def orthogonalise(matrix_NRC: Tensor, *, steps: int = 5) -> Tensor:
    """Push all singular values of each matrix towards 1 (they end between about 0.7 and 1.2)."""
    a, b, c = NEWTON_SCHULZ
    x = matrix_NRC.to(fast_dtype(matrix_NRC.device))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(-1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    found: Tensor = x.transpose(-1, -2) if tall else x
    return found


class Muon:
    """One optimizer for a whole model.

    matrices: parameters of two dimensions that are multiplied, updated by Muon.
    others:   embeddings, norms, biases, tables: AdamW (betas 0.9, 0.95, eps 1e-8, no decay).
    updates:  how many were made; a restored one is set to it.
    """

    def __init__(
        self,
        matrices: Iterable[Parameter],
        others: Iterable[Parameter],
        *,
        matrix_lr: float,
        other_lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        self.matrix_lr, self.other_lr = matrix_lr, other_lr
        self.momentum, self.weight_decay = momentum, weight_decay
        by_shape: dict[tuple[int, ...], list[Parameter]] = defaultdict(list)
        for parameter in matrices:
            by_shape[tuple(parameter.shape)].append(parameter)
        self._stacks = [
            (
                group,
                torch.stack([p.detach().float() for p in group]),
                torch.zeros(len(group), *shape, device=group[0].device),
            )
            for shape, group in by_shape.items()
        ]
        self._others: list[Tensor] = list(others)
        self._masters = [p.detach().float().clone() for p in self._others]
        self._means = [torch.zeros_like(master) for master in self._masters]
        self._squares = [torch.zeros_like(master) for master in self._masters]
        self.updates = 0

    @property
    def parameters(self) -> list[Tensor]:
        """Every parameter that this optimizer updates."""
        return [*(p for group, _, _ in self._stacks for p in group), *self._others]

    def tensors(self) -> dict[str, Tensor]:
        """All that it remembers but `updates`, without copies; names count stacks and parameters."""
        found = {}
        for number, (_, master_NRC, velocity_NRC) in enumerate(self._stacks):
            found[f"matrices.{number}.master"] = master_NRC
            found[f"matrices.{number}.velocity"] = velocity_NRC
        for number, state in enumerate(zip(self._masters, self._means, self._squares, strict=True)):
            for name, tensor in zip(("master", "mean", "square"), state, strict=True):
                found[f"others.{number}.{name}"] = tensor
        return found

    @torch.no_grad()
    def step(self, *, scale: float, clip_norm: float = 1.0) -> Tensor:
        """One update with both learning rates times `scale`; gradients are consumed.

        clip_norm bounds the joint norm of the AdamW part's gradient; Muon's update has a fixed size anyway.
        Gives the norm of all gradients together, before clipping.
        """
        norms = []
        self.updates += 1
        for group, master_NRC, velocity_NRC in self._stacks:
            grad_NRC = torch.stack([_gradient(p) for p in group])
            norms.append(torch.linalg.vector_norm(grad_NRC))
            velocity_NRC.lerp_(grad_NRC, 1 - self.momentum)
            update_NRC = orthogonalise(torch.lerp(grad_NRC, velocity_NRC, self.momentum)).float()
            rows, columns = update_NRC.shape[-2:]
            size = max(1.0, rows / columns) ** 0.5
            master_NRC.mul_(1 - self.matrix_lr * scale * self.weight_decay)
            master_NRC.add_(update_NRC, alpha=-self.matrix_lr * scale * size)
            for parameter, master in zip(group, master_NRC, strict=True):
                parameter.copy_(master)
        if self._others:
            norms.append(self._step_others(scale, clip_norm))
        total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return total

    def _step_others(self, scale: float, clip_norm: float) -> Tensor:
        grads = [_gradient(p) for p in self._others]
        # All on the device and a handful of calls: a small model's step is mostly the price of calling.
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        torch._foreach_mul_(grads, (clip_norm / (norm + 1e-6)).clamp(max=1.0))
        beta1, beta2 = 0.9, 0.95
        torch._foreach_lerp_(self._means, grads, 1 - beta1)
        torch._foreach_mul_(self._squares, beta2)
        torch._foreach_addcmul_(self._squares, grads, grads, value=1 - beta2)
        denominators = torch._foreach_div(self._squares, 1 - beta2**self.updates)
        torch._foreach_sqrt_(denominators)
        torch._foreach_add_(denominators, 1e-8)
        rate = self.other_lr * scale / (1 - beta1**self.updates)
        torch._foreach_addcdiv_(self._masters, self._means, denominators, value=-rate)
        torch._foreach_copy_(self._others, self._masters)
        return norm


def _gradient(parameter: Tensor) -> Tensor:
    grad = parameter.grad
    parameter.grad = None
    return torch.zeros_like(parameter, dtype=torch.float32) if grad is None else grad.float()

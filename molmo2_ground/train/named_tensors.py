"""Tensors by name: what a model holds, and copying saved ones into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from molmo2_ground.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights and buffers, without copies; one that has two names is there once."""
    found: dict[str, Tensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        found[name] = tensor
    return found


@torch.no_grad()
def copy_tensors(tensors: Mapping[str, Tensor], *, into: Mapping[str, Tensor], what: str) -> None:
    """Copy values by name. `TrainingError`, and nothing changed: names, shapes or dtypes are not the same."""
    odd = sorted(tensors.keys() ^ into.keys())
    if odd:
        side = "is missing" if odd[0] in into else "has no place here"
        raise TrainingError(
            f"the saved {what} is of another model: expected {len(into)} tensors, got {len(tensors)}, "
            f"and {odd[0]} {side}; go on with the model it was saved with, or start in another folder"
        )
    for name, target in into.items():
        if tensors[name].shape != target.shape or tensors[name].dtype != target.dtype:
            raise TrainingError(
                f"the saved {what} is of another model: expected {name} as {_words(target)}, got "
                f"{_words(tensors[name])}; go on with the model it was saved with, or start in another folder"
            )
    for name, target in into.items():
        target.copy_(tensors[name])


def _words(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"

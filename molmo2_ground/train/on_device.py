"""`on_device`: a batch of numpy arrays as tensors, there where the model is, and how a device computes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

BatchT = TypeVar("BatchT")


def tensors(batch: BatchT) -> BatchT:
    """The batch with every numpy array, in it or in a dataclass of it, as a tensor of the same memory.

    Data workers hand tensors over in shared memory; arrays would be copied through a pipe.
    """
    return cast("BatchT", _mapped(batch, torch.from_numpy))


def on_device(batch: BatchT, device: torch.device) -> BatchT:
    """The batch with every array and tensor on `device`."""

    def move(value: Tensor) -> Tensor:
        return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)

    return cast("BatchT", _mapped(tensors(batch), move, of=torch.Tensor))


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """bf16 where the device computes in it; on CPUs that only imitate it, fp32 is ten times faster."""
    native = torch.device(device).type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _mapped(value: Any, change: Any, *, of: type = np.ndarray) -> Any:
    if isinstance(value, of):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        changed = {name: _mapped(part, change, of=of) for name, part in fields.items()}
        return dataclasses.replace(cast("Any", value), **changed)
    return value

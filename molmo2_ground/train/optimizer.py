"""`Optimizer`: what updates a model in a training run; `PartAdamW` as the recipe does it, `MuonOptimizer`.

All that an optimizer remembers are named tensors, and the number of the last update. Nothing in a step waits
for the device: norms stay on it as tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn.utils import clip_grad_norm_

from molmo2_ground.train.named_tensors import copy_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from molmo2_ground.train.feed import Json
    from molmo2_ground.train.muon import Muon
    from molmo2_ground.train.parts import Piece
    from molmo2_ground.train.schedule import Schedule


class Optimizer(Protocol):
    """One update at a time, numbered from 1."""

    def step(self, step: int) -> dict[str, Tensor]:
        """Update by the gradients, which are consumed; gives the norm of each group's before clipping."""
        ...

    def rates(self, step: int) -> dict[str, float]:
        """The learning rate of each group at an update."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that it remembers, without copies."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], *, step: int) -> None:
        """Go on after update `step`. `TrainingError`: the tensors are those of another optimizer."""
        ...

    def describe(self) -> dict[str, Json]:
        """All settings, for the identity of a run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdamGroup:
    """Pieces with one peak rate, one schedule and one bound on the norm of their joint gradient."""

    name: str
    pieces: Sequence[Piece]
    peak_rate: float
    schedule: Schedule

    def __post_init__(self) -> None:
        if not self.pieces:
            raise ValueError(f"group {self.name} trains nothing; leave it out")


class PartAdamW:
    """AdamW of torch on fp32 masters, with a rate and a clipped norm for each group.

    A parameter in fp32 is its own master, as under autocast. Of bf16 parameters and of rows of tables masters
    are kept here, and rounded copies are written back after each update. A parameter that the backward pass
    did not reach counts as one with a gradient of zeros: its momentum goes on.

    Defaults are the paper's: betas 0.9 and 0.95, eps 1e-6, no weight decay, norms up to 1.
    """

    def __init__(
        self,
        groups: Sequence[AdamGroup],
        *,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        clip_norm: float = 1.0,
    ) -> None:
        self.groups = tuple(groups)
        self.betas, self.eps, self.weight_decay, self.clip_norm = betas, eps, weight_decay, clip_norm
        self._masters = [[_master(piece) for piece in group.pieces] for group in self.groups]
        on_gpu = all(master.is_cuda for masters in self._masters for master in masters)
        self._fused = on_gpu  # the other implementations on a GPU need memory for a second set of weights
        self._adam = torch.optim.AdamW(
            [{"params": masters, "lr": 0.0} for masters in self._masters],
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            fused=self._fused,
        )
        for _, master in self._pairs():
            self._adam.state[master] = {
                "step": torch.zeros((), device=master.device if self._fused else "cpu"),
                "exp_avg": torch.zeros_like(master),
                "exp_avg_sq": torch.zeros_like(master),
            }

    def step(self, step: int) -> dict[str, Tensor]:
        """One update; see `Optimizer`."""
        norms = {}
        for group, masters, settings in zip(self.groups, self._masters, self._adam.param_groups, strict=True):
            for piece, master in zip(group.pieces, masters, strict=True):
                gradient = piece.gradient
                master.grad = torch.zeros_like(master) if gradient is None else gradient.to(master.dtype)
            norms[group.name] = clip_grad_norm_(masters, self.clip_norm)
            settings["lr"] = group.peak_rate * group.schedule.at(step)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            for piece, master in self._pairs():
                piece.parameter.grad = None
                if master is not piece.parameter:
                    piece.value.copy_(master)
        return norms

    def rates(self, step: int) -> dict[str, float]:
        """The learning rate of each group at an update."""
        return {group.name: group.peak_rate * group.schedule.at(step) for group in self.groups}

    def tensors(self) -> dict[str, Tensor]:
        """Both moments of every piece, and masters that are not in the model."""
        found = {}
        for piece, master in self._pairs():
            state = self._adam.state[master]
            found[f"{piece.name}.mean"] = state["exp_avg"]
            found[f"{piece.name}.square"] = state["exp_avg_sq"]
            if master is not piece.parameter:
                found[f"{piece.name}.master"] = master.detach()
        return found

    def restore(self, tensors: Mapping[str, Tensor], *, step: int) -> None:
        """Go on after update `step`; see `Optimizer`."""
        copy_tensors(tensors, into=self.tensors(), what="optimizer")
        for _, master in self._pairs():
            self._adam.state[master]["step"].fill_(step)

    def describe(self) -> dict[str, Json]:
        """All settings, for the identity of a run."""
        return {
            "kind": "adamw",
            "betas": list(self.betas),
            "eps": self.eps,
            "weight_decay": self.weight_decay,
            "clip_norm": self.clip_norm,
            "groups": {
                group.name: {
                    "peak_rate": group.peak_rate,
                    "schedule": group.schedule.describe(),
                    "numbers": sum(piece.value.numel() for piece in group.pieces),
                }
                for group in self.groups
            },
        }

    def _pairs(self) -> Iterator[tuple[Piece, Tensor]]:
        for group, masters in zip(self.groups, self._masters, strict=True):
            yield from zip(group.pieces, masters, strict=True)


class MuonOptimizer:
    """One or several `Muon` under one schedule: the optimizer of the tiny recipe."""

    def __init__(self, groups: Mapping[str, Muon], schedule: Schedule) -> None:
        self.groups, self.schedule = dict(groups), schedule

    def step(self, step: int) -> dict[str, Tensor]:
        """One update; see `Optimizer`."""
        scale = self.schedule.at(step)
        return {name: muon.step(scale=scale) for name, muon in self.groups.items()}

    def rates(self, step: int) -> dict[str, float]:
        """The learning rate of each group's matrices at an update."""
        return {name: muon.matrix_lr * self.schedule.at(step) for name, muon in self.groups.items()}

    def tensors(self) -> dict[str, Tensor]:
        """All that the groups remember."""
        return {
            f"{name}.{key}": tensor
            for name, muon in self.groups.items()
            for key, tensor in muon.tensors().items()
        }

    def restore(self, tensors: Mapping[str, Tensor], *, step: int) -> None:
        """Go on after update `step`; see `Optimizer`."""
        copy_tensors(tensors, into=self.tensors(), what="optimizer")
        for muon in self.groups.values():
            muon.updates = step

    def describe(self) -> dict[str, Json]:
        """All settings, for the identity of a run."""
        return {
            "kind": "muon",
            "schedule": self.schedule.describe(),
            "groups": {
                name: {
                    "matrix_lr": muon.matrix_lr,
                    "other_lr": muon.other_lr,
                    "momentum": muon.momentum,
                    "weight_decay": muon.weight_decay,
                    "numbers": sum(parameter.numel() for parameter in muon.parameters),
                }
                for name, muon in self.groups.items()
            },
        }


def _master(piece: Piece) -> Tensor:
    if piece.rows is None and piece.parameter.dtype == torch.float32:
        return piece.parameter
    return piece.value.to(torch.float32, copy=True).requires_grad_()

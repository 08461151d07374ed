"""Which of the masks that a first click allows is taken: a part of the thing, or the whole of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch

Policy = Literal["best", "part", "whole"]

# SAM predicts how well each of its masks fits. One that is predicted to fit less than this share of the best
# is a guess that a smaller or larger area does not make right. Ours; tests/unit/masks/test_mask_policy.py.
PLAUSIBLE_SHARE = 0.75


def preferred(scores: torch.Tensor, masks: torch.Tensor, *, policy: Policy, x: float, y: float) -> int:
    """Which mask is taken, by number.

    scores float[M], the fit that the network predicts for each mask; masks float[M, h, w], above 0 on the
    object; x, y: the click, as shares of the picture's width and height. `best` is the highest score, as
    SAM takes it. `part` and `whole` are the smallest and the largest area among the plausible: those that
    hold the click and whose score is `PLAUSIBLE_SHARE` of the best or more. When none is, the best is taken.
    """
    best = int(scores.argmax())
    if policy == "best":
        return best
    height, width = masks.shape[-2:]
    row, column = min(int(y * height), height - 1), min(int(x * width), width - 1)
    inside = masks > 0
    plausible = inside[:, row, column] & (scores >= PLAUSIBLE_SHARE * scores[best])
    numbers = [number for number, fits in enumerate(plausible.tolist()) if fits]
    if not numbers:
        return best
    areas = inside.flatten(1).sum(-1).tolist()
    smallest_or_largest = min if policy == "part" else max
    return smallest_or_largest(numbers, key=lambda number: areas[number])


class MaskChoice:
    """A policy that hangs on a network's mask decoder and speaks at first clicks alone.

    The network takes the mask of the highest predicted fit and makes the object's memory of it; the decoder's
    answer is changed so that the mask the policy wants has the highest.
    """

    def __init__(self, policy: Policy) -> None:
        if policy not in get_args(Policy):
            raise ValueError(f"policy is one of {', '.join(get_args(Policy))}; got {policy!r}")
        self.policy: Policy = policy
        self._click = threading.local()  # walks of one network may run in several threads

    def attach(self, mask_decoder: torch.nn.Module) -> None:
        """Listen to this decoder, which answers with masks [..., M, h, w], scores [..., M] and more."""
        if self.policy != "best":
            mask_decoder.register_forward_hook(self._decoded)

    @contextmanager
    def at(self, *, x: float, y: float) -> Iterator[None]:
        """Inside, the decoder is asked for the mask of a first click here, in shares of the picture."""
        self._click.at = (x, y)
        try:
            yield
        finally:
            del self._click.at

    def _decoded(self, _decoder: torch.nn.Module, _inputs: Any, output: tuple[Any, ...]) -> Any:
        click = getattr(self._click, "at", None)
        if click is None:
            return None
        masks, scores, *rest = output
        if scores.shape[-1] > 1:
            one_score, one_masks = scores.flatten(0, -2)[0], masks.flatten(0, -4)[0]
            taken = preferred(one_score, one_masks, policy=self.policy, x=click[0], y=click[1])
            scores = torch.zeros_like(scores)
            scores[..., taken] = 1.0
        return (masks, scores, *rest)

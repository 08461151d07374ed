"""`branch_weight`: how much each learnt token of a branch counts in the loss."""

from __future__ import annotations

import math
from typing import Literal, get_args

BranchKind = Literal["answer", "video_caption", "pointing", "tracking"]
WeightRule = Literal["paper", "released", "even"]

# Captions and lists of points run to thousands of tokens; a flat share keeps them from being the whole loss
# (Molmo2 paper, section 3.2). Tracking and pointing share one number.
FIXED_WEIGHTS = {"video_caption": 0.1, "pointing": 0.2, "tracking": 0.2}


def branch_weight(
    n_tokens: int, *, kind: BranchKind = "answer", rule: WeightRule = "paper", n_branches: int = 1
) -> float:
    """Give the weight of each of a branch's `n_tokens` learnt tokens.

    n_tokens    every token of the branch that carries loss: all its answers, and the end of each of them,
                the last one included. A branch of kind `answer` so weighs 4 √n as a whole.
    kind        captions of videos weigh 0.1 a token, pointing (counting by points too) and tracking 0.2,
                whatever their length; every other answer weighs by its length.
    rule        `paper`: 4 / √n. `released`: 2 / √n · 1 / √n_branches, the published training code's. It does
                not count a branch's last end in n when the tree has several branches; here n is one thing.
                `even`: 1 for every token of every kind, as the first stage trains.
    n_branches  branches of the tree that are trained on; only `released` asks for it.

    Raises `ValueError` for numbers below 1 and unknown names.
    """
    if n_tokens < 1 or n_branches < 1:
        raise ValueError(
            f"n_tokens and n_branches must be 1 or more; got {n_tokens} and {n_branches}. "
            "Even an empty answer has its end to learn."
        )
    if kind not in get_args(BranchKind):
        raise ValueError(f"kind must be one of {get_args(BranchKind)}; got {kind!r}")
    if rule not in get_args(WeightRule):
        raise ValueError(f"rule must be one of {get_args(WeightRule)}; got {rule!r}")
    if rule == "even":
        return 1.0
    if kind != "answer":
        return FIXED_WEIGHTS[kind]
    if rule == "released":
        return 2.0 / math.sqrt(n_tokens) / math.sqrt(n_branches)
    return 4.0 / math.sqrt(n_tokens)

"""Who may look at whom in the language model: one rule for inference and for training.

Shapes: L tokens, Q of them ask (those from `query_start` on). Leading dimensions (a
batch) are carried along.
"""

from __future__ import annotations

import torch


def attention_rule(
    visual_L: torch.Tensor,
    *,
    valid_L: torch.Tensor | None = None,
    tree_ids_L: torch.Tensor | None = None,
    branch_ids_L: torch.Tensor | None = None,
    query_start: int = 0,
) -> torch.Tensor:
    """Say for every asking token which tokens it may look at.

    A token sees itself and what came before it; tokens of pictures (patches and the words around them) see
    every other such token too, over all frames and images, also later ones. Text between frames sees only
    what came before.

    visual_L      bool[..., L]: the token belongs to a picture.
    valid_L       bool[..., L]: false for padding, which nobody sees.
    tree_ids_L    int[..., L]: packed samples; nobody sees another tree.
    branch_ids_L  int[..., L]: 0 is the part shared by all branches of a tree, other numbers are branches
                  (one question each), which see the shared part and themselves.
    query_start   the first token that asks: rows query_start..L-1 of the full rule.

    Returns bool[..., L - query_start, L], true where the row's token may look.
    """
    length = visual_L.shape[-1]
    position = torch.arange(length, device=visual_L.device)
    allowed = position[None, :] <= position[query_start:, None]
    visual = visual_L.bool()
    allowed = allowed | (visual[..., query_start:, None] & visual[..., None, :])
    if tree_ids_L is not None:
        allowed = allowed & (tree_ids_L[..., query_start:, None] == tree_ids_L[..., None, :])
    if branch_ids_L is not None:
        shared = (branch_ids_L == 0)[..., None, :]
        allowed = allowed & (shared | (branch_ids_L[..., query_start:, None] == branch_ids_L[..., None, :]))
    if valid_L is not None:
        allowed = allowed & valid_L.bool()[..., None, :]
    return allowed

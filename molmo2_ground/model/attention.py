"""Who may look at whom in the language model: one rule for inference and for training.

Shapes: L tokens, Q of them ask. Leading dimensions (a batch) are carried along.
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
    query_stop: int | None = None,
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
    query_start, query_stop  only these rows of the full rule; by default all of them.

    Returns bool[..., query_stop - query_start, L], true where the row's token may look.
    """
    rows = slice(query_start, query_stop)
    length = visual_L.shape[-1]
    position = torch.arange(length, device=visual_L.device)
    allowed = position[None, :] <= position[rows, None]
    visual = visual_L.bool()
    allowed = allowed | (visual[..., rows, None] & visual[..., None, :])
    if tree_ids_L is not None:
        allowed = allowed & (tree_ids_L[..., rows, None] == tree_ids_L[..., None, :])
    if branch_ids_L is not None:
        shared = (branch_ids_L == 0)[..., None, :]
        allowed = allowed & (shared | (branch_ids_L[..., rows, None] == branch_ids_L[..., None, :]))
    if valid_L is not None:
        allowed = allowed & valid_L.bool()[..., None, :]
    return allowed

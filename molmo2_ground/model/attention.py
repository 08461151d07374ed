"""Who may look at whom in the language model: one rule for inference and for training.

`may_look` is the rule between two tokens; `attention_rule` writes it out as a dense mask, and training turns
the same function into a block mask for a GPU. Shapes: L tokens, Q of them ask. Leading dimensions (a batch)
are carried along.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Tokens(NamedTuple):
    """What the rule asks of a token, for one or many: tensors of one shape.

    place is where the token stands in its row (not its position id); the rest is as in `attention_rule`.
    """

    place: torch.Tensor
    visual: torch.Tensor
    valid: torch.Tensor | None = None
    tree: torch.Tensor | None = None
    branch: torch.Tensor | None = None


def may_look(query: Tokens, key: Tokens) -> torch.Tensor:
    """The rule itself: may the asking token look at the other? Shapes of the two are broadcast."""
    allowed = key.place <= query.place
    allowed = allowed | (query.visual & key.visual)
    if query.tree is not None and key.tree is not None:
        allowed = allowed & (query.tree == key.tree)
    if query.branch is not None and key.branch is not None:
        allowed = allowed & ((key.branch == 0) | (query.branch == key.branch))
    if key.valid is not None:
        allowed = allowed & key.valid
    return allowed


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
    visual = visual_L.bool()
    tokens = Tokens(
        place=torch.arange(visual.shape[-1], device=visual.device),
        visual=visual,
        valid=None if valid_L is None else valid_L.bool(),
        tree=tree_ids_L,
        branch=branch_ids_L,
    )
    return may_look(
        Tokens._make(None if part is None else part[..., rows, None] for part in tokens),
        Tokens._make(None if part is None else part[..., None, :] for part in tokens),
    )

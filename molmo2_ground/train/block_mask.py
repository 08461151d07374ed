"""The attention rule as a FlexAttention block mask: made of `may_look`, the function that inference runs.

A dense mask of 16 384 tokens is 268 MB, one of 36 864 1.4 GB; a block mask keeps four small tables of which
blocks of 128 x 128 to compute, and the blocks that nobody may look into cost nothing.
Shapes: B rows, L tokens a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.attention.flex_attention import BlockMask

from molmo2_ground.model.attention import Tokens, attention_rule, may_look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from molmo2_ground.train.tree import FlatPack

    MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

BLOCK = 128
STRIP_ENTRIES = 2**24  # pairs that are looked at together: 16 MiB for each temporary


def row_tokens(
    packs: Sequence[FlatPack], *, bidirectional: bool = True, device: torch.device | str = "cpu"
) -> Tokens:
    """What the rule asks of every token of several packs of one length; each member is [B, L].

    bidirectional: False hides from the rule which tokens belong to pictures, so that every token sees only
    what came before it.
    """
    lengths = {len(pack) for pack in packs}
    if len(lengths) != 1:
        raise ValueError(f"rows of one length are needed; got lengths {sorted(lengths)}. Pad them alike.")

    def rows(name: str) -> Tensor:
        return torch.stack([torch.from_numpy(getattr(pack, name)) for pack in packs]).to(device)

    visual_BL = rows("visual")
    return Tokens(
        place=torch.arange(visual_BL.shape[1], device=device).expand(visual_BL.shape),
        visual=visual_BL if bidirectional else torch.zeros_like(visual_BL),
        valid=rows("valid"),
        tree=rows("tree_ids"),
        branch=rows("branch_ids"),
    )


def dense_mask(tokens: Tokens) -> Tensor:
    """bool[B, 1, L, L] for scaled dot product attention, where a block mask cannot run: CPU, small rows.

    A padding token may look at itself: a softmax over nothing is not a number.
    """
    allowed_BLL = attention_rule(
        tokens.visual, valid_L=tokens.valid, tree_ids_L=tokens.tree, branch_ids_L=tokens.branch
    )
    eye_LL = torch.eye(allowed_BLL.shape[-1], dtype=torch.bool, device=allowed_BLL.device)
    if tokens.valid is not None:
        allowed_BLL = allowed_BLL | (eye_LL & ~tokens.valid[..., None, :])
    return allowed_BLL[:, None]


def mask_mod(tokens: Tokens) -> MaskMod:
    """The rule in the form that FlexAttention evaluates: (row, head, query's place, key's place) -> bool.

    The tokens' tensors are captured, not copied: new values in place need no new compilation.
    """

    def rule(row: Tensor, head: Tensor, query_place: Tensor, key_place: Tensor) -> Tensor:
        def at(place: Tensor) -> Tokens:
            return Tokens._make(None if part is None else part[row, place] for part in tokens)

        return may_look(at(query_place), at(key_place))

    return rule


def build_block_mask(tokens: Tokens, *, block_size: int = BLOCK) -> BlockMask:
    """The block mask of a batch of rows, the same for every head.

    The tables are those of torch's `create_block_mask`, which holds all L x L answers at once, several times
    over, unless it is compiled: 2.6 GB and 10 s for one row of 16 384 on a CPU. Here the rule is asked for a
    strip of blocks at a time.
    """
    n_rows, length = tokens.place.shape
    n_blocks = -(-length // block_size)
    any_BQK = torch.empty(n_rows, n_blocks, n_blocks, dtype=torch.bool, device=tokens.place.device)
    all_BQK = torch.empty_like(any_BQK)
    at_once = max(1, STRIP_ENTRIES // (n_rows * length * block_size))
    for first in range(0, n_blocks, at_once):
        strip = slice(first, first + at_once)
        blocks = _strip(tokens, first * block_size, min((first + at_once) * block_size, length), block_size)
        any_BQK[:, strip] = blocks.any(4).any(2)
        all_BQK[:, strip] = blocks.all(4).all(2)
    return BlockMask.from_kv_blocks(
        *_table(any_BQK & ~all_BQK),
        *_table(all_BQK),
        block_size,
        mask_mod(tokens),
        seq_lengths=(length, length),
    )


def _strip(tokens: Tokens, start: int, stop: int, size: int) -> Tensor:
    """The rule for the asking tokens start..stop: bool[B, their blocks, size, all blocks, size]."""
    allowed_BQL = attention_rule(
        tokens.visual,
        valid_L=tokens.valid,
        tree_ids_L=tokens.tree,
        branch_ids_L=tokens.branch,
        query_start=start,
        query_stop=stop,
    )
    n_rows, rows, length = allowed_BQL.shape
    padded = torch.nn.functional.pad(allowed_BQL, (0, -length % size, 0, -rows % size))
    return padded.reshape(n_rows, -(-rows // size), size, -1, size)


def _table(blocks_BQK: Tensor) -> tuple[Tensor, Tensor]:
    """(int32[B, 1, Q] how many, int32[B, 1, Q, K] which, those first and in order) of true blocks."""
    which = torch.argsort(blocks_BQK.to(torch.int8), dim=-1, descending=True, stable=True)
    return blocks_BQK.sum(-1, dtype=torch.int32)[:, None], which.to(torch.int32)[:, None].contiguous()

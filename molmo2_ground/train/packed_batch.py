"""`PackedBatch`: rows of packed examples with their pictures, as one step of training takes them.

    batch = pack_batch([[one, other], [third]], shape=BatchShape(), pad_id=codec.eos_id)
    unpack(batch)                      the same examples again, for checks

Shapes: B rows, L tokens a row; C crops or frames, N patches of each, P bytes of a patch; T patch tokens, K
patches of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from molmo2_ground.train.block_mask import BLOCK
from molmo2_ground.train.example import PreparedExample
from molmo2_ground.train.tree import FlatTree, pack_trees

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molmo2_ground.train.mixture import ExampleKey
    from molmo2_ground.train.packer import PackLimits
    from molmo2_ground.train.tree import FlatPack


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """To which sizes batches are filled up, so that a compiled model meets few of them.

    row_tokens       every row has so many tokens; None: as many as the batch's longest, rounded up.
    token_multiple   rows are rounded up to a multiple of this; 128 is a block of the block mask.
    crop_buckets     rising; a batch's crops are filled up to the first that holds them, more than the last
                     to a multiple of it. Empty: not filled up.
    always_pictures  a batch of text alone gets the crops of the first bucket all the same, or one crop: where
                     several processes share a vision tower, all must run it.
    """

    row_tokens: int | None = None
    token_multiple: int = BLOCK
    crop_buckets: tuple[int, ...] = ()
    always_pictures: bool = False

    def __post_init__(self) -> None:
        buckets = self.crop_buckets
        if list(buckets) != sorted(set(buckets)) or (buckets and buckets[0] < 1):
            raise ValueError(f"crop_buckets must rise from 1 or more; got {buckets}")
        if self.token_multiple < 1 or (self.row_tokens is not None and self.row_tokens < 1):
            raise ValueError(
                "row_tokens and token_multiple must be 1 or more; got "
                f"{self.row_tokens} and {self.token_multiple}"
            )

    @classmethod
    def of(cls, limits: PackLimits, *, rows: int = 1, always_pictures: bool = False) -> BatchShape:
        """Full rows, and an eighth, a quarter, a half or all of the crops that `rows` packs may hold."""
        most = limits.max_crops * rows
        buckets = {max(1, most // part) for part in (8, 4, 2, 1)} if most else set()
        return cls(
            row_tokens=limits.max_tokens, crop_buckets=tuple(sorted(buckets)), always_pictures=always_pictures
        )

    def length(self, longest: int) -> int:
        """Tokens of each row of a batch whose longest has so many."""
        wanted = longest if self.row_tokens is None else self.row_tokens
        return -(-wanted // self.token_multiple) * self.token_multiple

    def crops(self, used: int) -> int:
        """Crops of a batch that uses so many."""
        if used == 0:
            return (self.crop_buckets[0] if self.crop_buckets else 1) if self.always_pictures else 0
        if not self.crop_buckets:
            return used
        last = self.crop_buckets[-1]
        return next((b for b in self.crop_buckets if b >= used), -(-used // last) * last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where one example lies in a batch: in which row, and from where on its tokens, crops, patch tokens.

    pooling_width  patches of a patch token before rows of another width came beside it.
    dropped        branches that were left out of its tree.
    """

    key: ExampleKey
    row: int
    first_token: int
    tokens: int
    first_crop: int
    crops: int
    first_feature: int
    features: int
    pooling_width: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedBatch:
    """Rows of one length, and the pictures of all of them.

    rows         in each, trees one behind the other, then padding.
    patches_CNP  uint8: all examples' crops in order, then crops of zeros that nothing points to.
    pooling_TK   int64: patches of each patch token, counted over all C crops; -1 is padding.
    places_T     int64: the token that each of them is, counted over all rows, B x L.
    placed       every example in order.
    """

    rows: tuple[FlatPack, ...]
    patches_CNP: torch.Tensor
    pooling_TK: torch.Tensor
    places_T: torch.Tensor
    placed: tuple[Placed, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The examples' keys as words, in order."""
        return tuple(str(one.key) for one in self.placed)

    @property
    def weight_sum(self) -> float:
        """Sum of the weights of all learnt tokens: this batch's part of what a step's loss is divided by."""
        return sum(row.weight_sum for row in self.rows)

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return sum(one.tokens for one in self.placed)

    @property
    def crops(self) -> int:
        """Crops that are not padding."""
        return sum(one.crops for one in self.placed)

    @property
    def fill(self) -> float:
        """Share of the rows' tokens that are not padding."""
        return self.tokens / sum(len(row) for row in self.rows)


def pack_batch(rows: Sequence[Sequence[PreparedExample]], *, shape: BatchShape, pad_id: int) -> PackedBatch:
    """Put examples into rows, in the given order.

    pad_id: any word of the vocabulary; nobody sees it. Raises `ValueError` when a row is too long for the
    shape, or there is no row or an empty one.
    """
    if not rows or not all(rows):
        raise ValueError(f"expected rows of one example or more each; got {[len(row) for row in rows]}")
    length = shape.length(max(sum(one.tokens for one in row) for row in rows))
    packs = tuple(pack_trees([one.tree for one in row], pad_id=pad_id, length=length) for row in rows)
    placed = _places(rows)
    examples = [one for row in rows for one in row]
    width = max(one.pooling_TK.shape[1] for one in examples)
    pooling, places = [], []
    for one, where in zip(examples, placed, strict=True):
        first_patch = where.first_crop * one.patches_CNP.shape[1]
        shifted = torch.where(one.pooling_TK >= 0, one.pooling_TK + first_patch, one.pooling_TK)
        pooling.append(torch.nn.functional.pad(shifted, (0, width - shifted.shape[1]), value=-1))
        places.append(one.places_T + (where.row * length + where.first_token))
    return PackedBatch(
        rows=packs,
        patches_CNP=_all_patches(examples, shape),
        pooling_TK=torch.cat(pooling),
        places_T=torch.from_numpy(np.concatenate(places)),
        placed=placed,
    )


def _places(rows: Sequence[Sequence[PreparedExample]]) -> tuple[Placed, ...]:
    placed, crop, feature = [], 0, 0
    for number, row in enumerate(rows):
        token = 0
        for one in row:
            placed.append(
                Placed(
                    key=one.key,
                    row=number,
                    first_token=token,
                    tokens=one.tokens,
                    first_crop=crop,
                    crops=one.crops,
                    first_feature=feature,
                    features=len(one.places_T),
                    pooling_width=one.pooling_TK.shape[1],
                    dropped=one.tree.dropped,
                )
            )
            token, crop, feature = token + one.tokens, crop + one.crops, feature + len(one.places_T)
    return tuple(placed)


def _all_patches(examples: Sequence[PreparedExample], shape: BatchShape) -> torch.Tensor:
    used = sum(one.crops for one in examples)
    sizes = {tuple(one.patches_CNP.shape[1:]) for one in examples}
    if len(sizes) != 1:
        raise ValueError(f"pictures of one size in patches are needed; got {sorted(sizes)}")
    patches = torch.zeros(shape.crops(used), *sizes.pop(), dtype=torch.uint8)
    torch.cat([one.patches_CNP for one in examples], out=patches[:used])
    return patches


def unpack(batch: PackedBatch) -> list[list[PreparedExample]]:
    """The examples of each row as they were before `pack_batch`."""
    rows: list[list[PreparedExample]] = [[] for _ in batch.rows]
    length = len(batch.rows[0])
    per_crop = batch.patches_CNP.shape[1]
    for one in batch.placed:
        pack = batch.rows[one.row]
        tokens = slice(one.first_token, one.first_token + one.tokens)
        features = slice(one.first_feature, one.first_feature + one.features)
        pooling = batch.pooling_TK[features, : one.pooling_width]
        names = ("ids", "targets", "weights", "positions", "branch_ids", "visual", "marks")
        rows[one.row].append(
            PreparedExample(
                key=one.key,
                tree=FlatTree(**{name: getattr(pack, name)[tokens] for name in names}, dropped=one.dropped),
                patches_CNP=batch.patches_CNP[one.first_crop : one.first_crop + one.crops],
                pooling_TK=torch.where(pooling >= 0, pooling - one.first_crop * per_crop, pooling),
                places_T=batch.places_T[features].numpy() - (one.row * length + one.first_token),
            )
        )
    return rows

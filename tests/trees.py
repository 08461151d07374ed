"""Message trees for tests: random ones as arrays, and the byte tokenizer that writes words."""

from __future__ import annotations

import numpy as np

from molmo2_ground.model.random_checkpoint import byte_tokenizer
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.train.tree import (
    IGNORE,
    BranchWriter,
    FlatBranch,
    FlatPack,
    MessageTree,
    flatten,
    pack_trees,
)

CODEC = TextCodec(byte_tokenizer(), bos_word="<|im_end|>", eos_word="<|im_end|>")
WRITER = BranchWriter(codec=CODEC)


def random_branch(rng: np.random.Generator, *, vocab: int = 50) -> FlatBranch:
    """A question of one to four tokens and an answer of one to five."""
    asked, answered = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    length = asked + answered - 1
    targets = np.full(length, IGNORE, dtype=np.int64)
    targets[asked - 1 :] = rng.integers(vocab, size=answered)
    return FlatBranch(
        ids=rng.integers(vocab, size=length),
        targets=targets,
        weights=np.where(targets == IGNORE, 0, rng.uniform(0.1, 2.0, size=length)).astype(np.float32),
        marks=np.zeros(length, dtype=np.int64),
    )


def random_tree(rng: np.random.Generator, *, vocab: int = 50, text_only: bool = False) -> MessageTree:
    """One to four branches over a prefix of pictures and words between them; of one word when `text_only`."""
    n_prefix = 1 if text_only else int(rng.integers(2, 12))
    visual = np.zeros(n_prefix, dtype=np.bool_) if text_only else rng.random(n_prefix) < 0.7
    visual[0] = False  # the first word of every prompt
    return MessageTree(
        prefix_ids=rng.integers(vocab, size=n_prefix),
        prefix_visual=visual,
        branches=tuple(random_branch(rng, vocab=vocab) for _ in range(int(rng.integers(1, 5)))),
    )


def random_pack(seed: int, *, trees: int = 4, pad: int = 7) -> FlatPack:
    """Trees with pictures, one of text alone, and padding."""
    rng = np.random.default_rng(seed)
    flat = [flatten(random_tree(rng, text_only=number == 1)) for number in range(trees)]
    return pack_trees(flat, pad_id=0, length=sum(len(tree) for tree in flat) + pad)

"""Learnt tokens a second with trees and packing, against one conversation a row, on one CPU core.

Usage: OMP_NUM_THREADS=1 python benchmarks/packing.py [PACKS]   (default: 8 packs, about two minutes)

Same random model, same data, rows of the same length; forward and backward pass. The recipe's sequence of
16,384 tokens and 128 crops is scaled down to 2,048 tokens and the crops that hold the same share of them:
a frame of this model has 12 tokens where the released ones have 89. Lengths are drawn with a fixed seed so
that a tree has 4 conversations and a sequence about 4 trees on average (3.8, the paper says of its data):
40 % of the trees are about pictures of 3 to 10 crops, 48 % about videos, the rest text. How full rows are of
tokens follows from the answers' lengths, which the paper does not tell: with answers of a third the
length, crops run out first, and tokens fill 83 %.

Four ways to train on the same conversations, in turns:
    packed          trees, packed: the packer's rows, crops filled up to one of a few numbers
    trees           one tree a row
    alone           one conversation a row, crops filled up as in the packed rows
    alone, padded   the same with the most crops in every row, as the released code's collator has them
Goals: packed is 15 times as fast as one conversation a row, and fills 95 % of its rows' tokens.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from molmo2_ground.clip import Clip
from molmo2_ground.model import load_checkpoint
from molmo2_ground.model.random_checkpoint import write_random_checkpoint
from molmo2_ground.train.example import PreparedExample
from molmo2_ground.train.example_source import ExampleMaker, ExampleParts
from molmo2_ground.train.loader import PackedLoader
from molmo2_ground.train.packed_batch import BatchShape, PackedBatch, pack_batch, unpack
from molmo2_ground.train.packed_step import PackedStep, StepOptions
from molmo2_ground.train.packer import PackLimits
from molmo2_ground.train.tree import IGNORE, BranchWriter, FlatBranch, FlatTree, MessageTree

LIMITS = PackLimits(max_tokens=2048, max_crops=120, crop_value=4)
FRAME_TOKENS, CROP_TOKENS = 12, 18  # of a video's frame; of a picture's crop, with the words around it
COUNTED_A_RUN = 7  # packs that are counted for each that is run: their sizes differ more than their times
GOAL_SPEED, GOAL_FILL = 15.0, 0.95
WORDS = 250  # ids of plain words
FILL_UP = 100  # packs of the start, when the pool is not yet what it will be


def branch(rng: np.random.Generator) -> FlatBranch:
    """A question and an answer of about 27 tokens; answers have a long tail."""
    asked = int(rng.integers(5, 12))
    answered = int(np.clip(rng.lognormal(2.8, 1.0), 1, 300))
    length = asked + answered - 1
    targets = np.full(length, IGNORE, dtype=np.int64)
    targets[asked - 1 :] = rng.integers(WORDS, size=answered)
    weights = np.where(targets == IGNORE, 0.0, 4 / np.sqrt(answered)).astype(np.float32)
    return FlatBranch(
        ids=rng.integers(WORDS, size=length), targets=targets, weights=weights, marks=np.zeros_like(targets)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Trees whose sizes are drawn as the recipe's are; pictures are noise."""

    bos_id: int
    side_px: int

    def __len__(self) -> int:
        return 100_000

    def name_of(self, index: int) -> str:
        """Its number."""
        return str(index)

    def parts(self, index: int, *, rng: np.random.Generator) -> ExampleParts:
        """A video, a picture (some frames and words, in its proportion) or text, and its conversations."""
        kind = rng.random()
        words = frames = 0
        if kind < 0.40:
            frames = int(rng.integers(3, 11))
            words = frames * (CROP_TOKENS - FRAME_TOKENS)
        elif kind < 0.88:
            frames = int(np.exp(rng.uniform(np.log(25), np.log(LIMITS.max_crops))))
        clip = None
        if frames:
            noise = rng.integers(256, size=(frames, self.side_px, self.side_px, 3), dtype=np.uint8)
            clip = Clip.from_arrays(noise, times_s=np.arange(frames) / 2)
        prefix = np.concatenate([[self.bos_id], rng.integers(WORDS, size=words)]).astype(np.int64)
        branches = tuple(branch(rng) for _ in range(1 + rng.poisson(3)))
        tree = MessageTree(
            prefix_ids=prefix, prefix_visual=np.zeros(len(prefix), dtype=np.bool_), branches=branches
        )
        return ExampleParts(tree=tree, clip=clip)


def conversations(example: PreparedExample) -> Iterator[PreparedExample]:
    """Each branch of an example as an example of its own."""
    tree = example.tree
    names = ("ids", "targets", "weights", "positions", "branch_ids", "visual", "marks")
    for number in range(1, int(tree.branch_ids.max()) + 1):
        kept = (tree.branch_ids == 0) | (tree.branch_ids == number)
        yield replace(example, tree=FlatTree(**{name: getattr(tree, name)[kept] for name in names}))


def seconds(step: PackedStep, batch: PackedBatch) -> float:
    """Of one forward and backward pass."""
    step.zero_grad()
    started = time.perf_counter()
    step(batch).loss.backward()
    return time.perf_counter() - started


def learnt(batch: PackedBatch) -> int:
    """Tokens with loss."""
    return sum(int((row.targets != IGNORE).sum()) for row in batch.rows)


def new_step() -> tuple[PackedStep, ExampleMaker]:
    """The model, all of which learns, and the data."""
    with tempfile.TemporaryDirectory() as folder:
        model = load_checkpoint(write_random_checkpoint(folder), device="cpu", dtype="float32")
    step = PackedStep(model.network.requires_grad_(True), flags=model.flags, options=StepOptions()).train()
    data = Drawn(bos_id=model.codec.bos_id, side_px=model.flags.image_size_px)
    writer = BranchWriter(codec=model.codec)
    return step, ExampleMaker(
        sources={"drawn": data}, writer=writer, flags=model.flags, seed=7, max_tokens=LIMITS.max_tokens
    )


@dataclass(slots=True)
class Sum:
    """Rows of one way to train: those that were run, how long they took, and how many all the data needs."""

    run: int = 0
    seconds: float = 0.0
    needed: int = 0

    def add(self, step: PackedStep, batch: PackedBatch) -> None:
        """Run one more batch."""
        self.seconds += seconds(step, batch)
        self.run += 1

    @property
    def all_seconds(self) -> float:
        """What all the data would take: rows differ little in time, and much in what is learnt from them."""
        return self.needed * self.seconds / self.run


def main() -> None:
    """Print a row for each way, and the two figures that have goals."""
    packs = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    step, maker = new_step()
    shape = BatchShape.of(LIMITS)
    padded = replace(shape, crop_buckets=(LIMITS.max_crops,), always_pictures=True)
    pad_id = maker.writer.codec.eos_id
    rng = np.random.default_rng(1)
    sums = {name: Sum() for name in ("packed", "trees", "alone", "alone, padded")}
    batches = []
    loader = PackedLoader(maker, {"drawn": 1.0}, limits=LIMITS)
    warm = list(islice(loader, FILL_UP))
    seconds(step, warm[-1])  # the first pass pays for what is made once
    for number, batch in enumerate(islice(loader, packs * COUNTED_A_RUN)):
        batches.append(batch)
        trees = unpack(batch)[0]
        single = [one for tree in trees for one in conversations(tree)]
        rows = {"packed": 1, "trees": len(trees), "alone": len(single), "alone, padded": len(single)}
        for name, count in rows.items():
            sums[name].needed += count
        if number % COUNTED_A_RUN:
            continue
        sums["packed"].add(step, batch)
        # Some rows of each other way, drawn from this pack's own: in turns, on the same data.
        for chosen in rng.permutation(len(trees))[:1]:
            sums["trees"].add(step, pack_batch([[trees[chosen]]], shape=shape, pad_id=pad_id))
        for chosen in rng.permutation(len(single))[:3]:
            sums["alone"].add(step, pack_batch([[single[chosen]]], shape=shape, pad_id=pad_id))
            sums["alone, padded"].add(step, pack_batch([[single[chosen]]], shape=padded, pad_id=pad_id))
    report(sums, batches)


def report(sums: dict[str, Sum], batches: list[PackedBatch]) -> None:
    """Print what was measured."""
    tokens = sum(learnt(batch) for batch in batches)
    fast = sums["packed"].all_seconds
    print(f"{'':15} rows needed  run  ms a row  learnt a second  packed is faster")
    for name, one in sums.items():
        print(
            f"{name:15} {one.needed:11} {one.run:4} {one.seconds / one.run * 1000:9.0f} "
            f"{tokens / one.all_seconds:16.1f} {one.all_seconds / fast:15.1f} x"
        )
    needed = {name: one.needed for name, one in sums.items()}
    fill = float(np.mean([batch.fill for batch in batches]))
    crops = float(np.mean([batch.crops for batch in batches])) / LIMITS.max_crops
    print(
        f"a row has {needed['trees'] / needed['packed']:.1f} trees (the paper's 3.8), a tree "
        f"{needed['alone'] / needed['trees']:.1f} conversations (4); crops {crops:.1%} full"
    )
    print(
        f"a row has {needed['alone'] / needed['packed']:.1f} conversations (15.2): so much faster were it, "
        "were rows alike in time"
    )
    print(f"tokens {fill:.1%} full, goal {GOAL_FILL:.0%}: {'met' if fill >= GOAL_FILL else 'MISSED'}")
    for name in ("alone", "alone, padded"):
        speed = sums[name].all_seconds / fast
        met = "met" if speed >= GOAL_SPEED else "MISSED"
        print(f"{speed:.1f} x as fast as `{name}`, goal {GOAL_SPEED:.0f} x: {met}")


if __name__ == "__main__":
    main()

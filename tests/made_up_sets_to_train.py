"""Data sets of made-up pictures and conversations, to train random checkpoints on: small, of every medium."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.random_checkpoint import Kind, byte_tokenizer, random_flags, write_random_checkpoint
from molmo2_ground.train.example import PreparedExample, prepare_example
from molmo2_ground.train.example_source import ExampleMaker, ExampleParts
from molmo2_ground.train.mixture import ExampleKey
from molmo2_ground.train.tree import Branch, MessageTree, Turn
from tests.trees import CODEC, WRITER

Medium = Literal["text", "image", "images", "video"]
FLAGS: InputFlags = random_flags("qwen", tokenizer=byte_tokenizer())


def clip_of(medium: Medium, rng: np.random.Generator, *, frames: int = 3) -> Clip | None:
    """Noise of that kind."""

    def picture(height: int, width: int) -> np.ndarray:
        return rng.integers(256, size=(height, width, 3), dtype=np.uint8)

    if medium == "text":
        return None
    if medium == "image":
        return Clip.from_arrays([picture(int(rng.integers(40, 200)), int(rng.integers(40, 200)))])
    if medium == "images":
        return Clip.from_arrays([picture(40, 150), picture(70, 60)])
    return Clip.from_arrays([picture(30, 50)] * frames, times_s=np.arange(frames) / 2)


def branches_of(rng: np.random.Generator, *, count: int) -> tuple[Branch, ...]:
    """Conversations of one turn or two, of several kinds."""
    made = []
    for number in range(count):
        length = int(rng.integers(1, 6))
        made.append(
            Branch(
                user_text=f"What is {number}?",
                answer=" ".join(str(v) for v in rng.integers(100, size=length)),
                kind=("answer", "pointing")[number % 2],
                later_turns=(Turn(user_text="Sure?", answer="Yes."),) if rng.random() < 0.3 else (),
            )
        )
    return tuple(made)


def tree_of(branches: tuple[Branch, ...]) -> MessageTree:
    """A tree whose pictures are still to be put in."""
    return MessageTree(
        prefix_ids=np.array([CODEC.bos_id]), prefix_visual=np.array([False]), branches=branches
    )


def example_of(
    medium: Medium, *, seed: int = 0, branches: int = 3, index: int = 0, **limits: int
) -> PreparedExample:
    """One example, ready to be packed."""
    rng = np.random.default_rng([seed, index])
    clip = clip_of(medium, rng)
    return prepare_example(
        ExampleKey(dataset=medium, epoch=0, index=index),
        tree_of(branches_of(rng, count=branches)),
        clip,
        writer=WRITER,
        flags=FLAGS,
        max_tokens=limits.pop("max_tokens", 1000),
        **limits,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUp:
    """A data set of one kind of medium; `broken` are the examples that cannot be read."""

    medium: Medium
    size: int
    broken: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return self.size

    def parts(self, index: int, *, rng: np.random.Generator) -> ExampleParts:
        if index in self.broken:
            raise OSError("the file is cut short")
        clip = clip_of(self.medium, rng, frames=int(rng.integers(1, 7)))
        return ExampleParts(tree=tree_of(branches_of(rng, count=int(rng.integers(1, 5)))), clip=clip)

    def name_of(self, index: int) -> str:
        return f"{self.medium}-{index:04}"


SETS: Mapping[str, MadeUp] = {
    "clips": MadeUp(medium="video", size=13),
    "lists": MadeUp(medium="images", size=5),
    "photos": MadeUp(medium="image", size=9),
    "words": MadeUp(medium="text", size=7),
}
SHARES = {"clips": 0.4, "lists": 0.1, "photos": 0.3, "words": 0.2}


def maker(sets: Mapping[str, MadeUp] = SETS, *, seed: int = 7, max_tokens: int = 400) -> ExampleMaker:
    """Makes the examples of these sets."""
    return ExampleMaker(sources=sets, writer=WRITER, flags=FLAGS, seed=seed, max_tokens=max_tokens)


@cache
def random_model(kind: Kind) -> Molmo2:
    """A random checkpoint in fp32; the same object for every test, so no test may change its weights."""
    with TemporaryDirectory() as folder:
        return load_checkpoint(
            write_random_checkpoint(Path(folder), kind=kind), device="cpu", dtype="float32"
        )

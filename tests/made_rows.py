"""Training rows for tests, and black clips that go with them. Pictures are 100 x 50 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from molmo2_ground.clip import Clip
from molmo2_ground.model.random_checkpoint import byte_tokenizer
from molmo2_ground.train.row_tree import RowTree, row_tree
from molmo2_ground.train.rows import Annotation, Moment, Place, Row, TaskName, Turn
from molmo2_ground.train.task_rules import FINE_TUNING, TaskRules
from molmo2_ground.train.tiny_checkpoint import tiny_flags
from molmo2_ground.train.tree import Branch, MessageTree
from tests.trees import CODEC

FLAGS = tiny_flags(byte_tokenizer())
# Questions in the words of inference, all pictures, every track from its first sighting.
PLAIN = TaskRules(
    asked_share=1.0, default_rate_share=1.0, random_start_share=0.0, all_images_share=1.0, joined_share=0.0
)

Seen = tuple[int, float, float]  # object id, x, y in pixels


def film(*times_s: float) -> Clip:
    return Clip.from_arrays([np.zeros((50, 100, 3), dtype=np.uint8)] * len(times_s), times_s=list(times_s))


def pictures(count: int = 1) -> Clip:
    return Clip.from_arrays([np.zeros((50, 100, 3), dtype=np.uint8)] * count)


def places(*seen: Seen) -> tuple[Place, ...]:
    return tuple(Place(object_id=i, x_px=x, y_px=y) for i, x, y in seen)


def at(time_s: float, *seen: Seen) -> Moment:
    return Moment(time_s=time_s, places=places(*seen))


def on(image: int, *seen: Seen) -> Moment:
    return Moment(image=image, places=places(*seen))


def about(
    task: TaskName | Sequence[TaskName], *moments: Moment, label: str = "the dogs", **more: Any
) -> Annotation:
    tasks = (task,) if isinstance(task, str) else tuple(task)
    return Annotation(task=tasks, label=label, moments=moments, **more)


def row_of_video(*annotations: Annotation, **more: Any) -> Row:
    return Row(row_id="film", kind="video", annotations=annotations, **more)


def row_of_image(*annotations: Annotation, **more: Any) -> Row:
    return Row(row_id="picture", kind="image", annotations=annotations, **more)


def row_of_images(*annotations: Annotation, **more: Any) -> Row:
    return Row(row_id="pictures", kind="images", annotations=annotations, **more)


HALVES = film(0.0, 0.5, 1.0)
DOGS = (at(0.0, (1, 10, 10), (2, 90, 25)), at(0.5, (1, 20, 10)), at(1.0, (1, 30, 10), (2, 80, 25)))


def made(row: Row, clip: Clip | None, *, rules: TaskRules = FINE_TUNING, seed: int = 0) -> RowTree:
    return row_tree(row, clip, codec=CODEC, flags=FLAGS, rng=np.random.default_rng(seed), rules=rules)


def spoken(tree: MessageTree) -> list[Branch]:
    """The branches, which are all in words."""
    return [branch for branch in tree.branches if isinstance(branch, Branch)]


def said(
    row: Row, clip: Clip | None, *, rules: TaskRules = FINE_TUNING, seed: int = 0
) -> list[tuple[str, str]]:
    """Question and answer of every turn."""
    tree = made(row, clip, rules=rules, seed=seed).tree
    return [(turn.user_text, turn.answer) for branch in spoken(tree) for turn in branch.turns]


def on_track(task: TaskName, **more: Any) -> Row:
    return row_of_video(about(task, *DOGS, rate_fps=2, **more))


def talk(
    task: TaskName, *turns: tuple[str, str], style: str | None = None, weight: float = 1.0
) -> Annotation:
    written = tuple(Turn(question=q, answer=a) for q, a in turns)
    return Annotation(task=(task,), turns=written, style=style, weight=weight)


IN_PICTURE = on(0, (1, 50, 25), (2, 10, 40))
IN_PICTURES = (on(0, (1, 50, 25)), on(1), on(2, (1, 10, 40), (2, 10, 5)))

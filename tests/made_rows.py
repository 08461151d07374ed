"""Training rows for tests, and black clips that go with them. Pictures are 100 x 50 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from molmo2_ground.clip import Clip
from molmo2_ground.model.random_checkpoint import byte_tokenizer
from molmo2_ground.train.rows import Annotation, Moment, Place, Row, TaskName
from molmo2_ground.train.task_rules import TaskRules
from molmo2_ground.train.tiny_checkpoint import tiny_flags

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

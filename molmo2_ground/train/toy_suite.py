"""`ToySuite`: the toy street as an evaluation suite, asked about held-out clips as a user would ask.

Every clip is a real H.264 file, written when it is needed, of `EXAM_FPS` frames a second. It gives two
examples: one to track, and one to point at or to count. A clip, its questions and its truth are a function of
the seed alone, the same on every machine; all seeds lie below the training seeds.

What is scored (shares, means over the examples that have the score):

track_f1, hota, …  tracks against the visible pixels, every half second; questions with an answer.
point_f1, …        points against the pixels visible in the very frame that the model pointed into, each
                   object asked for once in the whole clip; questions with an answer.
count, count_close the number, also when it is 0.
count_f1           the places that were counted, as point_f1.
none               nothing is there and the answer says so.
not_none           something is there and the answer does not say that nothing is.
colour             one of several of a kind is asked for by its colour: most of the answer lies on that one.
identity           of two right samples of one object that follow each other, the share with the same id;
                   answers with two such samples.
readable           the answer could be read.

A place on something asked for that hardly shows (less than `VISIBLE_SHARE`) is neither right nor wrong in a
track.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from molmo2_ground.eval.example import Example, Problem, Result, Settings, Truth, mean_summary
from molmo2_ground.eval.pace import OnProgress
from molmo2_ground.train.toy.clip_file import write_clip
from molmo2_ground.train.toy.questions import ToyTask, make_questions
from molmo2_ground.train.toy_held_out import (
    GRID_S,
    Asked,
    HeldOut,
    clip_of,
    example_of,
    plainly,
    truth_with,
)
from molmo2_ground.train.toy_marks import (
    count_marks,
    is_one_of_several,
    means_it,
    point_marks,
    says_none,
    track_marks,
)
from molmo2_ground.train.toy_view import FIRST_TRAINING_SEED

# Clips last 4 to 8 seconds: 8 to 16 places a track.
_HALF_SECONDS = (8, 17)


class ToySuite:
    """Held-out clips of the toy street; see the module's text for what is scored.

    clips: how many, `per_clip` examples each. first_seed: the seed of the first one.
    Raises ValueError when a seed would be one that training draws from.
    """

    name = "toy"
    settings = Settings(max_new_tokens=1024, note="held-out clips of the toy street, asked as in training")
    headline: tuple[str, ...] = ("track_f1", "hota", "point_f1", "count", "none")
    per_clip = 2

    def __init__(self, clips: int = 500, *, first_seed: int = 0) -> None:
        if clips < 1:
            raise ValueError(f"a suite has at least one clip; got {clips}")
        if first_seed < 0 or first_seed + clips > FIRST_TRAINING_SEED:
            raise ValueError(
                f"held-out seeds lie from 0 below {FIRST_TRAINING_SEED}, where training starts; "
                f"got {first_seed} to {first_seed + clips - 1}"
            )
        self.clips = clips
        self.first_seed = first_seed

    def check(self, *, on_progress: OnProgress | None = None) -> tuple[Problem, ...]:
        """Nothing can be wrong with clips that are made on the spot."""
        return ()

    def examples(self) -> Sequence[Example]:
        """`per_clip` a clip, made when they are looked at."""
        return _Examples(clips=self.clips, per_clip=self.per_clip, make=self._example)

    def prepare(self, example: Example, folder: Path) -> Path:
        """Write the example's clip into `folder`, unless it is there; all examples of a clip share it."""
        path = folder / example.media
        if not path.exists():
            held_out = self.held_out(_seed(example.key))
            write_clip(held_out.scene, path, fps=held_out.fps, quick=True)
        return path

    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        """Scores of one answer; an unreadable one gets 0 for all that its question is scored by."""
        held_out, asked = self.asked(example.key)
        question = asked.question
        scores = {"readable": float(result is not None)}
        if asked.ask == "count":
            scores |= count_marks(len(question.object_ids), result)
        if not example.truth.objects:
            return scores | {"none": float(result is not None and says_none(result))}
        scores["not_none"] = float(result is not None and not says_none(result))
        if is_one_of_several(question, held_out.scene):
            scores["colour"] = float(result is not None and means_it(held_out, question, result))
        return scores | self.marks(held_out, asked, example.truth, result)

    def truth_at(self, example: Example, source_indices: Sequence[int]) -> Truth:
        """The example's truth with all that shows in these frames of the clip, however little.

        For a look at an answer: a place on what hardly shows is not a wrong one.
        """
        held_out, asked = self.asked(example.key)
        return truth_with(held_out, asked, example.truth, source_indices)

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Mean of each score over the examples that have it."""
        return mean_summary(rows)

    def held_out(self, seed: int) -> HeldOut:
        """The clip of a seed with its questions, `per_clip` of them."""
        return _held_out(seed)

    def marks(self, held_out: HeldOut, asked: Asked, truth: Truth, result: Result | None) -> dict[str, float]:
        """The scores of the places in an answer to a question about something that is there."""
        if asked.ask == "track":
            return track_marks(held_out, asked.question, truth, result)
        found = point_marks(held_out, asked.question, result)
        return found if asked.ask == "point" else {"count_f1": found["point_f1"]}

    def asked(self, key: str) -> tuple[HeldOut, Asked]:
        """The clip and the question of an example's key. Raises `KeyError` for a question of no clip here."""
        held_out = self.held_out(_seed(key))
        by_name = {asked.name: asked for asked in held_out.asked}
        return held_out, by_name[key.rsplit("-", 1)[1]]

    def _example(self, number: int) -> Example:
        clip, place = divmod(number, self.per_clip)
        seed = self.first_seed + clip
        held_out = self.held_out(seed)
        asked = held_out.asked[place]
        # Kept answers name frames by their number in the file: they are those of a file of this rate.
        media = f"street-{seed:06d}-{held_out.fps:g}fps.mp4"
        return example_of(held_out, asked, key=f"street-{seed:06d}-{asked.name}", media=media)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Examples(Sequence[Example]):
    """The examples of some clips; nothing is kept, each is made again when it is asked for."""

    clips: int
    per_clip: int
    make: Callable[[int], Example]

    def __len__(self) -> int:
        return self.per_clip * self.clips

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: int | slice) -> Example | tuple[Example, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"there are {len(self)} examples; got number {index}")
        return self.make(place)

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))


def _seed(key: str) -> int:
    return int(key.split("-")[1])


# Each example is looked at several times: made, asked, scored; an evaluation does each for a group of clips.
@functools.lru_cache(maxsize=10)
def _held_out(seed: int) -> HeldOut:
    rng = np.random.default_rng([seed, 77])
    clip = clip_of(seed, duration_s=float(rng.integers(*_HALF_SECONDS)) * GRID_S)
    second: ToyTask = "point" if seed % 2 == 0 else "count"
    asked = []
    for task in ("track", second):
        # More than one is drawn because a scene may have nothing of the sort that a draw wants.
        found = make_questions(clip.scene, rng, clip.visible_ids, 4, tasks=(task,), states=clip.states)
        assert found, f"no question to {task} about scene {seed}"
        asked.append(plainly(found[0]))
    return clip.with_questions(asked)

"""`ToyTasks`: all that the toy street teaches, asked about held-out clips of two lengths.

Clips with an even seed show 8 half seconds (4 s), the others 32 (16 s). Each gives nine examples: one to
track, one to follow from a point, one for where things are first and last seen, one to point at, one to
count, and four to track or to point at that are asked for by motion, size and position. Scenes differ in what
can be said about them, so the four are taken in turns from what a scene allows: position, which is the
rarest, then size, then motion. Where fewer than four can be asked, plain questions to point at stand in.

What is scored beside the scores of `ToySuite` (shares, means over the examples that have the score):

track_f1_8, track_f1_32          `track_f1` of the plain questions to track, short and long clips apart.
identity_8, identity_32          `identity`, likewise.
first_last_f1, …                 the places where each object is first and last seen, one or two an object: a
                                 place is right on the object's visible pixels in the first or last frame,
                                 of those that the model was shown, in which it counts as visible, or in the
                                 shown frame nearest to its first or last visible half second.
follow_f1, …                     the track of what lies under a point, in the half seconds after it.
motion_f1, size_f1, position_f1  track F1 or point F1 of what is asked for by motion, size or position. These
                                 questions are in none of the other figures but `not_none` and `readable`.

To follow a point has an answer unless the thing is not seen again; then the question scores `none`.
"""

from __future__ import annotations

import dataclasses
import functools
from itertools import islice, zip_longest

import numpy as np

from molmo2_ground.eval.example import Result, Settings, Truth
from molmo2_ground.query import Query
from molmo2_ground.train.toy.actors import ActorState
from molmo2_ground.train.toy.questions import GROUP_SHARES, Group, Question, ToyTask, make_questions
from molmo2_ground.train.toy_examples import click_on, first_last_prompt, follow_phrase
from molmo2_ground.train.toy_held_out import GRID_S, Asked, HeldOut, clip_of, plainly
from molmo2_ground.train.toy_marks import first_last_marks, point_marks, track_marks
from molmo2_ground.train.toy_suite import ToySuite

FIRST_SEED = 500_000
"""Of the first clip: far from those of `ToySuite`, below all that training draws from."""

SHORT, LONG = 8, 32
"""Half seconds of a clip: how many frames the model is shown to track in it."""

# Things are first and last seen to a frame, and the clip's end is one.
_FILM_FPS = 10.0
_COMPARED: tuple[Group, ...] = ("position", "size", "motion")
_COMPARISONS = 4


class ToyTasks(ToySuite):
    """Every task of the toy street over held-out clips; see the module's text for what is scored.

    clips: how many, `per_clip` examples each. first_seed: the seed of the first one.
    Raises ValueError when a seed would be one that training draws from.
    """

    name = "toy-tasks"
    settings = Settings(
        # A long clip's track of a handful of things takes more than the plain suite's longest.
        max_new_tokens=2048,
        note="held-out clips of the toy street of 8 and 32 half seconds, every task asked as in training",
    )
    headline = (
        f"track_f1_{SHORT}",
        f"track_f1_{LONG}",
        "first_last_f1",
        "follow_f1",
        "point_f1",
        "count",
        "motion_f1",
        "size_f1",
        "position_f1",
        "identity",
        "none",
    )
    per_clip = 5 + _COMPARISONS

    def __init__(self, clips: int = 200, *, first_seed: int = FIRST_SEED) -> None:
        super().__init__(clips, first_seed=first_seed)

    def held_out(self, seed: int) -> HeldOut:
        """The clip of a seed with its questions, `per_clip` of them."""
        return _held_out(seed)

    def marks(self, held_out: HeldOut, asked: Asked, truth: Truth, result: Result | None) -> dict[str, float]:
        """The scores of the places in an answer to a question about something that is there."""
        question = asked.question
        if asked.ask == "first_last":
            return first_last_marks(held_out, question, result)
        if asked.compared:
            return _compared_marks(held_out, question, truth, result)
        if asked.ask == "follow":
            found = track_marks(held_out, question, truth, result)
            return {f"follow_{name}": found[f"track_{name}"] for name in ("precision", "recall", "f1")}
        if asked.ask == "track":
            found = track_marks(held_out, question, truth, result)
            frames = len(held_out.states)
            apart = {f"{name}_{frames}": found[name] for name in ("track_f1", "identity") if name in found}
            return found | apart
        return super().marks(held_out, asked, truth, result)


def _compared_marks(
    held_out: HeldOut, question: Question, truth: Truth, result: Result | None
) -> dict[str, float]:
    """One score, named after what the question compares."""
    if question.task == "track":
        value = track_marks(held_out, question, truth, result)["track_f1"]
    else:
        value = point_marks(held_out, question, result)["point_f1"]
    return {f"{question.group}_f1": value}


# All examples of a clip come one after the other, and each is looked at several times: made, asked, scored.
@functools.lru_cache(maxsize=4)
def _held_out(seed: int) -> HeldOut:
    rng = np.random.default_rng([seed, 78])
    clip = clip_of(seed, duration_s=(SHORT if seed % 2 == 0 else LONG) * GRID_S).filmed_at(_FILM_FPS)
    track, ends, stand_in = _plain(clip, rng, "track", 3)
    point, *spare = _plain(clip, rng, "point", 1 + _COMPARISONS)
    (count,) = _plain(clip, rng, "count", 1)
    more = [*_compared(clip, rng), *(plainly(question) for question in spare)][:_COMPARISONS]
    asked = [
        plainly(track),
        # Nothing can be clicked in an empty street.
        _follow(clip, rng) or dataclasses.replace(plainly(stand_in), name="follow"),
        Asked(name="ends", ask="first_last", question=ends, query=Query.ask(first_last_prompt(ends.phrase))),
        plainly(point),
        plainly(count),
        *(dataclasses.replace(one, name=f"more{number}") for number, one in enumerate(more, start=1)),
    ]
    return clip.with_questions(asked)


def _plain(clip: HeldOut, rng: np.random.Generator, task: ToyTask, count: int) -> list[Question]:
    """So many different questions of a task, in the shares of `ToySuite`."""
    # More are drawn than needed because a scene may have nothing of the sort that a draw wants.
    found = make_questions(
        clip.scene, rng, clip.visible_ids, 2 * count + 2, tasks=(task,), states=clip.states
    )
    assert len(found) >= count, f"{len(found)} questions to {task} about scene {clip.scene.seed}, not {count}"
    return found[:count]


def _compared(clip: HeldOut, rng: np.random.Generator) -> list[Asked]:
    """Up to so many questions that compare, all with an answer, the groups in turns."""
    groups = [_of_group(clip, rng, group) for group in _COMPARED]
    turns = (question for turn in zip_longest(*groups) for question in turn if question is not None)
    return [plainly(question, compared=True) for question in islice(turns, _COMPARISONS)]


def _of_group(clip: HeldOut, rng: np.random.Generator, group: Group) -> list[Question]:
    # Where a scene has none of the group, one of the others is drawn, and left out here.
    shares = {**dict.fromkeys(GROUP_SHARES, 1e-9), group: 1.0}
    found = make_questions(
        clip.scene,
        rng,
        clip.visible_ids,
        2 * _COMPARISONS,
        tasks=("track", "point"),
        states=clip.states,
        groups=shares,
    )
    return [question for question in found if question.group == group and question.object_ids]


def _follow(clip: HeldOut, rng: np.random.Generator) -> Asked | None:
    """The rest of one thing's way from a place on it, if anything can be clicked before the last half second.

    One is taken that is seen again, where there is such a thing.
    """
    seen = [(number, s) for number, states in enumerate(clip.states[:-1]) for s in states if s.visible]
    if not seen:
        return None
    order = [seen[index] for index in rng.permutation(len(seen))]
    number, state = next((one for one in order if _is_seen_again(clip, *one)), order[0])
    phrase = follow_phrase(clip.scene.actors[state.object_id - 1], rng)
    time_s = number * GRID_S
    x_px, y_px = (float(v) for v in click_on(clip.id_maps[number], state, rng))
    return Asked(
        name="follow",
        ask="follow",
        # A click tells one of several apart, whatever the words: no question by colour.
        question=Question(task="track", phrase=phrase, object_ids=(state.object_id,), group="all"),
        query=Query.track(phrase, at=(time_s, x_px, y_px)),
        after_s=time_s,
    )


def _is_seen_again(clip: HeldOut, number: int, state: ActorState) -> bool:
    later = (s for states in clip.states[number + 1 :] for s in states)
    return any(s.visible and s.object_id == state.object_id for s in later)

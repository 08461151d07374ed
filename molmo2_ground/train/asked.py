"""`Asked`: one annotation as a conversation to learn, and `LeftOut`: one that is not, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from molmo2_ground.answer import format_answer, parse_answer
from molmo2_ground.query import DEFAULT_TRACK_FPS, in_sentence
from molmo2_ground.train.phrasings import CAPTIONS, NO_POINTING, SCENES
from molmo2_ground.train.place_answers import draw_start, n_points, place_answer
from molmo2_ground.train.place_question import PlaceQuestion, is_counting, label_of, place_words
from molmo2_ground.train.shown_places import ShownPlaces, asked_rates, shown_places
from molmo2_ground.train.styles import (
    MOVING_TASKS,
    POINT_TASKS,
    START_TASKS,
    UNNAMED,
    WORD_TASKS,
    length_hint,
    named,
    named_bare,
    style_of,
)
from molmo2_ground.train.tree import Turn

if TYPE_CHECKING:
    from molmo2_ground.clip import Clip
    from molmo2_ground.train.rows import Annotation, Row, TaskName
    from molmo2_ground.train.task_rules import TaskRules
    from molmo2_ground.train.weights import BranchKind

# Where a data set's own question shows the point that a track starts at.
START_MARK = "{start}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of an annotation, in words, and what should be answered.

    annotation  its number in the row, from 0.
    style       the training style, whether or not the question says it.
    kind        what `branch_weight` goes by. weight: the annotation's own factor.
    points      how many points the answers of a pointing or counting task write; 0 for others.
    """

    annotation: int
    task: TaskName
    style: str
    turns: tuple[Turn, ...]
    kind: BranchKind
    weight: float = 1.0
    points: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something of a row that is not learnt from, and why.

    annotation  its number in the row, from 0; None for the row as a whole.
    places      how many of its places, when the rest of it is learnt from; 0 for all of it.
    """

    annotation: int | None
    reason: str
    places: int = 0

    def __str__(self) -> str:
        where = "the row" if self.annotation is None else f"annotations[{self.annotation}]"
        some = f", {self.places} places" if self.places else ""
        return f"{where}{some}: {self.reason}"


class _Unusable(Exception):
    """An annotation cannot be asked about; caught where it is turned into a `LeftOut`."""


def ask(
    number: int, row: Row, clip: Clip | None, *, rng: np.random.Generator, rules: TaskRules
) -> tuple[Asked | None, list[LeftOut]]:
    """Turn annotation `number` of a row into a question and its answer; None with a reason when it cannot be.

    Raises `ValueError` when row and clip are not of one kind.
    """
    annotation = row.annotations[number]
    task_rng, words_rng, places_rng = (np.random.default_rng(s) for s in rng.integers(2**63, size=3))
    try:
        task = _draw_task(annotation, row, task_rng)
        if task in WORD_TASKS:
            return _ask_words(number, task, row, rng=words_rng, rules=rules), []
        assert clip is not None  # row_tree has looked at the row's kind
        shown = shown_places(annotation, row, clip, rng=places_rng, match_s=rules.match_s)
        _check_shown(annotation, task, shown)
        made = _ask_places(
            number, task, row, clip, shown, words_rng=words_rng, places_rng=places_rng, rules=rules
        )
    except _Unusable as error:
        return None, [LeftOut(annotation=number, reason=str(error))]
    lost = [LeftOut(annotation=number, reason=f"they {why}", places=places) for why, places in shown.lost]
    return made, lost


def _draw_task(annotation: Annotation, row: Row, rng: np.random.Generator) -> TaskName:
    """One of the annotation's tasks that can be asked of the row's medium."""
    possible = [task for task in annotation.task if style_of(task, row.kind) is not None]
    if not possible:
        raise _Unusable(f"{' and '.join(annotation.task)} cannot be asked of the kind {row.kind}")
    return possible[int(rng.integers(len(possible)))]


def _check_shown(annotation: Annotation, task: TaskName, shown: ShownPlaces) -> None:
    if annotation.moments and not shown.groups:
        raise _Unusable("none of its moments is shown")
    if shown.unplaced:
        raise _Unusable(f"{shown.unplaced} places have neither a point nor a mask nor a box")
    if task in POINT_TASKS and shown.missing:
        raise _Unusable(
            f"{shown.missing} things are annotated only at times that no frame shows, or a tenth of a second "
            "behind another frame; the answer would be wrong without them"
        )


def _ask_places(
    number: int,
    task: TaskName,
    row: Row,
    clip: Clip,
    shown: ShownPlaces,
    *,
    words_rng: np.random.Generator,
    places_rng: np.random.Generator,
    rules: TaskRules,
) -> Asked:
    annotation = row.annotations[number]
    label = label_of(annotation.label, row.kind) or in_sentence(annotation.question or "")
    if not label:
        raise _Unusable("it has neither a label nor a question")
    style = annotation.style or style_of(task, row.kind) or ""
    images = _draw_images(shown, row, clip, words_rng, rules) if annotation.question is None else None
    rate = _draw_rate(annotation, task, clip, shown, words_rng, rules)
    start = None
    if task in START_TASKS:
        start = draw_start(shown, places_rng, random_share=rules.random_start_share)
        if start is None:
            raise _Unusable("nothing is in sight that a track could start at")
    told = shown if rate is None else shown.on_grid(rate, match_s=rules.match_s)
    question = PlaceQuestion(
        task=task, kind=row.kind, style=style, label=label, images=images, rate_fps=rate, start=start
    )
    try:
        if _uses_own_question(annotation, task):
            own = (annotation.question or "").replace(START_MARK, start.markup(label) if start else "")
            words = named_bare(style, own) if rules.prompting == "bare" else named(style, own)
        else:
            words = place_words(question, clip, rng=words_rng, rules=rules)
        answer = place_answer(task, label, told, images=images, start=start)
    except ValueError as error:  # a label that reads as markup
        raise _Unusable(str(error)) from error
    return Asked(
        annotation=number,
        task=task,
        style=style,
        turns=(Turn(user_text=words, answer=format_answer(answer, separator=rules.separator)),),
        kind="pointing" if task in POINT_TASKS else "tracking",
        weight=annotation.weight,
        points=n_points(answer) if task in POINT_TASKS else 0,
    )


def _uses_own_question(annotation: Annotation, task: TaskName) -> bool:
    """Whether the data set's words ask for this task: `How many …?` is no question for places alone."""
    if annotation.question is None:
        return False
    if task in START_TASKS:
        if START_MARK not in annotation.question and len(annotation.task) == 1:
            raise _Unusable(f"its question must say with {START_MARK} where the point to start at stands")
        return START_MARK in annotation.question
    if len(annotation.task) == 1:
        return True
    if task in POINT_TASKS:
        return task == ("point_then_count" if is_counting(annotation.question) else "point")
    return not is_counting(annotation.question) and START_MARK not in annotation.question


def _draw_images(
    shown: ShownPlaces, row: Row, clip: Clip, rng: np.random.Generator, rules: TaskRules
) -> tuple[int, ...] | None:
    """Which pictures of several are asked about, by number from 1; None for all.

    Only those that were looked at: of the others nobody knows what they show.
    """
    if row.kind != "images" or len(clip) < 2:
        return None
    looked_at = [int(group.key) for group in shown.groups]
    if rng.random() < rules.all_images_share:
        return None if len(looked_at) == len(clip) else tuple(looked_at)
    count = int(rng.integers(1, len(looked_at) + 1))
    return tuple(sorted(looked_at[int(n)] for n in rng.choice(len(looked_at), size=count, replace=False)))


def _draw_rate(
    annotation: Annotation,
    task: TaskName,
    clip: Clip,
    shown: ShownPlaces,
    rng: np.random.Generator,
    rules: TaskRules,
) -> float | None:
    """The rate that a track is asked for at; None where there is none to ask for."""
    if task not in MOVING_TASKS or task == "first_last":
        return None
    rates = asked_rates(annotation, clip, shown, match_s=rules.match_s)
    if rates and _uses_own_question(annotation, task):
        return DEFAULT_TRACK_FPS if DEFAULT_TRACK_FPS in rates else rates[-1]
    if rates:
        return rates[int(rng.integers(len(rates)))]
    if annotation.rate_fps is not None and annotation.moments:
        raise _Unusable(
            f"it has {annotation.rate_fps:g} moments a second, and the frames that are shown hold no "
            "whole grid of 1, 2 or so many a second (10 at the most)"
        )
    return None


def _ask_words(number: int, task: TaskName, row: Row, *, rng: np.random.Generator, rules: TaskRules) -> Asked:
    annotation = row.annotations[number]
    if not annotation.turns:
        raise _Unusable(f"it is for {task} and has no turns")
    if not all(turn.answer.strip() for turn in annotation.turns):
        raise _Unusable("an answer of it is empty")
    style = annotation.style or style_of(task, row.kind) or ""
    first = annotation.turns[0]
    question = first.question or annotation.question or ""
    if task != "caption" and not question.strip():
        raise _Unusable(f"it is for {task} and has no question")
    if not all(turn.question.strip() for turn in annotation.turns[1:]):
        raise _Unusable("a later turn of it has no question")
    # Drawn whether or not they are used, so that the words of one answer do not move those of another.
    hinted, noise, pick = rng.random() < rules.hint_share, float(rng.normal()), rng.random(2)
    scenes = SCENES.get(row.kind, ("",))
    scene = scenes[int(pick[0] * len(scenes))]
    if rules.prompting == "bare":
        hint = length_hint(annotation.turns[-1].answer, noise) if hinted else None
        words = named_bare(style, question, length_hint=hint)
    elif question:
        if task == "qa" and row.kind != "none" and _asks_for_a_number_in_words(style, question, first.answer):
            front = NO_POINTING[int(pick[1] * len(NO_POINTING))].format(scene=scene)
            question = f"{front} {question}"
        words = named(style, question)
    else:
        sentences = CAPTIONS.get(style, ("",))
        words = named(style, sentences[int(pick[1] * len(sentences))].format(scene=scene))
    if not words:
        raise _Unusable(f"no sentence is known that asks for the style {style}; give it a question")
    later = (Turn(user_text=turn.question, answer=turn.answer) for turn in annotation.turns[1:])
    turns = (Turn(user_text=words, answer=first.answer), *later)
    kind: BranchKind = "video_caption" if task == "caption" and row.kind == "video" else "answer"
    return Asked(annotation=number, task=task, style=style, turns=turns, kind=kind, weight=annotation.weight)


def _asks_for_a_number_in_words(style: str, question: str, answer: str) -> bool:
    return style in UNNAMED and is_counting(question) and not parse_answer(answer).elements

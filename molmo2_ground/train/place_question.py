"""`PlaceQuestion`: what is asked about places, and the words for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molmo2_ground.query import DEFAULT_TRACK_FPS, Query, build_prompt, in_sentence
from molmo2_ground.thousandths import to_pixels
from molmo2_ground.train.phrasings import (
    FROM_POINT_RATED,
    FROM_POINT_UNRATED,
    NONE_TAILS,
    PLACES,
    POINT_IN_ALL,
    SCENES,
    TRACK_RATED,
    TRACK_UNRATED,
)
from molmo2_ground.train.styles import POINT_TASKS, START_TASKS, named, named_bare

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from molmo2_ground.clip import Clip
    from molmo2_ground.train.place_answers import Start
    from molmo2_ground.train.rows import MediumKind, TaskName
    from molmo2_ground.train.task_rules import TaskRules

_ARTICLE = re.compile(r"\A(?:the|an?)\s+(?=\S)", re.IGNORECASE)
_COUNTING = re.compile(r"\bhow many\b|\bcount\b|\bnumber of\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceQuestion:
    """What is asked, before it has words.

    images    numbers from 1 of the pictures asked about, of several; None for all.
    rate_fps  for tracks: places a second; None where the annotation has no regular times.
    start     for tracks from a point.
    """

    task: TaskName
    kind: MediumKind
    style: str
    label: str
    images: tuple[int, ...] | None = None
    rate_fps: float | None = None
    start: Start | None = None


def label_of(text: str, kind: MediumKind) -> str:
    """What is looked for, as question and answer write it: on one line, of single pictures in lower case."""
    label = in_sentence(text)
    return label.lower() if kind == "image" else label


def is_counting(question: str) -> bool:
    """Whether a data set's own question asks for a number."""
    return _COUNTING.search(question) is not None


def place_words(question: PlaceQuestion, clip: Clip, *, rng: np.random.Generator, rules: TaskRules) -> str:
    """The question in words drawn from `build_prompt`'s and from `phrasings`, with its style if it says it.

    The draw does not depend on where anything is, nor on how many there are. Raises `ValueError` when the
    point to start at cannot be written.
    """
    if rules.prompting == "bare" and question.task in POINT_TASKS:
        return named_bare(question.style, question.label)
    rated = question.rate_fps is not None
    if question.rate_fps == DEFAULT_TRACK_FPS and question.task == "track":
        rated = rng.random() >= rules.default_rate_share
    in_asked_words = rng.random() < rules.asked_share
    asked = _inference_words(question, clip, rated=rated) if in_asked_words else None
    words = asked or _drawn(question, rng, rules, rated=rated)
    return named_bare(question.style, words) if rules.prompting == "bare" else named(question.style, words)


def _drawn(question: PlaceQuestion, rng: np.random.Generator, rules: TaskRules, *, rated: bool) -> str:
    templates = _templates(question, rng, rated=rated)
    template = _one(templates, rng)
    if question.task == "point" and rng.random() < rules.none_tail_share:
        template += _one(NONE_TAILS, rng)
    named_images = question.images and ", ".join(f"image_{number}" for number in question.images)
    return template.format(
        label=question.label,
        bare=_ARTICLE.sub("", question.label),
        scene=_one(SCENES[question.kind], rng),
        images=named_images or "all images",
        fps=f"{question.rate_fps:g}" if question.rate_fps is not None else "",
        start=question.start.markup(question.label) if question.start else "",
    )


def _templates(question: PlaceQuestion, rng: np.random.Generator, *, rated: bool) -> tuple[str, ...]:
    if question.task == "track":
        return TRACK_RATED if rated else TRACK_UNRATED
    if question.task in START_TASKS:
        return FROM_POINT_RATED if rated else FROM_POINT_UNRATED
    if (
        question.kind == "images"
        and question.task == "point"
        and question.images is None
        and rng.random() < 0.5
    ):
        return POINT_IN_ALL
    return PLACES[question.task, question.kind]


def _inference_words(question: PlaceQuestion, clip: Clip, *, rated: bool) -> str | None:
    """The words that inference has for this question, without the style; None when it never asks so."""
    query = _query(question, clip, rated=rated)
    if query is None:
        return None
    return build_prompt(query, clip).text.removeprefix(f"{question.style}: ")


def _query(question: PlaceQuestion, clip: Clip, *, rated: bool) -> Query | None:
    label, rate = question.label, question.rate_fps
    if question.images is not None:
        return None
    if question.task == "point":
        return Query.point(label)
    if question.task == "point_then_count":
        return Query.count(label)
    if question.task == "track" and (not rated or (rate is not None and rate != DEFAULT_TRACK_FPS)):
        return Query.track(label, fps=rate if rated and rate is not None else DEFAULT_TRACK_FPS)
    if question.start is not None and rate is not None:
        frame, point = clip.frames[0], question.start.point
        at = (
            question.start.time_s,
            to_pixels(point.x, frame.width_px),
            to_pixels(point.y, frame.height_px),
        )
        return Query.track(label, fps=rate, at=at)
    return None


def _one(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]

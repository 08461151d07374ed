"""What questions say, and that none says more than it may."""

from __future__ import annotations

import itertools
import string

import numpy as np
import pytest

from molmo2_ground.answer import Group, ParsedPoint, parse_answer
from molmo2_ground.query import Query, build_prompt
from molmo2_ground.train import phrasings
from molmo2_ground.train.place_answers import Start
from molmo2_ground.train.place_question import PlaceQuestion, label_of, place_words
from molmo2_ground.train.rows import MediumKind, TaskName
from molmo2_ground.train.styles import style_of
from molmo2_ground.train.task_rules import FINE_TUNING, PRETRAINING, TaskRules
from tests.made_rows import film, pictures

MOVING: tuple[TaskName, ...] = ("track", "first_last", "track_from_point", "track_from_box")
ASKABLE: list[tuple[TaskName, MediumKind]] = [
    *phrasings.PLACES,
    ("track", "video"),
    ("track_from_point", "video"),
]
START = Start(time_s=0.5, point=ParsedPoint(object_id=1, x=100, y=200))
CLIPS = {"image": pictures(), "images": pictures(3), "video": film(0.0, 0.5, 1.0)}


def question(
    task: TaskName, kind: MediumKind, *, label: str = "the dogs", rate: float | None = 2.0
) -> PlaceQuestion:
    style = style_of(task, kind)
    assert style is not None
    return PlaceQuestion(
        task=task,
        kind=kind,
        style=style,
        label=label,
        rate_fps=rate if task in MOVING else None,
        start=START if task == "track_from_point" else None,
    )


def words(asked: PlaceQuestion, count: int = 300, rules: TaskRules = FINE_TUNING) -> list[str]:
    rng = np.random.default_rng(3)
    return [place_words(asked, CLIPS[asked.kind], rng=rng, rules=rules) for _ in range(count)]


def templates(task: TaskName, kind: MediumKind) -> tuple[str, ...]:
    if task == "track":
        return (*phrasings.TRACK_RATED, *phrasings.TRACK_UNRATED)
    if task == "track_from_point":
        return (*phrasings.FROM_POINT_RATED, *phrasings.FROM_POINT_UNRATED)
    return phrasings.PLACES[task, kind]


@pytest.mark.parametrize(("task", "kind"), ASKABLE)
def test_each_task_has_several_sentences_and_all_come_up(task: TaskName, kind: MediumKind) -> None:
    assert len(set(templates(task, kind))) == len(templates(task, kind)) >= 5
    rated = {False, task in MOVING}
    heard = {text for rate in rated for text in words(question(task, kind, rate=2.0 if rate else None), 600)}
    for template in templates(task, kind):
        fixed = max((part for part, *_ in string.Formatter().parse(template)), key=len)
        assert any(fixed in text for text in heard), template


@pytest.mark.parametrize(("task", "kind"), ASKABLE)
def test_no_question_gives_its_answer_away(task: TaskName, kind: MediumKind) -> None:
    for text in {*words(question(task, kind)), *words(question(task, kind), rules=PRETRAINING)}:
        read = parse_answer(text)
        points = [point for e in read.elements for group in e.groups for point in group.points]
        # Only the point to start at stands in a question.
        assert points == ([START.point] if task == "track_from_point" else [])
        assert read.stated_count is None
        assert read.says_none == ("There are none" in text)
        if read.says_none:
            assert task == "point"


@pytest.mark.parametrize("kind", ["image", "images", "video"])
def test_the_words_alone_say_what_form_the_answer_has(kind: MediumKind) -> None:
    by_task = {task: set(words(question(task, kind), 600)) for task, medium in ASKABLE if medium == kind}
    for one, other in itertools.combinations(by_task, 2):
        assert not by_task[one] & by_task[other]


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        pytest.param(question("point", "image"), Query.point("the dogs"), id="point-image"),
        pytest.param(question("point", "images"), Query.point("the dogs"), id="point-images"),
        pytest.param(question("point", "video"), Query.point("the dogs"), id="point-video"),
        pytest.param(question("point_then_count", "image"), Query.count("the dogs"), id="count-image"),
        pytest.param(question("point_then_count", "images"), Query.count("the dogs"), id="count-images"),
        pytest.param(question("point_then_count", "video"), Query.count("the dogs"), id="count-video"),
        pytest.param(question("track", "video"), Query.track("the dogs"), id="track"),
        pytest.param(question("track", "video", rate=1.0), Query.track("the dogs", fps=1), id="track-1"),
        pytest.param(
            question("track_from_point", "video"),
            Query.track("the dogs", at=(0.5, 10.0, 10.0)),
            id="track-from-point",
        ),
    ],
)
def test_the_words_of_inference_come_most_often(asked: PlaceQuestion, query: Query) -> None:
    heard = words(asked, 600)
    counts = {text: heard.count(text) for text in set(heard)}
    inference = build_prompt(query, CLIPS[asked.kind]).text
    assert max(counts, key=counts.__getitem__) == inference
    assert counts[inference] / 600 > 0.12


def test_half_of_the_default_rate_goes_without_saying() -> None:
    heard = words(question("track", "video"), 800)
    said = sum("2 FPS" in text or "2 frames per second" in text or "1/2 of" in text for text in heard)
    assert 0.42 < said / 800 < 0.58
    for text in words(question("track", "video", rate=1.0)):
        assert "1 FPS" in text or "1 frames per second" in text or "1/1 of" in text


@pytest.mark.parametrize(
    ("task", "front"),
    [
        ("first_last", "video_point_ground_start_end: "),
        ("track_from_point", "video_single_point_track_per_frame: "),
        ("track", ""),
        ("point", ""),
        ("count", ""),
    ],
)
def test_styles_are_told_where_the_model_was_trained_with_them(task: TaskName, front: str) -> None:
    named = style_of(task, "video")
    for text in words(question(task, "video")):
        assert text.startswith(front)
        assert text.count(f"{named}:") == bool(front)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        pytest.param("The Dog.", "image", "the dog", id="single-picture"),
        pytest.param("The Dog.", "video", "The Dog", id="video"),
        pytest.param(" two\n lines ", "images", "two lines", id="one-line"),
    ],
)
def test_a_label_stands_in_a_sentence(text: str, kind: MediumKind, expected: str) -> None:
    assert label_of(text, kind) == expected


def test_an_article_goes_where_another_word_stands_for_it() -> None:
    for text in words(question("count", "image", label="the dogs")):
        assert not any(f"{word} the dogs" in text for word in ("many", "every", "each", "all", "any"))
    assert any("the dogs" in text for text in words(question("point", "image", label="the dogs")))
    assert any("thermos" in text for text in words(question("point", "image", label="thermos")))


def test_braces_in_a_label_are_letters() -> None:
    assert all("{fps}" in text for text in words(question("track", "video", label="the {fps} sign")))


def test_no_sentence_is_without_its_task_words() -> None:
    # A sentence that names no thing would have any answer.
    for (task, kind), options in phrasings.PLACES.items():
        for option in options:
            assert "{label}" in option or "{bare}" in option, (task, kind, option)
    assert all("{start}" in one for one in (*phrasings.FROM_POINT_RATED, *phrasings.FROM_POINT_UNRATED))
    assert all("{fps}" in one for one in (*phrasings.FROM_POINT_RATED, *phrasings.TRACK_RATED))


def test_the_point_to_start_at_is_written_as_answers_are() -> None:
    group = Group(key=0.5, points=(START.point,))
    (read,) = parse_answer(START.markup("the dogs")).elements
    assert read.groups == (group,)
    assert read.label == "the dogs"

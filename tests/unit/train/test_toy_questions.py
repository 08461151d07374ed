from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from molmo2_ground.train.toy.actors import COLOURS, Actor, ActorState
from molmo2_ground.train.toy.questions import PLURALS, Question, all_phrases, make_questions
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.street import demo_scene, make_scene

TIMES_S = (0.0, 1.0, 2.0, 3.0)
KIND_OF_WORD: dict[str, str] = {w: kind for kind, many in PLURALS.items() for w in (kind, many)}
Case = tuple[Scene, list[tuple[ActorState, ...]], list[int], list[Question]]


def look(scene: Scene, times_s: tuple[float, ...]) -> list[tuple[ActorState, ...]]:
    return [scene.truth(time_s, scene.render(time_s)[1]) for time_s in times_s]


def seen_in(states: list[tuple[ActorState, ...]]) -> list[int]:
    return sorted({s.object_id for frame in states for s in frame if s.visible})


# Nearly two hundred streets, so that every kind of question is among them.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    made = []
    for seed in range(190):
        scene = make_scene(seed, duration_s=4.0)
        states = look(scene, TIMES_S)
        visible = seen_in(states)
        questions = make_questions(scene, np.random.default_rng(seed), visible, 8, states=states)
        made.append((scene, states, visible, questions))
    return made


def meant(phrase: str, actors: list[Actor]) -> set[int] | None:
    """Read a phrase by itself: the ids of those that its kind and colour fit; None for other descriptions."""
    words = [w for w in phrase.split() if w not in ("the", "all", "every")]
    if not set(words) <= {*COLOURS, *KIND_OF_WORD, "object", "objects", "everything"}:
        return None
    kinds = [KIND_OF_WORD[w] for w in words if w in KIND_OF_WORD]
    colours = [w for w in words if w in COLOURS]
    return {
        a.object_id
        for a in actors
        if all(a.kind == kind for kind in kinds) and all(a.colour == colour for colour in colours)
    }


def test_the_ids_are_those_that_the_words_mean(cases: list[Case]) -> None:
    checked = 0
    for scene, _, visible, questions in cases:
        actors = [a for a in scene.actors if a.object_id in visible]
        for question in questions:
            wanted = meant(question.phrase, actors)
            if wanted is not None:
                assert set(question.object_ids) == wanted, question
                checked += 1
    assert checked > 1000


def test_nothing_is_asked_about_what_barely_shows(cases: list[Case]) -> None:
    """A red car of which a corner shows must make neither `none` nor a point right."""
    met = 0
    for scene, states, visible, questions in cases:
        shown = {s.object_id for frame in states for s in frame if s.visible_share > 0}
        doubtful = [a for a in scene.actors if a.object_id in shown - set(visible)]
        met += len(doubtful)
        for question in questions:
            assert meant(question.phrase, doubtful) in (set(), None), question
    assert met >= 5


def test_a_count_is_always_asked_in_the_plural(cases: list[Case]) -> None:
    counts = [q for case in cases for q in case[3] if q.task == "count"]
    plurals = {*PLURALS.values(), "objects"}
    assert all(q.phrase.split()[-1] in plurals for q in counts)
    spread = Counter(len(q.object_ids) for q in counts)
    assert all(spread[number] >= 5 for number in range(8))
    assert spread[0] + spread[1] < 0.65 * len(counts)


def test_both_forms_are_used_for_one_and_for_none(cases: list[Case]) -> None:
    """The form of the phrase gives away neither that there is just one nor that there is none."""
    forms: Counter[tuple[int, bool]] = Counter()
    for question in (q for case in cases for q in case[3] if q.task != "count"):
        last = question.phrase.split()[-1]
        plural = question.phrase.startswith(("all", "every")) or last in {*PLURALS.values(), "objects"}
        forms[min(len(question.object_ids), 2), plural] += 1
    assert forms[2, False] == 0
    for number in (0, 1):
        both = forms[number, True] + forms[number, False]
        assert 0.35 < forms[number, True] / both < 0.65


def test_some_questions_have_no_answer_and_most_of_those_are_near_misses(cases: list[Case]) -> None:
    placed = [(case, q) for case in cases if len(case[2]) >= 2 for q in case[3] if q.task != "count"]
    none = [(case, q) for case, q in placed if not q.object_ids]
    assert 0.10 < len(none) / len(placed) < 0.20
    near = 0
    for (scene, _, visible, _), question in none:
        actors = [a for a in scene.actors if a.object_id in visible]
        words = question.phrase.split()
        near += any(a.colour in words or a.kind in {KIND_OF_WORD.get(w) for w in words} for a in actors)
    assert near > 0.6 * len(none)


def test_often_only_the_colour_tells_which(cases: list[Case]) -> None:
    one_of_two = 0
    placed = [(case, q) for case in cases for q in case[3] if q.task != "count"]
    for (scene, _, visible, _), question in placed:
        if question.group == "both" and len(question.object_ids) == 1:
            target = scene.actors[question.object_ids[0] - 1]
            one_of_two += any(
                a.kind == target.kind and a.colour != target.colour and a.object_id in visible
                for a in scene.actors
            )
    assert one_of_two > 0.10 * len(placed)


def test_every_group_is_asked(cases: list[Case]) -> None:
    groups = Counter(q.group for case in cases for q in case[3])
    assert set(groups) == {"kind", "colour", "both", "motion", "size", "position", "all", "none"}
    assert min(groups.values()) >= 20


def test_moving_and_parked_are_clear(cases: list[Case]) -> None:
    checked = 0
    for scene, states, _, questions in cases:
        for question in questions:
            if question.group != "motion":
                continue
            for object_id in question.object_ids:
                shown = [f[object_id - 1] for f in states if f[object_id - 1].visible]
                shift = max(np.hypot(s.x_px - shown[0].x_px, s.y_px - shown[0].y_px) for s in shown)
                moving = "moving" in question.phrase
                assert scene.actors[object_id - 1].moving == moving
                assert not moving or shift > 12
                checked += 1
    assert checked > 30


def test_places_are_clear_in_the_first_frame(cases: list[Case]) -> None:
    checked = 0
    for scene, states, visible, questions in cases:
        for question in questions:
            if question.group != "position":
                continue
            one = question.phrase.split()[1]
            rivals = [a for a in scene.actors if a.object_id in visible and one in (a.kind, "object")]
            first = {a.object_id: states[0][a.object_id - 1] for a in rivals}
            axis, sign = {"left": ("x", 1), "right": ("x", -1), "top": ("y", 1), "bottom": ("y", -1)}[
                question.phrase.split()[-1]
            ]
            ends = sorted((sign * getattr(s, f"{axis}_px"), i) for i, s in first.items())
            assert (ends[0][1],) == question.object_ids
            assert ends[1][0] - ends[0][0] >= 60
            checked += 1
    assert checked > 10


def test_a_single_picture_shows_no_motion() -> None:
    for seed in range(60):
        scene = make_scene(seed, duration_s=4.0)
        states = look(scene, (1.0,))
        questions = make_questions(scene, np.random.default_rng(seed), seen_in(states), 10, states=states)
        assert not [q for q in questions if q.group == "motion"]


def test_phrases_are_known_and_no_question_comes_twice(cases: list[Case]) -> None:
    known = set(all_phrases())
    for *_, questions in cases:
        assert len({(q.task, q.phrase) for q in questions}) == len(questions) == 8
        assert all(q.phrase in known for q in questions)


def test_only_the_wanted_tasks() -> None:
    scene = make_scene(4, duration_s=4.0)
    questions = make_questions(scene, np.random.default_rng(0), [1], 6, tasks=("count",))
    assert {q.task for q in questions} == {"count"}


def test_the_same_generator_asks_the_same() -> None:
    scene = make_scene(4, duration_s=4.0)
    states = look(scene, TIMES_S)
    first, again = (
        make_questions(scene, np.random.default_rng(5), seen_in(states), 8, states=states) for _ in range(2)
    )
    assert first == again


def test_without_states_the_whole_scene_is_looked_at() -> None:
    scene = demo_scene()
    visible = [a.object_id for a in scene.actors]
    questions = make_questions(scene, np.random.default_rng(1), visible, 60)
    assert any(q.group == "motion" and q.object_ids for q in questions)


def test_an_empty_scene_can_be_asked_about() -> None:
    scene = make_scene(1, duration_s=4.0, max_actors=0)
    questions = make_questions(scene, np.random.default_rng(1), [], 6, states=look(scene, TIMES_S))
    assert len(questions) == 6
    assert all(q.object_ids == () for q in questions)

"""The scores of the tiny model: perfect answers score 1, wrong ones are counted as what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.grounder import Grounder
from molmo2_ground.sources.sampling import rate_grid, uniform_last_frame
from molmo2_ground.train.toy.clip_file import write_clip
from molmo2_ground.train.toy.questions import Question
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy_examples import answer_text
from molmo2_ground.train.toy_score import Tally, held_out, score_clip
from molmo2_ground.train.toy_view import show


def exact_answer(scene: Scene, question: Question) -> str:
    times = (
        rate_grid(scene.duration_s, rate=2.0, max_frames=99)
        if question.task == "track"
        else uniform_last_frame(scene.duration_s, max_frames=99)
    )
    # A player shows the last frame at the end of the clip: the scene itself goes on.
    times = np.minimum(times, scene.duration_s - 1 / 30)
    return answer_text(question, show(scene, times, "video", np.random.default_rng(0)))


def scored(tmp_path: Path, answers: list[str], scene: Scene, questions: list[Question]) -> dict[str, float]:
    path = tmp_path / "clip.mp4"
    write_clip(scene, path)
    tally = Tally()
    score_clip(Grounder(ScriptedBackend(answers)), scene, questions, path, tally)
    return tally.figures()


@pytest.fixture(scope="module")
def street() -> tuple[Scene, list[Question]]:
    """A held-out clip with questions of every task, with and without answers."""
    return next(
        (scene, questions)
        for scene, questions in held_out(40)
        if {q.task for q in questions if q.object_ids} == {"track", "point", "count"}
        and len(scene.actors) > 2
    )


def test_exact_answers_score_one(tmp_path: Path, street: tuple[Scene, list[Question]]) -> None:
    scene, questions = street
    figures = scored(tmp_path, [exact_answer(scene, q) for q in questions], scene, questions)
    assert {name: value for name, value in figures.items() if not np.isnan(value) and value < 1} == {}


def test_saying_none_to_everything_finds_nothing(
    tmp_path: Path, street: tuple[Scene, list[Question]]
) -> None:
    scene, questions = street
    figures = scored(tmp_path, ["There are none."] * len(questions), scene, questions)
    assert figures["track_f1"] == figures["point_f1"] == figures["not_none"] == 0


def test_points_on_the_road_are_wrong(tmp_path: Path, street: tuple[Scene, list[Question]]) -> None:
    scene, questions = street
    asked = [q for q in questions if q.task == "point" and q.object_ids][:1]
    figures = scored(tmp_path, ['<points coords="0.0 1 000 000">x</points>'], scene, asked)
    assert figures["point_f1"] == 0
    assert figures["not_none"] == 1

"""What training asks about the toy street, and that its answers are true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from molmo2_ground.answer import parse_answer
from molmo2_ground.train.tiny import CLIPS
from molmo2_ground.train.tiny_text import Text
from molmo2_ground.train.toy.actors import KINDS
from molmo2_ground.train.toy.questions import PLURALS
from molmo2_ground.train.toy.street import demo_scene, make_scene
from molmo2_ground.train.toy_examples import (
    ToyBatches,
    _for_a_while,
    _out_of_sight,
    answer_text,
)
from molmo2_ground.train.toy_view import FIRST_TRAINING_SEED, View, show

TEXT = Text.build()


def views(count: int) -> list[View]:
    """Two seconds out of the middle of scenes."""
    rng = np.random.default_rng(5)
    scenes = (make_scene(FIRST_TRAINING_SEED + seed, duration_s=8.0) for seed in range(count))
    return [show(scene, 3.0 + np.arange(4) / 2, "video", rng) for scene in scenes]


@pytest.mark.slow
def test_what_is_out_of_sight_is_asked_for_and_not_there() -> None:
    rng = np.random.default_rng(0)
    asked = 0
    for view in views(24):
        for question in _out_of_sight(view, rng, ("track", "point", "count")):
            asked += 1
            colour, word = question.phrase.removeprefix("the ").split()
            kind = next(kind for kind in KINDS if word in (kind, PLURALS[kind]))
            alike = {a.object_id for a in view.scene.actors if (a.colour, a.kind) == (colour, kind)}
            shown = {s.object_id for states in view.states for s in states if s.visible_share > 0}
            assert alike, "it belongs to the scene"
            assert not shown & alike
            assert answer_text(question, view) == "There are none."
    assert asked >= 3


@pytest.mark.slow
def test_what_comes_and_goes_has_places_only_where_it_shows() -> None:
    rng = np.random.default_rng(0)
    asked = 0
    for view in views(12):
        for question in _for_a_while(view, rng):
            asked += 1
            (element,) = parse_answer(answer_text(question, view)).elements
            times = [group.key for group in element.groups]
            wanted = set(question.object_ids)
            shown = [
                frame.shown_time_s
                for frame, states in zip(view.clip.frames, view.states, strict=True)
                if any(s.visible and s.object_id in wanted for s in states)
            ]
            assert times == shown
            assert any(not s.visible for states in view.states for s in states if s.object_id in wanted), (
                "something of it is out of sight for a while"
            )
    assert asked >= 4


def test_the_demo_hides_what_it_asks_for() -> None:
    scene = demo_scene()
    view = show(scene, np.arange(16) / 2, "video", np.random.default_rng(0))
    phrases = {q.phrase for seed in range(30) for q in _for_a_while(view, np.random.default_rng(seed))}
    assert phrases & {"the red car", "the red cars"}


@pytest.mark.parametrize("n_frames", [1, 3, 8])
def test_a_batch_can_be_made_again_alone(n_frames: int) -> None:
    data = replace(CLIPS, frames=(n_frames,), tokens=800, looks=1, questions=3)
    batches = ToyBatches(data, TEXT.writer, TEXT.flags, seed=3, steps=10)
    first, again = batches[7], batches[7]
    np.testing.assert_array_equal(first.frames_FNV, again.frames_FNV)
    np.testing.assert_array_equal(first.trees.ids, again.trees.ids)
    # As many pictures as the prefixes have places for.
    assert len(first.visual_slots) == first.frames_FNV.shape[0] * 36


def test_a_step_outside_the_stage_is_refused() -> None:
    batches = ToyBatches(CLIPS, TEXT.writer, TEXT.flags, seed=3, steps=10)
    with pytest.raises(IndexError):
        batches[10]

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from molmo2_ground import _cli_eval
from molmo2_ground.cli import main
from molmo2_ground.eval.example import Example, Suite
from molmo2_ground.eval.predictions import asked_digest
from molmo2_ground.eval.record import read_run
from molmo2_ground.eval.words import score_words
from molmo2_ground.masks.prompts import Prompts
from molmo2_ground.rle import Rle
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX
from molmo2_ground.train.toy_masks import FILM_FPS, Films, ToyMasks, mask_marks, moved_to, paired
from molmo2_ground.train.toy_suite import ToySuite
from tests.made_up_answers import empty, perfect
from tests.unit.test_cli_eval import says_none

MASKS = ("j", "f", "j_and_f")
ALL = {*MASKS, *(f"true_point_{name}" for name in MASKS)}


def first_tracked(suite: ToySuite) -> Example:
    return next(e for e in suite.examples() if e.query.task == "track" and e.truth.objects)


def test_it_is_a_suite_that_travels_to_another_process() -> None:
    suite = ToyMasks(2, segmenter="region")
    assert isinstance(suite, Suite)
    again = pickle.loads(pickle.dumps(suite))
    assert (again.segmenter, again.settings, again.headline) == ("region", suite.settings, suite.headline)


def test_kept_answers_are_those_of_the_suite_without_masks() -> None:
    plain, masks = ToySuite(2), ToyMasks(2)
    assert list(plain.examples()) == list(masks.examples())
    for example in plain.examples():
        digests = {
            asked_digest(example, suite=s.name, settings=s.settings, identity="model", threads=1)
            for s in (plain, masks)
        }
        assert len(digests) == 1


@pytest.mark.slow
def test_questions_that_track_nothing_have_no_masks_to_score() -> None:
    suite = ToyMasks(12)
    others = [e for e in suite.examples() if e.query.task != "track" or not e.truth.objects]
    assert {e.query.task for e in others} >= {"track", "point"}
    for example in others:
        assert suite.score(example, empty(example)) == ToySuite(12).score(example, empty(example))


def test_what_was_pointed_to_is_moved_to_the_frames_of_the_same_times() -> None:
    suite = ToyMasks(12)
    example = first_tracked(suite)
    held_out, _ = suite.asked(example.key)
    film = held_out.filmed_at(FILM_FPS)
    prompts = Prompts.of(perfect(example))
    moved = moved_to(film, prompts, asked=held_out)
    assert [film.time_s(i) for i in moved.looked] == list(example.truth.frame_times_s)
    for before, after in zip(prompts.points, moved.points, strict=True):
        assert film.time_s(after.source_index) == held_out.time_s(before.source_index)
        assert dataclasses.replace(after, source_index=before.source_index) == before
        assert moved.in_frame(after.source_index)
    between = dataclasses.replace(prompts, looked=(0, 1, 3, 15))
    assert moved_to(film, between, asked=held_out).looked == (0, 2, 8, 38)


@pytest.mark.slow  # makes masks of a clip four times
def test_scores_beside_those_of_the_suite() -> None:
    suite, plain = ToyMasks(12), ToySuite(12)
    example = first_tracked(suite)
    right, nothing = perfect(example), empty(example)
    scores = suite.score(example, right)
    assert scores.items() >= plain.score(example, right).items()
    assert set(scores) - set(plain.score(example, right)) == ALL
    # Places without a mistake are the true ones.
    assert all(scores[name] == scores[f"true_point_{name}"] for name in MASKS)
    assert scores["j_and_f"] == pytest.approx((scores["j"] + scores["f"]) / 2)
    assert scores["j_and_f"] > 0.7
    missed = suite.score(example, nothing)
    assert [missed[name] for name in MASKS] == [0.0, 0.0, 0.0]
    assert missed["true_point_j_and_f"] == scores["true_point_j_and_f"]
    unread = suite.score(example, None)
    assert (unread["j_and_f"], unread["true_point_j"]) == (0.0, scores["true_point_j"])


def film(left: int, frames: tuple[int, ...] = (0, 1), *, size: int = 40) -> dict[int, Rle]:
    """A square of 40 pixels, or less, in these frames of a toy clip."""
    mask = np.zeros((FRAME_HEIGHT_PX, FRAME_WIDTH_PX), dtype=bool)
    mask[100 : 100 + size, left : left + size] = True
    return {index: Rle.encode(mask) for index in frames}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param({1: film(50), 2: film(300)}, (1.0, 1.0), id="both"),
        pytest.param({8: film(300), 9: film(50)}, (1.0, 1.0), id="by-their-masks-and-not-their-numbers"),
        pytest.param({1: film(50)}, (0.5, 0.5), id="one-of-two"),
        pytest.param({}, (0.0, 0.0), id="none"),
        pytest.param({1: film(50), 2: film(300), 3: film(500)}, (1.0, 1.0), id="one-too-many-costs-nothing"),
        pytest.param({1: film(50, (0, 1, 2)), 2: film(300)}, (1.0, 1.0), id="frames-beyond-do-not-count"),
        pytest.param({1: film(50, (1,)), 2: film(300)}, (0.75, 0.75), id="a-frame-without-a-mask"),
        pytest.param({1: film(50, size=20), 2: film(300)}, (0.625, None), id="a-quarter-of-one"),
    ],
)
def test_masks_against_the_true_ones(found: Films, expected: tuple[float, float | None]) -> None:
    truth = {1: film(50), 2: film(300)}
    scores = mask_marks(paired(found, truth), truth)
    j, f = expected
    assert scores["j"] == pytest.approx(j)
    if f is not None:
        assert scores["f"] == pytest.approx(f)
    assert scores["j_and_f"] == pytest.approx((scores["j"] + scores["f"]) / 2)


@pytest.mark.slow
def test_masks_from_true_points_reach_what_is_promised() -> None:
    """J&F of at least 0.80 on frames in which the object is visible."""
    suite = ToyMasks(20)
    found = [
        suite.score(example, empty(example))["true_point_j_and_f"]
        for example in suite.examples()
        if example.query.task == "track" and example.truth.objects
    ]
    assert len(found) > 8
    assert np.mean(found) >= 0.80


@pytest.mark.slow
def test_the_command_takes_a_segmenter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "toy", "--clips", "1", "--limit", "1", "--quiet", "--masks", "--report", str(tmp_path)]
    assert main(command, loader=says_none) == 0
    assert "Answers read" in capsys.readouterr().out
    card = read_run(tmp_path).card
    assert card.headline[-2:] == ("j_and_f", "true_point_j_and_f")
    assert card.settings.note.endswith("; masks by region")
    assert dataclasses.replace(card.settings, note=ToySuite.settings.note) == ToySuite.settings
    assert card.suite == _cli_eval.TOY


def test_every_score_has_words() -> None:
    assert all(score_words(name).meaning for name in ALL)

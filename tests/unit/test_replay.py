from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.clip import Clip
from molmo2_ground.errors import AnswerError
from molmo2_ground.export import dumps, loads
from molmo2_ground.grounder import Grounder
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.replay import Result, derive, differences
from molmo2_ground.results import Answer, Count, Points, Receipt, Tracks

CLIP = Clip.from_arrays(np.zeros((6, 50, 80, 3), dtype=np.uint8), fps=2.0)
TRACKS = '<tracks coords="0.0 1 333 250;0.5 1 667 250 2 100 100">cars</tracks>'
POINTS = '<points coords="0.5 1 333 500 2 667 500">cars</points>'


def grounder(*answers: str, max_frames: int = 384) -> Grounder:
    limits = ModelLimits(max_frames=max_frames, max_fps=2.0, max_crops=8, context_tokens=36864)
    return Grounder(ScriptedBackend(answers, limits=limits))


def tracks() -> Tracks:
    return grounder(TRACKS).track(CLIP, "cars")


def windowed() -> Tracks:
    return grounder(TRACKS, TRACKS, max_frames=4).track(CLIP, "cars", max_objects=3)


def points() -> Points:
    return grounder(POINTS).point(CLIP, "cars", max_objects=1)


def count() -> Count:
    return grounder(f"There are 3 {POINTS}.").count(CLIP, "cars")


def answer() -> Answer:
    return grounder(f"{POINTS} then {TRACKS}").ask(CLIP, "What moves?")


MAKERS = [pytest.param(make, id=make.__name__) for make in (tracks, windowed, points, count, answer)]


@pytest.mark.parametrize("make", MAKERS)
def test_the_file_gives_the_same_objects_without_a_model(make: Callable[[], Result]) -> None:
    read = loads(dumps(make()))
    derived = derive(read.receipt)
    assert differences(read, derived) == ()
    assert derived == read


def test_windows_are_joined_again() -> None:
    receipt = windowed().receipt
    assert len(receipt.windows) == 2
    assert derive(receipt) == windowed()


def changed_text(receipt: Receipt, before: str, after: str) -> Receipt:
    assert before in receipt.raw_text
    windows = tuple(changed_text(w, before, after) for w in receipt.windows)
    text = receipt.raw_text.replace(before, after)
    return receipt.model_copy(update={"raw_text": text, "windows": windows})


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS)
def test_a_changed_answer_is_told_with_both_values(make: Callable[[], Result]) -> None:
    result = make()
    lines = differences(result, derive(changed_text(result.receipt, "1 333", "1 334")))
    assert lines
    x_lines = [line for line in lines if "x_norm" in line]
    assert all("is 0.333 in the file and 0.334 from the receipt" in line for line in x_lines)
    assert x_lines


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            TRACKS.replace(" 2 100 100", ""),
            "object 2 label is in the file, and the receipt does not give it",
            id="one-less",
        ),
        pytest.param(
            TRACKS.replace("2 100 100", "2 100 100 3 200 200"),
            "object 3 label is not in the file, and the receipt gives it",
            id="one-more",
        ),
        pytest.param(
            TRACKS.replace(">cars<", ">buses<"),
            "object 1 label is cars in the file and buses from the receipt",
            id="another-label",
        ),
    ],
)
def test_objects_that_come_and_go_are_told(text: str, words: str) -> None:
    result = tracks()
    derived = derive(result.receipt.model_copy(update={"raw_text": text}))
    assert words in differences(result, derived)


def test_a_changed_count_is_told() -> None:
    result = count()
    derived = derive(changed_text(result.receipt, "There are 3", "There are 4"))
    assert differences(result, derived) == ("stated is 3 in the file and 4 from the receipt",)


def test_results_of_two_kinds_differ() -> None:
    assert differences(tracks(), points()) == ("the file holds Tracks, the receipt gives Points",)


def test_a_receipt_of_no_known_task_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'guess'"):
        derive(tracks().receipt.model_copy(update={"task": "guess"}))


def test_a_receipt_whose_answer_cannot_be_read_is_an_answer_error() -> None:
    with pytest.raises(AnswerError):
        derive(tracks().receipt.model_copy(update={"raw_text": "no idea"}))

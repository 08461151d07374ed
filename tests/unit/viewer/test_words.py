from __future__ import annotations

import pytest

from molmo2_ground.render import Result
from molmo2_ground.results import Answer, Count, ParseReport, Rejected
from molmo2_ground.viewer.words import cautions, in_words
from tests.found import points, receipt, track, tracks

GRID_S = [i / 2 for i in range(8)]
CAR = track({0.5: (1.0, 1.0), 1.0: (2.0, 2.0), 3.0: (3.0, 3.0)})
VAN = track({1.0: (9.0, 9.0)}, object_id=2)
MUGS = points([(1.0, 1.0), (2.0, 2.0)])


@pytest.mark.parametrize(
    ("result", "words"),
    [
        pytest.param(
            tracks(CAR, looked_s=GRID_S),
            "One object followed, seen in 3 of the 8 frames that the model looked at, "
            "from 0:00.50 to 0:03.00.",
            id="a track",
        ),
        pytest.param(
            tracks(CAR, VAN, looked_s=GRID_S),
            "2 objects followed, seen in 3 of the 8 frames that the model looked at, "
            "from 0:00.50 to 0:03.00.",
            id="two tracks",
        ),
        pytest.param(
            tracks(VAN, looked_s=GRID_S),
            "One object followed, seen in 1 of the 8 frames that the model looked at, at 0:01.00.",
            id="one sighting",
        ),
        pytest.param(tracks(looked_s=GRID_S), "Found none.", id="no track"),
        pytest.param(points([]), "Found none.", id="no point"),
        pytest.param(MUGS, "Found 2.", id="points of an image"),
        pytest.param(
            points([(1.0, 1.0)] * 2, source_indices=[0, 3]), "Found 2, in 2 images.", id="two images"
        ),
        pytest.param(
            points([(1.0, 1.0)] * 2, times_s=[61.0, 2.5]),
            "Found 2, from 0:02.50 to 1:01.00.",
            id="points of a video",
        ),
        pytest.param(Count(value=2, stated=2, points=MUGS), "Counted 2.", id="count"),
        pytest.param(Count(value=0, stated=0, points=points([])), "Counted none.", id="count of none"),
        pytest.param(
            Count(value=9, stated=9, points=points([])),
            "Counted 9, without pointing at them.",
            id="number only",
        ),
        pytest.param(Answer(text=" A dog.\n", receipt=receipt()), "A dog.", id="answer"),
        pytest.param(Answer(text=" ", receipt=receipt()), "The model wrote nothing.", id="empty answer"),
    ],
)
def test_a_result_in_words(result: Result, words: str) -> None:
    assert in_words(result) == words


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({}, (), id="nothing to say"),
        pytest.param(
            {"report": ParseReport(truncated=True)},
            ("The answer was cut off at the token limit; there may have been more.",),
            id="cut off",
        ),
        pytest.param(
            {"report": ParseReport(rejected=(Rejected(text="1 2", reason="short"),), repeats_cut=3)},
            (
                "The answer repeated itself; 3 repeats were left out.",
                "1 piece of the answer could not be used; see below.",
            ),
            id="repeats and one piece",
        ),
        pytest.param(
            {"lost": ("frames 3 to 5 are damaged",), "notes": ("the cap of 384 frames was hit.",)},
            ("Frames 3 to 5 are damaged.", "The cap of 384 frames was hit."),
            id="source and notes",
        ),
    ],
)
def test_what_a_reader_should_know(fields: dict[str, object], said: tuple[str, ...]) -> None:
    assert cautions(tracks(CAR, looked_s=GRID_S, **fields)) == said


def test_a_count_that_differs_from_the_text_is_said() -> None:
    assert cautions(Count(value=2, stated=5, points=MUGS)) == (
        "The text says 5, but 2 places were pointed at.",
    )
    assert cautions(Count(value=2, stated=None, points=MUGS)) == ()

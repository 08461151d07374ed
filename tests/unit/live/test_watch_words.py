from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from molmo2_ground.analytics import Line, Zone
from molmo2_ground.live.watch import Watch, plain
from molmo2_ground.live.watch_words import FORMS

RED = Zone(name="red zone", polygon=((0, 0), (50, 0), (50, 100), (0, 100)))
YARD = Zone(name="Yard", polygon=((50, 0), (100, 0), (100, 100), (50, 100)))
GATE = Line(name="gate", start=(50, 0), end=(50, 100))
KERB = Line(name="the old kerb", start=(0, 50), end=(100, 50))


def read(sentence: str, **options: Any) -> Watch:
    return Watch.read(sentence, zones=[RED, YARD], lines=[GATE, KERB], **options)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        pytest.param("someone enters the red zone", {"kind": "enters", "zone": RED}, id="enters"),
        pytest.param("Tell me when anyone comes into YARD.", {"kind": "enters", "zone": YARD}, id="lead in"),
        pytest.param("someone enters red", {"kind": "enters", "zone": None}, id="half a name"),
        pytest.param(
            "a person leaves the yard zone",
            {"kind": "leaves", "zone": YARD, "label": "a person"},
            id="leaves",
        ),
        pytest.param(
            "people go out of the yard", {"kind": "leaves", "zone": YARD, "label": "people"}, id="go out of"
        ),
        pytest.param("someone crosses the gate", {"kind": "crosses", "line": GATE}, id="either way"),
        pytest.param(
            "someone crosses the gate in", {"kind": "crosses", "line": GATE, "direction": "in"}, id="in"
        ),
        pytest.param(
            "a red car goes over the old kerb outwards",
            {"kind": "crosses", "line": KERB, "direction": "out", "label": "a red car"},
            id="outwards",
        ),
        pytest.param("when a car appears", {"kind": "appears", "label": "a car"}, id="appears"),
        pytest.param("it goes out of sight", {"kind": "disappears"}, id="out of sight"),
        pytest.param(
            "someone stays in the yard for more than two minutes",
            {"kind": "stays", "zone": YARD, "seconds": 120.0},
            id="minutes in words",
        ),
        pytest.param(
            "someone is for 1.5s in the red zone",
            {"kind": "stays", "zone": RED, "seconds": 1.5},
            id="time first",
        ),
        pytest.param(
            "at least 3 people in the yard",
            {"kind": "count_at_least", "zone": YARD, "number": 3, "label": "people"},
            id="at least",
        ),
        pytest.param(
            "more than two people are in the yard",
            {"kind": "count_at_least", "zone": YARD, "number": 3, "label": "people"},
            id="more than",
        ),
        pytest.param(
            "there are fewer than 2 things", {"kind": "count_at_most", "number": 1}, id="fewer, anywhere"
        ),
        pytest.param(
            "at most 0 cars inside the red zone",
            {"kind": "count_at_most", "number": 0, "label": "cars", "zone": RED},
            id="none",
        ),
    ],
)
def test_sentences_mean_what_they_say(sentence: str, expected: dict[str, Any]) -> None:
    if expected.get("zone", RED) is None:
        expected["zone"] = Zone(name="red", polygon=RED.polygon)
        watch = Watch.read(sentence, zones=[expected["zone"]])
    else:
        watch = read(sentence)
    fields = ("kind", "zone", "line", "direction", "number", "seconds", "label", "question")
    told = {name: getattr(watch, name) for name in fields if getattr(watch, name) is not None}
    assert told == expected
    assert watch.name == sentence


@pytest.mark.parametrize("form", FORMS)
def test_every_form_that_the_error_names_can_be_read(form: str) -> None:
    zone = Zone(name="the yard", polygon=RED.polygon)
    Watch.read(form, zones=[RED, zone], lines=[GATE])


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        pytest.param("the light turns green", "expected one of these forms", id="no verb that is known"),
        pytest.param("", "expected one of these forms", id="nothing"),
        pytest.param("someone enters the blue zone", "no zone called 'the blue zone'", id="no such zone"),
        pytest.param(
            "someone enters the gate", "no zone called 'the gate'; there are: 'red zone'", id="a line"
        ),
        pytest.param("someone crosses the yard", "no line called 'the yard'; there are: 'gate'", id="a zone"),
        pytest.param("at least 1.5 people", "whole numbers; got 1.5", id="half a person"),
        pytest.param("fewer than 0 people", "always so, or never", id="never"),
    ],
)
def test_what_cannot_be_read_is_one_error_with_the_forms(sentence: str, words: str) -> None:
    with pytest.raises(ValueError, match="cannot read the watch") as caught:
        read(sentence)
    assert words in str(caught.value)
    assert all(form in str(caught.value) for form in FORMS)


def test_a_subject_that_is_a_question_means_its_things() -> None:
    watch = read("the people leave the yard", questions=["cars", "people"])
    assert (watch.question, watch.label) == ("people", None)
    assert read("the dogs leave the yard", questions=["people"]).label == "the dogs"


@pytest.mark.parametrize(
    "watch",
    [
        Watch.enters(RED),
        Watch.leaves(YARD, label="dog"),
        Watch.crosses(GATE, "out"),
        Watch.crosses(KERB),
        Watch.appears(),
        Watch.disappears(label="a red car"),
        Watch.stays(YARD, 2.5),
        Watch.count_at_least(None, 2),
        Watch.count_at_most(RED, 0, label="people"),
    ],
    ids=lambda watch: watch.name,
)
def test_a_watch_in_words_is_read_as_itself(watch: Watch) -> None:
    assert read(watch.words, name=watch.name) == watch


@pytest.mark.parametrize(
    ("label", "same"),
    [("person", True), ("A Person", True), ("persons", True), ("people", False), ("personal", False)],
)
def test_labels_are_compared_without_article_and_plural(label: str, same: bool) -> None:
    assert Watch.appears(label="the person").means(label) is same


def test_short_words_and_double_s_keep_their_end() -> None:
    assert [plain(words) for words in ("the bus", "glass", "a", "two  cars")] == [
        "bus",
        "glass",
        "a",
        "two car",
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "enters"}, "needs a zone"),
        ({"kind": "appears", "zone": RED}, "has no zone"),
        ({"kind": "crosses", "line": GATE, "direction": "left"}, "'in', 'out' or None"),
        ({"kind": "count_at_least", "number": 0}, "number from 1; got 0"),
        ({"kind": "appears", "debounce_s": -1.0}, "debounce_s is a number of seconds from 0; got -1"),
        ({"kind": "sleeps"}, "a watch is one of enters"),
        ({"kind": "enters", "zone": "red"}, "a watch's zone is a Zone; got 'red'"),
        ({"kind": "crosses", "line": RED}, "a watch's line is a Line; got Zone"),
        ({"kind": "count_at_least", "number": "3"}, "a watch's number is a whole number; got '3'"),
        ({"kind": "count_at_least", "number": True}, "a watch's number is a whole number; got True"),
        ({"kind": "appears", "cooldown_s": "3"}, "a watch's cooldown_s is a number; got '3'"),
        ({"kind": "appears", "label": 5}, "a watch's label is words; got 5"),
    ],
)
def test_a_watch_that_makes_no_sense_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Watch(name="w", **fields)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda w: w.enters("red"), "a watch's zone is a Zone; got 'red'", id="a-zone-by-name"),
        pytest.param(
            lambda w: w.crosses("gate"), "a watch's line is a Line; got 'gate'", id="a-line-by-name"
        ),
        pytest.param(lambda w: w.read(5), "read from a sentence; got 5", id="no-sentence"),
    ],
)
def test_what_a_watch_is_made_of_is_checked(make: Callable[[Any], Watch], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(Watch)

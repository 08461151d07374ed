from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.analytics import Appeared
from molmo2_ground.live.saying import Numbering, Said, messages_of
from molmo2_ground.live.update import Update, WatchEvent
from molmo2_ground.messages import CountMessage, MasksMessage, PointsMessage, TracksMessage
from molmo2_ground.messages.kinds import read_topic, topic_of
from molmo2_ground.query import Query
from molmo2_ground.results import Answer, Count, Point, Points, Tracks
from tests.found import receipt
from tests.made_updates import (
    EPOCH,
    START_NS,
    STEP_NS,
    VALID_NS,
    capture,
    live_track,
    look,
    mask_of,
    update,
)

PEOPLE = {"people": Query.track("people in vests")}
ASKED = {**PEOPLE, "cars": Query.count("cars"), "door": Query.point("the door"), "words": Query.ask("why?")}
NOTHING = Tracks(tracks=(), receipt=receipt())


def points(*places_px: tuple[float, float]) -> Points:
    found = tuple(
        Point(object_id=i, x_px=x, y_px=y, x_norm=x / 640, y_norm=y / 360, source_index=0, label="car")
        for i, (x, y) in enumerate(places_px, start=1)
    )
    return Points(points=found, receipt=receipt(task="point"))


def say(given: Update, questions: Any = None, numbering: Numbering | None = None) -> list[Said]:
    return list(messages_of(given, questions=questions or PEOPLE, numbering=numbering or Numbering()))


def test_tracks_say_place_age_and_question() -> None:
    (said,) = say(update(3, tracks=(live_track(7, state="propagated"),)))
    assert said.kind == "tracks"
    assert isinstance(said.message, TracksMessage)
    header, (detection,) = said.message.header, said.message.detections
    assert (header.source, header.question, header.query) == ("cam", "people", "people in vests")
    assert (header.stamp_ns, header.source_index, header.epoch) == (START_NS + 3 * STEP_NS, 3, EPOCH)
    assert (header.age_ms, header.valid_until_ns) == (40.0, header.stamp_ns + VALID_NS)
    assert (header.frame_id, header.size_px, header.status) == ("cam_optical_frame", (640, 360), "ok")
    assert (detection.id, detection.results[0].class_id, detection.state) == ("7", "person", "propagated")
    assert (detection.point.x, detection.point.y) == (160, 90)
    assert (detection.bbox.size_x, detection.bbox.center.position) == (0, detection.point)


def test_masks_give_boxes_and_a_message_of_their_own() -> None:
    tracks = (live_track(1, mask=mask_of(1, (100, 50, 140, 80))), live_track(2))
    followed, masks = say(update(tracks=tracks))
    assert isinstance(followed.message, TracksMessage)
    box = followed.message.detections[0].bbox
    assert (box.center.position.x, box.center.position.y, box.size_x, box.size_y) == (120, 65, 40, 30)
    assert isinstance(masks.message, MasksMessage)
    assert [mask.id for mask in masks.message.masks] == ["1"]


def test_none_found_is_said_and_not_answered_is_not() -> None:
    numbering = Numbering()
    assert say(update(0), numbering=numbering) == []
    assert say(update(1, looks=(look("people", None, error="no"),)), numbering=numbering) == []
    (said,) = say(update(2, looks=(look("people", NOTHING),)), numbering=numbering)
    assert isinstance(said.message, TracksMessage)
    assert said.message.detections == ()
    assert len(say(update(3), numbering=numbering)) == 1


def test_a_changed_question_is_unanswered_again() -> None:
    numbering = Numbering()
    say(update(0, looks=(look("people", NOTHING),)), numbering=numbering)
    assert say(update(1), {"people": Query.track("dogs")}, numbering) == []


def test_things_of_a_question_just_removed_are_said_without_its_words() -> None:
    (said,) = say(update(tracks=(live_track(question="gone"),)), {"people": Query.track("people")})
    assert (said.message.header.question, said.message.header.query) == ("gone", "")


@pytest.mark.parametrize(
    ("name", "result", "kind", "model"),
    [
        pytest.param("door", points((10, 20)), "points", PointsMessage, id="points"),
        pytest.param("door", points(), "points", PointsMessage, id="no-points"),
        pytest.param(
            "cars", Count(value=2, stated=3, points=points((1, 2))), "count", CountMessage, id="count"
        ),
        pytest.param(
            "words",
            Answer(text="…", points=points((1, 2)), receipt=receipt()),
            "points",
            PointsMessage,
            id="ask",
        ),
    ],
)
def test_answers_are_said_under_the_stamp_of_their_picture(
    name: str, result: Any, kind: str, model: type
) -> None:
    given = update(5, looks=(look(name, result, 3),))
    said = say(given, ASKED)[-1]
    assert said.kind == kind
    assert isinstance(said.message, model)
    header = said.message.header
    assert (header.stamp_ns, header.source_index) == (START_NS + 3 * STEP_NS, 3)
    assert header.recv_ns == header.stamp_ns + 20_000_000
    assert header.valid_until_ns == header.stamp_ns + VALID_NS  # of its own picture, not of the newest
    assert header.age_ms == pytest.approx(1040)
    assert (header.question, header.query) == (name, ASKED[name].phrase)


def test_free_text_alone_has_no_topic() -> None:
    assert say(update(looks=(look("words", Answer(text="so", receipt=receipt())),)), ASKED) == []


def test_an_answer_from_before_a_reconnect_keeps_its_epoch_and_age() -> None:
    # The camera counts from its own start: stamps of two connections cannot be subtracted.
    new = capture(9, epoch=EPOCH + 1, stamp_ns=5, clock="monotonic", recv_ns=START_NS + 4 * STEP_NS)
    late = look("door", points((1, 2)), 2, recv_ns=START_NS + 2 * STEP_NS, epoch=EPOCH)
    header = say(update(9, of=new, looks=(late,)), ASKED)[-1].message.header
    assert (header.epoch, header.recv_ns) == (EPOCH, START_NS + 2 * STEP_NS)
    assert header.age_ms == pytest.approx(40 + 1000)


def test_events_carry_what_happened() -> None:
    seen = Appeared(
        time_s=1.0, after_s=0.5, before_s=1.0, timing="sample", source_index=2, object_id=4, label="person",
        x_px=1.0, y_px=2.0, states=("observed",),
    )  # fmt: skip
    event = WatchEvent(
        watch="someone",
        question="people",
        event=seen,
        stamp_ns=START_NS + STEP_NS,
        source_index=2,
        receipt_of=9,
    )
    (said,) = say(update(4, events=(event,)))
    body = said.message.model_dump()
    assert (said.kind, body["name"], body["at_ns"], body["receipt_of"]) == (
        "events", "someone", START_NS + STEP_NS, 9,
    )  # fmt: skip
    assert body["header"]["source_index"] == 2
    assert Appeared.model_validate(body["event"] | {"states": ("observed",)}) == seen


def test_handed_over_late_is_stale() -> None:
    (said,) = say(update(tracks=(live_track(),)))
    until = said.message.header.valid_until_ns
    assert said.handed_over(until).message.header.status == "ok"
    late = said.handed_over(until + 1).message.header
    assert (late.status, late.pub_ns) == ("stale", until + 1)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["rate", "replaced"]), st.integers(0, 9)),
            st.booleans(),
            st.integers(0, 3),
        ),
        max_size=12,
    )
)
def test_numbers_and_dropped_are_exact_in_every_topic(steps: list[tuple[dict[str, int], bool, int]]) -> None:
    numbering = Numbering()
    said: list[Said] = []
    left_out: Counter[str] = Counter()
    told_until: dict[str, Counter[str]] = {}
    for index, (dropped, has_tracks, looks) in enumerate(steps):
        left_out.update(dropped)
        given = update(
            index,
            tracks=(live_track(),) if has_tracks else (),
            looks=tuple(look("door", points((1, 2)), index) for _ in range(looks)),
            dropped=dropped,
        )
        for one in say(given, ASKED, numbering):
            said.append(one)
            told_until[one.kind] = Counter(left_out)
    for kind in ("tracks", "points"):
        headers = [one.message.header for one in said if one.kind == kind]
        assert [header.seq for header in headers] == list(range(len(headers)))
        told: Counter[str] = Counter()
        for header in headers:
            told.update(header.dropped_since_last)
        assert +told == +told_until.get(kind, Counter())


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        pytest.param("cam-1", "molmo2/cam-1/tracks/", id="plain"),
        pytest.param("gate a/b", "molmo2/gate%20a%2Fb/tracks/", id="space-and-slash"),
        pytest.param("Süd", "molmo2/S%C3%BCd/tracks/", id="letters"),
    ],
)
def test_topics_hold_no_space_and_no_slash_of_a_name(name: str, topic: str) -> None:
    assert topic_of(name, "tracks") == topic
    assert read_topic(topic) == (name, "tracks")


@pytest.mark.slow
@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_no_two_names_share_a_topic(a: str, b: str) -> None:
    assert (topic_of(a, "count") == topic_of(b, "count")) == (a == b)


@pytest.mark.parametrize(
    "text", ["", "molmo2/", "molmo2//tracks/", "molmo2/a/tracks", "molmo2/a/b/tracks/", "x"]
)
def test_what_is_no_topic_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a topic is molmo2/<stream name>"):
        read_topic(text)


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_a_name_that_makes_no_topic_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 200 characters"):
        topic_of(name, "tracks")

"""The schemas that ship are what the models say, and an independent validator takes our messages by them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from pydantic import TypeAdapter

from molmo2_ground.analytics import Appeared
from molmo2_ground.live.saying import Numbering, messages_of
from molmo2_ground.live.update import WatchEvent
from molmo2_ground.messages.control import (
    AddRequest,
    ChangeRequest,
    ControlReply,
    ControlRequest,
    PingRequest,
    Question,
    QuestionsRequest,
    RemoveRequest,
    SnapshotRequest,
    StatusRequest,
)
from molmo2_ground.messages.schemas import FOLDER, MODELS, make_schema, schema_file, schema_text
from molmo2_ground.query import Query
from molmo2_ground.results import Count
from molmo2_ground.sources.feeds import camera_parts
from tests.made_updates import live_track, look, mask_of, update
from tests.unit.live.test_saying import ASKED, points
from tests.zeromq_peers import health

QUESTION = Question.of(Query.track("people", fps=1.0))


def schema_of(name: str) -> Any:
    return json.loads(schema_file(name).read_text(encoding="utf-8"))


def messages() -> list[Any]:
    given = update(
        2,
        tracks=(live_track(mask=mask_of(1, (1, 2, 30, 40))), live_track(2, state="predicted")),
        looks=(
            look("door", points((1, 2))),
            look("cars", Count(value=1, stated=None, points=points((1, 2)))),
        ),
        dropped={"replaced": 3},
    )
    said = [one.message for one in messages_of(given, questions=ASKED, numbering=Numbering())]
    return [*said, health()]


def requests() -> list[ControlRequest]:
    return [
        AddRequest(id="1", query=QUESTION),
        ChangeRequest(name="a", query=QUESTION),
        RemoveRequest(name="a"),
        QuestionsRequest(),
        StatusRequest(),
        SnapshotRequest(),
        PingRequest(),
    ]


@pytest.mark.parametrize("name", MODELS)
def test_each_file_is_what_its_model_says(name: str) -> None:
    assert schema_file(name).read_text(encoding="utf-8") == schema_text(name), (
        "run python -m molmo2_ground.messages.schemas"
    )


def test_no_other_file_is_there() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == {schema_file(name).name for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_each_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(make_schema(name))


@pytest.mark.slow
def test_messages_are_valid_by_the_schema_that_they_name() -> None:
    seen = set()
    for message in messages():
        body = json.loads(message.model_dump_json(by_alias=True))
        name = body.get("schema") or body["header"]["schema"]
        seen.add(name)
        jsonschema.validate(body, schema_of(name), cls=jsonschema.Draft202012Validator)
        spoilt = {**body, "surprise": 1}
        with pytest.raises(jsonschema.ValidationError, match="surprise"):
            jsonschema.validate(spoilt, schema_of(name), cls=jsonschema.Draft202012Validator)
    assert len(seen) == 5  # events are in a test of their own


def test_a_camera_s_message_is_valid_by_its_own() -> None:
    header, _ = camera_parts(np.zeros((4, 6, 3), np.uint8), stamp_ns=1, camera="door")
    body = json.loads(header)
    jsonschema.validate(body, schema_of(body["schema"]), cls=jsonschema.Draft202012Validator)


@pytest.mark.slow
def test_requests_are_valid_by_theirs() -> None:
    schema = schema_of("molmo2-ground/control-request/1")
    for request in requests():
        body = json.loads(request.model_dump_json(by_alias=True))
        jsonschema.validate(body, schema, cls=jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"do": "shutdown"}, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.slow
def test_replies_are_valid_by_theirs() -> None:
    tracks = messages()[0]
    for reply in (
        ControlReply(ok=False, error="no", at_ns=1),
        ControlReply(
            ok=True, at_ns=1, name="a", questions={"a": QUESTION}, health=health(), messages=(tracks,)
        ),
    ):
        body = json.loads(reply.model_dump_json(by_alias=True))
        jsonschema.validate(
            body, schema_of("molmo2-ground/control-reply/1"), cls=jsonschema.Draft202012Validator
        )


def test_a_question_survives_its_message() -> None:
    for query in (
        Query.track("x", fps=1.0, max_objects=2),
        Query.count("y"),
        Query.point("z", max_objects=1),
    ):
        assert Question.of(query).to_query() == query


@pytest.mark.slow
def test_the_examples_of_the_page_are_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "zeromq.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        body = json.loads(block)
        name = body.get("schema") or body["header"]["schema"]
        jsonschema.validate(body, schema_of(name), cls=jsonschema.Draft202012Validator)
        model = TypeAdapter(MODELS[name])
        assert model.validate_json(block)


def test_events_are_valid_by_theirs() -> None:
    seen = Appeared(
        time_s=1.0,
        after_s=None,
        before_s=1.0,
        timing="sample",
        source_index=2,
        object_id=4,
        label="person",
        x_px=1.0,
        y_px=2.0,
        states=("observed",),
    )
    event = WatchEvent(watch="w", question="people", event=seen, stamp_ns=1, source_index=2)
    (said,) = messages_of(update(events=(event,)), questions={}, numbering=Numbering())
    body = json.loads(said.message.model_dump_json(by_alias=True))
    jsonschema.validate(body, schema_of("molmo2-ground/live-event/1"), cls=jsonschema.Draft202012Validator)

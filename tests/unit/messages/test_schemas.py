"""The schemas that ship are what the models say, and an independent validator takes our messages by them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from molmo2_ground.live.saying import Numbering, messages_of
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


def test_requests_are_valid_by_theirs() -> None:
    schema = schema_of("molmo2-ground/control-request/1")
    for request in requests():
        body = json.loads(request.model_dump_json(by_alias=True))
        jsonschema.validate(body, schema, cls=jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"do": "shutdown"}, schema, cls=jsonschema.Draft202012Validator)


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

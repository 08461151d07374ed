from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic import BaseModel

from molmo2_ground.integrations.mcap.foxglove import (
    COMPRESSED_VIDEO,
    IMAGE_ANNOTATIONS,
    annotations_of,
    time_of,
    video_of,
)
from molmo2_ground.integrations.mcap.plain_schema import plain_json, plain_schema
from molmo2_ground.integrations.mcap.recorder import LookMessage
from molmo2_ground.live.ledger import LedgerEntry
from molmo2_ground.live.saying import Numbering, messages_of
from molmo2_ground.live.trails import Trails
from molmo2_ground.messages import (
    CountMessage,
    EventMessage,
    HealthMessage,
    MasksMessage,
    PointsMessage,
    TracksMessage,
)
from molmo2_ground.render.h264 import CodedPicture
from tests.json_schema import faults, foxglove_refuses
from tests.live_updates import QUESTIONS, START_NS, health, toy_updates

# Written by hand from docs.foxglove.dev (ImageAnnotations, PointsAnnotation, CircleAnnotation,
# TextAnnotation): every field that we write, and none else.
_time = {
    "type": "object",
    "required": ["sec", "nsec"],
    "additionalProperties": False,
    "properties": {
        "sec": {"type": "integer", "minimum": 0},
        "nsec": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    },
}


def _record(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*fields], "additionalProperties": False, "properties": fields}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_share = {"type": "number", "minimum": 0, "maximum": 1}
_point2 = _record(x={"type": "number"}, y={"type": "number"})
_color = _record(r=_share, g=_share, b=_share, a=_share)
_size = {"type": "number", "minimum": 0}
DOCUMENTED = _record(
    circles=_list(
        _record(
            timestamp=_time,
            position=_point2,
            diameter=_size,
            thickness=_size,
            fill_color=_color,
            outline_color=_color,
        )
    ),
    points=_list(
        _record(
            timestamp=_time,
            type={"type": "integer", "enum": [0, 1, 2, 3, 4]},
            points=_list(_point2),
            outline_color=_color,
            outline_colors=_list(_color),
            fill_color=_color,
            thickness=_size,
        )
    ),
    texts=_list(
        _record(
            timestamp=_time,
            position=_point2,
            text={"type": "string"},
            font_size=_size,
            text_color=_color,
            background_color=_color,
        )
    ),
)


def test_annotations_have_the_documented_form() -> None:
    trails = Trails()
    for update in toy_updates(6, masks=True):
        made = json.loads(json.dumps(annotations_of(update, trails.take(update))))
        assert faults(made, DOCUMENTED) == []
        assert faults(made, IMAGE_ANNOTATIONS) == []


def test_a_point_lies_where_the_thing_does_and_its_text_says_number_and_label() -> None:
    trails = Trails()
    updates = [*toy_updates(12, masks=True)][:3]
    for update in updates:
        made = annotations_of(update, trails.take(update))
    places = [(track.x_px, track.y_px) for track in update.tracks]
    dots = [one for one in made["points"] if one["type"] == 1]
    assert [(dot["points"][0]["x"], dot["points"][0]["y"]) for dot in dots] == places
    assert [text["text"] for text in made["texts"]] == [
        f"{track.object_id} person" for track in update.tracks
    ]
    strips = [one["points"] for one in made["points"] if one["type"] == 3]
    assert [len(strip) for strip in strips] == [3] * len(places)
    assert [(strip[-1]["x"], strip[-1]["y"]) for strip in strips] == places
    assert all(one["timestamp"] == time_of(update.stamp_ns) for one in made["points"])
    loops = [one["points"] for one in made["points"] if one["type"] == 2]
    left, top, right, bottom = update.masks[0].box_px or (0, 0, 0, 0)
    assert loops[0][0] == {"x": left, "y": top}
    assert loops[0][2] == {"x": right, "y": bottom}


def test_only_what_the_model_saw_in_this_picture_is_filled() -> None:
    observed, followed, *_ = toy_updates(12)
    filled = [
        {ring["fill_color"]["a"] > 0 for ring in annotations_of(one, {})["circles"]}
        for one in (observed, followed)
    ]
    assert filled == [{True}, {False}]


def test_video_is_base64_with_the_stamp_to_the_nanosecond() -> None:
    coded = CodedPicture(data=b"\0\0\0\1\x67\xff", is_key=True)
    made = video_of(coded, stamp_ns=START_NS, frame_id="door_optical_frame")
    assert base64.b64decode(made["data"]) == coded.data
    assert made["timestamp"] == {"sec": 1_790_000_000, "nsec": 123_456_789}
    assert (made["format"], made["frame_id"]) == ("h264", "door_optical_frame")
    assert faults(made, COMPRESSED_VIDEO) == []


MODELS: tuple[type[BaseModel], ...] = (
    TracksMessage,
    PointsMessage,
    CountMessage,
    MasksMessage,
    EventMessage,
    HealthMessage,
    LedgerEntry,
    LookMessage,
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_foxglove_can_read_the_schema_of_every_message(model: type[BaseModel]) -> None:
    assert foxglove_refuses(plain_schema(model, title="x")) == []


@pytest.mark.parametrize("schema", [IMAGE_ANNOTATIONS, COMPRESSED_VIDEO], ids=["annotations", "video"])
def test_foxglove_can_read_its_own_schemas_as_we_write_them(schema: dict[str, Any]) -> None:
    assert foxglove_refuses(schema) == []


def test_pydantics_own_schema_would_be_refused() -> None:
    assert foxglove_refuses(TracksMessage.model_json_schema())


@pytest.mark.slow
def test_messages_are_valid_by_the_schemas_that_lie_beside_them() -> None:
    numbering = Numbering()
    messages: list[BaseModel] = [health(START_NS)]
    for update in toy_updates(8, masks=True):
        messages += [said.message for said in messages_of(update, questions=QUESTIONS, numbering=numbering)]
        messages += update.ledger
    assert {type(message) for message in messages} >= {
        TracksMessage,
        CountMessage,
        MasksMessage,
        EventMessage,
        HealthMessage,
        LedgerEntry,
    }
    for message in messages:
        schema = plain_schema(type(message), title="x")
        written = json.loads(plain_json(message))
        assert faults(written, schema) == []
        # What is left out is what was null, and nothing else.
        whole = json.loads(message.model_dump_json(by_alias=True))
        assert written.keys() == {name for name, value in whole.items() if value is not None}

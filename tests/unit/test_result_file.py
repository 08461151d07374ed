from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.errors import SourceError
from molmo2_ground.export import Result, dumps, json_schema, kind_of, loads, read_result, write_result
from molmo2_ground.results import (
    Answer,
    Count,
    ParseReport,
    Point,
    Points,
    Receipt,
    Rejected,
    Sample,
    Track,
    Tracks,
)

PIXELS = st.floats(-1e6, 1e6, allow_nan=False)
WORDS = st.text(max_size=12)


def receipt(**changes: object) -> Receipt:
    fields: dict[str, object] = {
        "task": "track",
        "query": "the red car",
        "model_id": "scripted",
        "backend": "scripted",
        "recipe": "track-default/1",
        "prompt": "Track the red car.",
        "raw_text": '<tracks coords="0.0 1 500 500">the red car</tracks>',
        "stop_reason": "end",
        "source": "street.mp4",
        "frame_times_s": (0.0, 0.5),
        "shown_times_s": (0.0, 0.5),
        "frame_source_indices": (0, 15),
        "size_px": (640, 360),
    }
    return Receipt.model_validate({**fields, **changes})


def sample(time_s: float = 0.0) -> Sample:
    return Sample(time_s=time_s, source_index=0, x_px=320.0, y_px=180.0, x_norm=0.5, y_norm=0.5)


def tracks() -> Tracks:
    track = Track(object_id=1, label="the red car", samples=(sample(), sample(0.5)))
    return Tracks(tracks=(track,), receipt=receipt())


def points(label: str = "mug", x_px: float = 3.0) -> Points:
    point = Point(object_id=1, x_px=x_px, y_px=4.0, x_norm=0.1, y_norm=0.2, source_index=0, label=label)
    return Points(points=(point,), receipt=receipt(task="point"))


RESULTS = [
    pytest.param(tracks(), "tracks", id="tracks"),
    pytest.param(points(), "points", id="points"),
    pytest.param(Points(points=(), receipt=receipt()), "points", id="none-found"),
    pytest.param(Count(value=1, stated=2, points=points()), "count", id="count"),
    pytest.param(Answer(text="A car.", tracks=tracks(), receipt=receipt()), "answer", id="answer"),
]


@pytest.mark.parametrize(("result", "kind"), RESULTS)
def test_a_result_survives_its_file(result: Result, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(result, path)
    assert read_result(path) == result
    assert os.listdir(tmp_path) == ["result.json"]
    assert kind_of(result) == kind
    assert path.read_text().splitlines()[0] == f'{{"schema": "molmo2-ground/{kind}/1",'


@pytest.mark.parametrize(("result", "kind"), RESULTS)
def test_the_file_is_the_dump_with_the_schema_in_front(result: Result, kind: str) -> None:
    document = json.loads(dumps(result))
    assert document.pop("schema") == f"molmo2-ground/{kind}/1"
    assert document == json.loads(result.model_dump_json())


@pytest.mark.slow
@given(label=WORDS, x_px=PIXELS, raw_text=WORDS, reason=WORDS)
def test_any_text_and_number_survive(label: str, x_px: float, raw_text: str, reason: str) -> None:
    report = ParseReport(rejected=(Rejected(text=raw_text, reason=reason),))
    result = points(label, x_px).model_copy(update={"receipt": receipt(raw_text=raw_text, report=report)})
    assert loads(dumps(result)) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "expected JSON", id="empty"),
        pytest.param("not json", "expected JSON", id="words"),
        pytest.param("[" * 100_000, "expected JSON", id="deep"),
        pytest.param("[]", "got None", id="list"),
        pytest.param("{}", "got None", id="no-schema"),
        pytest.param('{"schema": 1}', "got 1", id="schema-not-text"),
        pytest.param('{"schema": "molmo2-ground/tracks/2"}', "tracks/2", id="a-later-version"),
        pytest.param('{"schema": "molmo2-ground/tracks/1"}', "Field required at tracks", id="fields-missing"),
        pytest.param(dumps(tracks())[:-1] + ', "more": 1}', "at more", id="unknown-field"),
        pytest.param(dumps(tracks()).replace("320.0", "NaN"), "finite", id="not-a-number"),
    ],
)
def test_what_is_no_result_file_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=message) as caught:
        read_result(path)
    assert "\n" not in str(caught.value)
    assert "other.json" in str(caught.value)


@pytest.mark.parametrize(
    "content", [pytest.param(None, id="missing"), pytest.param(b"\xff\xfe\x00", id="binary")]
)
def test_an_unreadable_file_is_a_source_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match="cannot read the result file"):
        read_result(path)


@pytest.mark.parametrize(("result", "kind"), RESULTS)
def test_the_schema_names_every_member_of_the_file(result: Result, kind: str) -> None:
    schema = json_schema(kind_of(result))
    document = json.loads(dumps(result))
    assert list(schema["properties"]) == list(document)
    assert schema["properties"]["schema"] == {"const": document["schema"]}
    assert set(schema["required"]) <= set(document)

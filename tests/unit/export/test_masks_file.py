"""The result file of masks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.export import (
    dumps,
    json_schema,
    kind_of,
    loads,
    loads_masks,
    read_any,
    read_masks,
    read_result,
    write_result,
)
from tests.made_marks import masks, tracks


def test_masks_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "masks.json"
    write_result(masks(), path)
    assert read_masks(path) == read_any(path) == masks()
    assert os.listdir(tmp_path) == ["masks.json"]
    assert kind_of(masks()) == "masks"
    assert path.read_text().splitlines()[0] == '{"schema": "molmo2-ground/masks/1",'


def test_readers_of_results_say_that_it_holds_masks(tmp_path: Path) -> None:
    write_result(masks(), tmp_path / "masks.json")
    with pytest.raises(SourceError, match="holds masks; expected points, tracks"):
        read_result(tmp_path / "masks.json")
    with pytest.raises(SourceError, match="holds masks"):
        loads(dumps(masks()))
    write_result(tracks(), tmp_path / "tracks.json")
    with pytest.raises(SourceError, match="holds tracks; expected masks"):
        read_masks(tmp_path / "tracks.json")
    assert read_any(tmp_path / "tracks.json") == tracks()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        pytest.param('"object_id": 1', '"object_id": 4', "object 4, which has no label", id="no-label"),
        pytest.param(
            '"size_px": [48, 32], "counts"', '"size_px": [47, 32], "counts"', "cannot be read", id="size"
        ),
        pytest.param('"counts": "', '"counts": "~', "mask 0 .object 1, frame 0. cannot be read", id="runs"),
        pytest.param('"state": "observed"', '"state": "guessed"', "does not follow its schema", id="state"),
        pytest.param(
            '"size_px": [48, 32], "counts"', '"size_px": [0, 32], "counts"', "cannot be read", id="0"
        ),
        pytest.param('"counts": "', '"counts": "ö', "cannot be read", id="no-ascii"),
    ],
)
def test_a_changed_file_gives_one_line(before: str, after: str, message: str) -> None:
    text = dumps(masks())
    assert before in text
    with pytest.raises(SourceError, match=message):
        loads_masks(text.replace(before, after, 1))


def test_the_schema_describes_the_file() -> None:
    schema = json_schema("masks")
    document = json.loads(dumps(masks()))
    assert schema["properties"]["schema"] == {"const": "molmo2-ground/masks/1"}
    assert set(schema["required"]) <= set(document) <= set(schema["properties"])
    assert json.loads(json.dumps(schema)) == schema

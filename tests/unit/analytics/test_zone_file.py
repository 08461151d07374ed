from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from molmo2_ground.analytics import ZoneFile, read_zone_file
from molmo2_ground.errors import SourceError

YARD = {"name": "yard", "polygon": [[0, 0], [100, 0], [100, 80], [0, 80]]}
KERB = {"name": "kerb", "start": [0, 50], "end": [100, 50]}
PAIRS = [
    {"image": image, "metres": metres}
    for image, metres in zip(
        [[100, 350], [540, 350], [380, 120], [260, 120]], [[0, 0], [8, 0], [8, 30], [0, 30]], strict=True
    )
]


def written(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "zones.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    document = {
        "units": "px",
        "zones": [YARD],
        "lines": [{**KERB, "in_side": "right"}],
        "rules": {"grace_s": 2, "min_step_px": 0},
        "ground": {"pairs": PAIRS},
    }
    file = read_zone_file(written(tmp_path, document))
    assert file.zones_px((640, 360)) == file.zones
    assert file.lines[0].in_side == "right"
    assert file.rules.grace_s == 2
    ground = file.homography((640, 360))
    assert ground is not None
    assert file.cautions((640, 360)) == ()
    assert ZoneFile.model_validate_json(file.model_dump_json()) == file
    matrix = {"zones": [YARD], "ground": {"matrix": ground.matrix}}
    assert read_zone_file(written(tmp_path, matrix)).homography((1, 1)) == ground


def test_shares_become_pixels_of_the_picture_at_hand(tmp_path: Path) -> None:
    shares = [{"image": [p["image"][0] / 640, p["image"][1] / 360], "metres": p["metres"]} for p in PAIRS]
    half = {"name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}
    line = {"name": "middle", "start": [0.5, 0], "end": [0.5, 1]}
    document = {"units": "norm", "zones": [half], "lines": [line], "ground": {"pairs": shares}}
    file = read_zone_file(written(tmp_path, document))
    assert file.zones_px((640, 360))[0].polygon[2] == (320, 360)
    assert file.lines_px((200, 100))[0].end == (100, 100)
    in_px = ZoneFile.model_validate_json(json.dumps({"zones": [YARD], "ground": {"pairs": PAIRS}}))
    ours, theirs = file.homography((640, 360)), in_px.homography((640, 360))
    assert ours is not None
    assert theirs is not None
    assert [v for row in ours.matrix for v in row] == pytest.approx(
        [v for row in theirs.matrix for v in row], abs=1e-9
    )


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param("{", "expected JSON", id="no json"),
        pytest.param([YARD], "expected an object; got list", id="a list"),
        pytest.param({}, "the file: expected at least one zone or line", id="empty"),
        pytest.param({"zones": [YARD], "zonse": []}, "zonse: there is no such field", id="misspelt part"),
        pytest.param(
            {"zones": [{**YARD, "colour": "red"}]},
            r"zones\.0\.colour \(yard\): there is no such",
            id="unknown",
        ),
        pytest.param(
            {"zones": [{"name": "yard"}]}, r"zones\.0\.polygon \(yard\): this field is missing", id="missing"
        ),
        pytest.param(
            {"zones": [{"polygon": YARD["polygon"]}]}, r"zones\.0\.name: this field is", id="no name"
        ),
        pytest.param(
            {"zones": [{"name": "bow", "polygon": [[0, 0], [9, 9], [9, 0], [0, 9]]}]},
            r"zones\.0\.polygon \(bow\): a polygon must not cross .*Self-intersection",
            id="self-crossing",
        ),
        pytest.param(
            {"zones": [{"name": "two", "polygon": [[0, 0], [9, 9]]}]},
            r"zones\.0\.polygon \(two\): a polygon has at least 3 corners; got 2",
            id="two corners",
        ),
        pytest.param(
            {"zones": [YARD, YARD]}, "different names; got 'yard' more than once", id="one name twice"
        ),
        pytest.param(
            {"lines": [{**KERB, "end": [0, 50]}]}, r"lines\.0 \(kerb\): a line has two", id="no length"
        ),
        pytest.param({"lines": [{**KERB, "start": [0]}]}, r"lines\.0\.start", id="one coordinate"),
        pytest.param({"zones": [YARD], "units": "metres"}, "units: .*'px' or 'norm'", id="units"),
        pytest.param({"zones": [YARD], "rules": {"grace_s": -1}}, r"rules\.grace_s", id="negative grace"),
        pytest.param({"zones": [YARD], "ground": {}}, "by pairs or by a matrix", id="no ground"),
        pytest.param({"zones": [YARD], "ground": {"pairs": PAIRS[:3]}}, "at least 4 pairs", id="few pairs"),
        pytest.param(
            {"zones": [YARD], "ground": {"matrix": [[1, 0, 0], [0, 1, 0], [1, 1, 0]]}},
            "has an inverse",
            id="matrix",
        ),
        pytest.param(
            {"zones": [{"name": "a"}, {"name": "b"}]}, r"missing \(2 mistakes in all\)", id="several"
        ),
        pytest.param(
            '{"zones": [{"name": "a", "polygon": [[NaN, 0], [1, 0], [1, 1]]}]}', "zone", id="not a number"
        ),
    ],
)
def test_a_wrong_file_is_told_with_the_place(tmp_path: Path, document: Any, words: str) -> None:
    path = written(tmp_path, document)
    with pytest.raises(SourceError, match=words) as told:
        read_zone_file(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot read the zone file"):
        read_zone_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param({"zones": [YARD]}, [], id="inside"),
        pytest.param(
            {"zones": [{"name": "far", "polygon": [[700, 0], [800, 0], [800, 80]]}]},
            ["zone 'far' lies outside the picture of 640 x 360 pixels: nothing can happen there"],
            id="outside",
        ),
        pytest.param(
            {"lines": [{"name": "long", "start": [-5, 9], "end": [640, 9]}]},
            ["line 'long' reaches outside the picture of 640 x 360 pixels"],
            id="partly outside",
        ),
        pytest.param(
            {"units": "norm", "lines": [{"name": "px", "start": [100, 100], "end": [200, 100]}]},
            ["line 'px' lies outside the picture of 640 x 360 pixels: nothing can happen there"],
            id="pixels called shares",
        ),
        pytest.param(
            {"zones": [{"name": "half", "polygon": [[0, 0], [0.5, 0], [0.5, 1]]}]},
            ['all coordinates lie from 0 to 1; did you mean "units": "norm"?'],
            id="shares called pixels",
        ),
    ],
)
def test_parts_outside_the_picture_are_cautioned_about(document: Any, expected: list[str]) -> None:
    assert list(ZoneFile.model_validate_json(json.dumps(document)).cautions((640, 360))) == expected

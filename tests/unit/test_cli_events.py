from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from molmo2_ground.cli import main
from molmo2_ground.export import write_result
from molmo2_ground.results import Answer
from tests.found import points, track, tracks

GRID_S = [i / 2 for i in range(5)]
MOVING = tracks(track({t: (110.0 + 100 * t, 180.0) for t in GRID_S}), looked_s=GRID_S)
ZONES: dict[str, Any] = {
    "zones": [{"name": "yard", "polygon": [[200, 0], [400, 0], [400, 360], [200, 360]]}],
    "lines": [{"name": "gate", "start": [250, 0], "end": [250, 360]}],
}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    result, zones = tmp_path / "result.json", tmp_path / "zones.json"
    write_result(MOVING, result)
    zones.write_text(json.dumps(ZONES), encoding="utf-8")
    return str(result), str(zones)


def test_it_prints_one_line_an_event_and_the_table(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", *files]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "0.00 s  #1 the red car appeared at (110, 180), perhaps earlier",
        "0.90 s  #1 the red car entered yard at (200, 180), between 0.50 and 1.00 s",
        "0.90 s  #1 the red car changed the count in yard from 0 to 1 at (200, 180), between 0.50 and 1.00 s",
        "1.40 s  #1 the red car crossed gate in at (250, 180), between 1.00 and 1.50 s",
        "",
        "zone  visits  objects  most at once  dwell s  longest s  still inside",
        "yard       1        1             1     1.10       1.10             1",
        "line  in  out",
        "gate   1    0",
        "object          first s  last s  there s  spells  mean px/s  top px/s",
        "#1 the red car     0.00    2.00     2.00       1      100.0     100.0",
    ]
    assert err == ""


def test_files_are_written_beside_it(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_json, as_csv = tmp_path / "events.json", tmp_path / "events.csv"
    assert main(["events", *files, "--json", str(as_json), "--csv", str(as_csv), "--at", "frames"]) == 0
    assert f"wrote {as_json}" in capsys.readouterr().err
    document = json.loads(as_json.read_text(encoding="utf-8"))
    assert document["schema"] == "molmo2-ground/events/1"
    assert document["occupancies"][0]["counts"] == [0, 0, 1, 1, 1]
    with as_csv.open(encoding="utf-8", newline="") as rows:
        assert [row["kind"] for row in csv.DictReader(rows)] == [e["kind"] for e in document["events"]]


@pytest.mark.parametrize(("option", "first"), [("--json", '{"schema"'), ("--csv", "time_s,kind,")])
def test_a_dash_writes_to_stdout_alone(
    files: tuple[str, str], option: str, first: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["events", *files, option, "-"]) == 0
    assert capsysbinary.readouterr().out.startswith(first.encode())


@pytest.mark.parametrize(
    ("zones", "words"),
    [
        pytest.param(
            {"zones": [{"name": "yard"}]}, "zones.0.polygon (yard): this field is missing", id="field"
        ),
        pytest.param(
            {"zones": [{"name": "bow", "polygon": [[0, 0], [9, 9], [9, 0], [0, 9]]}]},
            "must not cross or touch itself",
            id="crosses itself",
        ),
        pytest.param(
            {"zones": [{"name": "two", "polygon": [[0, 0], [9, 9]]}]},
            "at least 3 corners; got 2",
            id="corners",
        ),
        pytest.param({**ZONES, "rules": {"by": "mask"}}, "a result file of tracks holds no masks", id="mask"),
    ],
)
def test_a_wrong_zone_file_is_one_clear_line(
    files: tuple[str, str], zones: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(files[1]).write_text(json.dumps(zones), encoding="utf-8")
    assert main(["events", *files]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert words in err


def test_a_zone_outside_the_picture_is_a_caution(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    far = {"zones": [{"name": "far", "polygon": [[700, 0], [800, 0], [800, 80]]}]}
    Path(files[1]).write_text(json.dumps(far), encoding="utf-8")
    assert main(["events", *files]) == 0
    assert "note: zone 'far' lies outside the picture of 640 x 360 pixels" in capsys.readouterr().err
    assert main(["events", *files, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_tracks_are_needed(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(points([(1, 1)]), files[0])
    assert main(["events", *files]) == 1
    assert "holds points; expected tracks, as molmo2-ground track" in capsys.readouterr().err
    write_result(Answer(text="tracked", tracks=MOVING, receipt=MOVING.receipt), files[0])
    assert main(["events", *files]) == 0
    assert "entered yard" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--json", "-", "--csv", "-"], "choose one", id="both to stdout"),
        pytest.param(["--json", "none/out.json"], "the folder none does not exist", id="no folder"),
        pytest.param(["--json", "result.json"], "one of the files to read", id="over the result"),
        pytest.param(["--csv", "zones.json"], "one of the files to read", id="over the zones"),
        pytest.param(["--json", "a", "--csv", "a"], "the same name", id="one name"),
        pytest.param(["--csv", "."], "it is a folder", id="a folder"),
    ],
)
def test_bad_outputs_are_told_before_the_work(
    files: tuple[str, str],
    options: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(Path(files[0]).parent)
    before = Path(files[0]).read_bytes()
    assert main(["events", *files, *options]) == 2
    assert words in capsys.readouterr().err
    assert Path(files[0]).read_bytes() == before

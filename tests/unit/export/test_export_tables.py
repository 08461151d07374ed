"""JSON lines and CSV."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.export import marks_of, write_csv, write_json_lines
from molmo2_ground.results import Track, Tracks
from molmo2_ground.rle import Rle
from molmo2_ground.train.box_table import BoxTable
from tests.made_marks import LABELS, masks, points_on_pictures, receipt, sample, tracks


def test_a_line_holds_all_of_a_mark(tmp_path: Path) -> None:
    media = marks_of(tracks(), masks=masks())
    write_json_lines(media, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) == len(media.marks)
    first = lines[0]
    assert {name: first[name] for name in ("source", "source_index", "time_s", "object_id", "label")} == {
        "source": "street one.mp4",
        "source_index": 0,
        "time_s": 0.0,
        "object_id": 1,
        "label": "red car",
    }
    assert (first["x_px"], first["y_px"], first["x_norm"]) == (5.25, 10.1, 5.25 / 48)
    assert np.array_equal(Rle.from_coco(first["mask"]).decode(), masks().dense(1, 0))
    assert tuple(first["box_px"]) == masks()[0].box_px
    assert {line["label"] for line in lines} == set(LABELS.values())
    assert {line["state"] for line in lines} == {"observed", "propagated"}


@pytest.mark.slow
@settings(max_examples=50)
@given(label=st.text(max_size=20))
def test_any_label_survives_json_lines_and_csv(label: str) -> None:
    track = Track(object_id=1, label=label, samples=(sample(0, 1.5, 2), sample(5, 3, 4)))
    media = marks_of(Tracks(tracks=(track,), receipt=receipt()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json_lines(media, folder / "out.jsonl")
        lines = (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["label"] for line in lines] == [label, label]
        write_csv(media, folder / "out.csv")
        with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["label"] for row in rows] == [label, label]


def test_a_table_has_a_line_a_mark_and_empty_cells_for_what_is_not_known(tmp_path: Path) -> None:
    media = marks_of(tracks(), masks=masks())
    written = write_csv(media, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(media.marks)
    assert (rows[0]["x_px"], rows[0]["left"], rows[0]["state"]) == ("5.25", "0", "observed")
    blue = next(row for row in rows if row["object_id"] == "7")
    assert (blue["x_px"], blue["left"], blue["area_px"]) == ("40", "", "")
    assert any("shape of its mask" in line for line in written.left_out)


def test_a_table_of_masks_can_be_trained_on(tmp_path: Path) -> None:
    write_csv(marks_of(masks()), tmp_path / "out.csv")
    table = BoxTable.read(tmp_path / "out.csv")
    assert not table.problems
    assert len(table.lines) == len(masks())
    first = table.lines[0]
    assert (first.video, first.frame, first.object_name, first.box) == (
        "street one.mp4",
        0,
        "1",
        (0, 4, 11, 16),
    )


def test_pictures_are_called_by_name(tmp_path: Path) -> None:
    write_csv(marks_of(points_on_pictures()), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["media"] for row in rows] == ["3_images/00000.jpg"] * 2 + ["3_images/00002.jpg"] * 3
    assert {row["time_s"] for row in rows} == {""}

"""Label Studio: checked against its documented fields, filled in by its own rule, and read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from defusedxml import ElementTree

from molmo2_ground.errors import SourceError
from molmo2_ground.export import label_config, marks_of, read_label_studio, settled, write_label_studio
from molmo2_ground.results import Track, Tracks
from tests.made_marks import LABELS, masks, points_on_pictures, receipt, sample, tracks

# As label-studio-sdk 2.1.2 has a VideoRectangle (label_interface/control_tags.py), with `enabled`.
KEY = {"frame", "enabled", "rotation", "x", "y", "width", "height", "time"}
PERCENTS = ("x", "y", "width", "height")


def written(media: Any, folder: Path, **options: Any) -> list[dict[str, Any]]:
    write_label_studio(media, folder / "ls.json", **options)
    tasks = json.loads((folder / "ls.json").read_text())
    assert isinstance(tasks, list)
    return tasks


def shown(sequence: list[dict[str, Any]], length: int) -> dict[int, tuple[float, float]]:
    """What Label Studio shows, frame by frame from 1: the rule of its player and of its exporter.

    A key that is enabled reaches to the next key, in straight lines; one that is not ends there.
    """
    places = {}
    keys = sorted(sequence, key=lambda key: key["frame"])
    for key, after in zip(keys, [*keys[1:], None], strict=True):
        places[key["frame"]] = key["x"], key["y"]
        if not key["enabled"]:
            continue
        end = length + 1 if after is None else after["frame"]
        for frame in range(key["frame"] + 1, end):
            share = 0 if after is None else (frame - key["frame"]) / (after["frame"] - key["frame"])
            goal = key if after is None else after
            places[frame] = tuple(key[name] + share * (goal[name] - key[name]) for name in ("x", "y"))
    return places


def test_a_track_has_the_documented_fields(tmp_path: Path) -> None:
    (task,) = written(marks_of(tracks().observed, frame_count=20), tmp_path, radius_px=2)
    assert task["data"] == {"video": "street one.mp4"}
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "scripted"
    for result in prediction["result"]:
        assert set(result) == {"id", "type", "from_name", "to_name", "value"}
        assert (result["type"], result["from_name"], result["to_name"]) == ("videorectangle", "box", "video")
        assert set(result["value"]) == {"framesCount", "duration", "sequence", "labels"}
        assert (result["value"]["framesCount"], result["value"]["duration"]) == (20, 2.0)
        assert all(set(key) == KEY for key in result["value"]["sequence"])
    car = prediction["result"][0]["value"]
    assert car["labels"] == ["red car"]
    first = car["sequence"][0]
    assert (first["frame"], first["time"]) == (1, 0.1)
    assert (first["x"], first["y"]) == pytest.approx((100 * 3.25 / 48, 100 * 8.1 / 32))
    assert (first["width"], first["height"]) == pytest.approx((100 * 4 / 48, 100 * 4 / 32))


def test_places_stay_within_the_percents_that_the_schema_allows(tmp_path: Path) -> None:
    corner = Track(object_id=1, label="car", samples=(sample(0, 0, 0), sample(5, 48, 32), sample(10, 60, -5)))
    media = marks_of(Tracks(tracks=(corner,), receipt=receipt(source_fps=None)))
    (task,) = written(media, tmp_path, radius_px=4)
    value = task["predictions"][0]["result"][0]["value"]
    for key in value["sequence"]:
        assert all(0 <= key[name] <= 100 for name in PERCENTS)
        assert 0 <= key["x"] + key["width"] <= 100 + 1e-9
        assert isinstance(key["time"], float)
    assert value["duration"] >= max(key["time"] for key in value["sequence"])
    lines = write_label_studio(media, tmp_path / "ls.json", radius_px=4).left_out
    assert lines == ("object 1: its box is cut at the edge of the picture in 3 frames, 0 to 10",)


def test_nothing_is_shown_where_an_object_was_not_seen(tmp_path: Path) -> None:
    (task,) = written(marks_of(tracks().observed, frame_count=20), tmp_path, radius_px=2)
    found = {
        result["value"]["labels"][0]: shown(result["value"]["sequence"], 20)
        for result in task["predictions"][0]["result"]
    }
    assert sorted(found[LABELS[1]]) == list(range(1, 17))  # between its samples, and not after the last
    assert sorted(found[LABELS[2]]) == [1, 11]  # it was not there in the frame looked at in between
    assert sorted(found[LABELS[7]]) == list(range(1, 7))
    middle = found[LABELS[1]][3]
    assert middle == pytest.approx((100 * (5.25 + 2 - 2) / 48, 100 * 8.1 / 32))


def test_a_video_comes_back_in_percent_until_its_size_is_known(tmp_path: Path) -> None:
    media = marks_of(masks(), frame_count=20)
    write_label_studio(media, tmp_path / "ls.json")
    (back,) = read_label_studio(tmp_path / "ls.json")
    assert back.percent
    assert (back.name, back.frame_count, back.fps) == ("street one.mp4", 20, 10.0)
    with pytest.raises(SourceError, match="--size"):
        settled(back)
    known = settled(back, size_px=(48, 32))
    ours = {(m.frame, m.object_id): m.extent_px() for m in media.marks}
    assert {(m.frame, m.object_id): m.label for m in known.marks} == {
        (m.frame, m.object_id): m.label for m in media.marks
    }
    for mark in known.marks:
        assert mark.box_px == pytest.approx(ours[mark.frame, mark.object_id], abs=1e-9)
        assert mark.time_s == mark.frame / 10


def test_pictures_have_key_points(tmp_path: Path) -> None:
    media = marks_of(points_on_pictures())
    tasks = written(media, tmp_path)
    assert [task["data"]["image"] for task in tasks] == [f"3_images/{n:05d}.jpg" for n in range(3)]
    result = tasks[0]["predictions"][0]["result"][0]
    assert result["type"] == "keypointlabels"
    assert (result["original_width"], result["original_height"]) == (48, 32)
    assert set(result["value"]) == {"x", "y", "width", "keypointlabels"}
    (back,) = read_label_studio(tmp_path / "ls.json")
    assert back.kind == "images"
    for ours, theirs in zip(media.marks, back.marks, strict=True):
        assert theirs.point_px == pytest.approx(ours.point_px)
        assert (theirs.frame, theirs.object_id, theirs.label) == (ours.frame, ours.object_id, ours.label)


def test_what_has_no_place_is_named(tmp_path: Path) -> None:
    lines = write_label_studio(marks_of(masks()), tmp_path / "ls.json").left_out
    assert "object 1: that it was propagated has no place in 12 frames, 1 to 14" in lines
    assert "object 2: its mask became its box in 10 frames, 0 to 10" in lines
    with pytest.raises(ValueError, match="--radius-px"):
        write_label_studio(marks_of(tracks()), tmp_path / "ls.json")
    nameless = Tracks(tracks=(Track(object_id=1, label="", samples=(sample(0, 1, 1),)),), receipt=receipt())
    with pytest.raises(ValueError, match="has no label"):
        write_label_studio(marks_of(nameless), tmp_path / "x.json", radius_px=1)


@pytest.mark.parametrize(
    ("late_s", "told"),
    [
        pytest.param(0.0, False, id="even"),
        pytest.param(0.03, False, id="within-half-a-frame"),
        pytest.param(0.75, True, id="uneven"),
    ],
)
def test_times_that_no_even_rate_gives_are_named(late_s: float, told: bool, tmp_path: Path) -> None:
    media = marks_of(tracks())
    last = media.frames[-1]
    media = replace(media, times_s={**media.times_s, last: media.times_s[last] + late_s})
    lines = write_label_studio(media, tmp_path / "tasks.json", radius_px=3).left_out
    found = [line for line in lines if "at an even rate" in line]
    assert len(found) == told
    if told:
        assert "(10 a second): its times are up to 0.75 s off, until" in found[0]


def test_the_interface_names_what_the_results_name() -> None:
    root = ElementTree.fromstring(label_config(marks_of(tracks())))
    assert [label.get("value") for label in root.iter("Label")] == sorted(LABELS.values())
    box, video = root.find("VideoRectangle"), root.find("Video")
    assert box is not None
    assert video is not None
    assert (box.get("name"), box.get("toName"), video.get("name"), video.get("frameRate")) == (
        "box",
        "video",
        "video",
        "10",
    )
    pictures = ElementTree.fromstring(label_config(marks_of(points_on_pictures())))
    assert pictures.find("KeyPointLabels") is not None


def theirs(value: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": "RRxnu061g3",
        "type": kind,
        "from_name": "box",
        "to_name": "video",
        "origin": "manual",
        "original_width": 50,
        "original_height": 40,
        "value": value,
    }


def tasks_of(result: dict[str, Any]) -> str:
    return json.dumps([{"data": {}, "annotations": [{"result": [result]}]}])


def test_an_export_of_their_own_is_read(tmp_path: Path) -> None:
    keys = [
        {
            "frame": 1,
            "enabled": True,
            "rotation": 0,
            "x": 20,
            "y": 10,
            "width": 50,
            "height": 60,
            "time": 0.04,
        },
        {
            "frame": 2,
            "enabled": True,
            "rotation": 0,
            "x": 21,
            "y": 10,
            "width": 50,
            "height": 60,
            "auto": True,
        },
        {"frame": 3, "enabled": False, "rotation": 90, "x": 20, "y": 10, "width": 50, "height": 60},
    ]
    value = {"framesCount": 131, "duration": 5.24, "sequence": keys, "labels": ["Cell"]}
    old = {"was_cancelled": True, "result": [theirs({**value, "labels": ["wrong"]}, "videorectangle")]}
    new = {"result": [theirs(value, "videorectangle"), theirs({"choices": ["a"]}, "choices")]}
    task = {"id": 1, "data": {"video": "/data/upload/1/0a1b2c3d-cells.mp4"}, "annotations": [new, old]}
    (tmp_path / "ls.json").write_text(json.dumps([task]))
    (media,) = read_label_studio(tmp_path / "ls.json")
    assert (media.name, media.frame_count, media.labels) == ("cells.mp4", 131, {1: "Cell"})
    assert media.fps == pytest.approx(25)
    assert [(m.frame, m.state) for m in media.marks] == [
        (0, "observed"),
        (1, "interpolated"),
        (2, "observed"),
    ]
    assert media.marks[0].box_px == (20, 10, 70, 70)
    assert media.marks[2].box_px == pytest.approx((-40, 10, 20, 60))
    assert media.left_out == ("1 time: results of type 'choices' have no place in points, boxes or masks",)


def test_outlines_and_boxes_on_pictures_are_read(tmp_path: Path) -> None:
    square = {"points": [[10, 10], [50, 10], [50, 60], [10, 60]], "polygonlabels": ["leaf"]}
    box = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["pot"]}
    task = {
        "data": {"image": "http://host/data/local-files/?d=pots/one.jpg"},
        "annotations": [{"result": [theirs(square, "polygonlabels"), theirs(box, "rectanglelabels")]}],
    }
    (tmp_path / "ls.json").write_text(json.dumps(task))
    (media,) = read_label_studio(tmp_path / "ls.json")
    leaf, pot = media.marks
    assert media.name == "one.jpg"
    assert leaf.mask is not None
    expected = np.zeros((40, 50), dtype=bool)
    expected[4:24, 5:25] = True
    assert np.array_equal(leaf.mask.decode(), expected)
    assert pot.box_px == pytest.approx((5, 8, 20, 24))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param("[", "expected JSON", id="no-json"),
        pytest.param("[1]", "expected a list of tasks", id="numbers"),
        pytest.param('{"images": []}', "expected a list of tasks", id="coco"),
        pytest.param('[{"data": {}, "annotations": [3]}]', "task 1", id="no-annotation"),
        pytest.param(
            tasks_of(theirs({}, "videorectangle")),
            "the field 'sequence' is missing",
            id="no-sequence",
        ),
        pytest.param(
            tasks_of(theirs({"sequence": [{}]}, "videorectangle")),
            "the field 'frame' is missing",
            id="no-frame",
        ),
        pytest.param(
            tasks_of(theirs({"points": [[1]]}, "polygonlabels")),
            "task 1",
            id="half-a-corner",
        ),
    ],
)  # fmt: skip
def test_what_is_no_export_gives_one_line(document: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(document)
    with pytest.raises(SourceError, match=message):
        read_label_studio(tmp_path / "x.json")

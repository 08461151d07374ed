"""Files of annotation tools, and the media that they are about, as rows that can be trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.export import write_coco, write_cvat, write_label_studio, write_mot
from molmo2_ground.export.marks import Mark, MarkedMedia
from molmo2_ground.rle import Rle
from molmo2_ground.train.convert_boxes import BoxOptions
from molmo2_ground.train.convert_marks import convert_marks, main
from molmo2_ground.train.row_folder import RowFolder
from molmo2_ground.train.rows import Annotation, Row
from tests.media import FPS, FRAME_COUNT, SIZE_PX, Shelf, constant_rate

WIDTH, HEIGHT = SIZE_PX


def clips(media: Shelf, folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("clip.mp4",):
        shutil.copy(media(constant_rate), folder / name)
    return folder


def drawn(*marks: Mark, name: str = "clip.mp4", frame_count: int | None = FRAME_COUNT) -> MarkedMedia:
    return MarkedMedia(
        name=name,
        kind="video",
        size_px=SIZE_PX,
        fps=float(FPS),
        frame_count=frame_count,
        frames=tuple(sorted({mark.frame for mark in marks})),
        marks=tuple(sorted(marks, key=lambda mark: (mark.frame, mark.object_id))),
    )


def boxes(count: int = FRAME_COUNT, object_id: int = 1, label: str = "dog") -> list[Mark]:
    return [
        Mark(object_id=object_id, label=label, frame=frame, box_px=(2 + frame, 3, 12 + frame, 13))
        for frame in range(count)
    ]


def only(rows: dict[str, tuple[Row, ...]]) -> Row:
    ((row,),) = rows.values()
    return row


def task_of(row: Row, task: str) -> Annotation:
    (found,) = [one for one in row.annotations if task in one.task]
    return found


def test_a_cvat_file_of_points_becomes_tracks_of_points(media: Shelf, tmp_path: Path) -> None:
    points = [replace(mark, box_px=None, point_px=(5.5 + mark.frame, 8)) for mark in boxes()]
    write_cvat(drawn(*points), tmp_path / "a.xml")
    made = convert_marks("cvat", tmp_path / "a.xml", clips(media, tmp_path / "videos"))
    assert not made.problems
    row = only(made.rows)
    assert (row.kind, row.media, row.size_px) == ("video", ("media/clip.mp4",), (SIZE_PX,))
    track = task_of(row, "track")
    assert (track.label, track.rate_fps) == ("dog", 2.0)
    places = [(moment.time_s, place.x_px, place.y_px) for moment in track.moments for place in moment.places]
    assert places[0] == (0.0, 5.5, 8.0)
    assert len(places) == len(track.moments)
    assert task_of(row, "track_from_point").moments[0].places[0].box_px is None


def test_masks_of_coco_become_masks(media: Shelf, tmp_path: Path) -> None:
    whole = np.zeros((HEIGHT, WIDTH), dtype=bool)
    whole[4:9, 3:11] = True
    pixels = Rle.encode(whole)
    marks = [replace(mark, box_px=None, mask=pixels) for mark in boxes()]
    write_coco(drawn(*marks), tmp_path / "coco.json")
    row = only(convert_marks("coco", tmp_path / "coco.json", clips(media, tmp_path / "videos")).rows)
    place = task_of(row, "track_from_box").moments[0].places[0]
    assert place.mask == pixels
    assert task_of(row, "point").moments[0].places[0].mask == pixels


def test_keyframes_of_label_studio_are_filled_in(media: Shelf, tmp_path: Path) -> None:
    # Two things whose keyframes lie in different frames: both are there all along.
    first = [mark for mark in boxes() if mark.frame in (0, FRAME_COUNT - 1)]
    second = [mark for mark in boxes(object_id=2, label="cat") if mark.frame in (1, FRAME_COUNT - 1)]
    write_label_studio(drawn(*first, *second), tmp_path / "ls.json")
    tasks = json.loads((tmp_path / "ls.json").read_text())
    for result in tasks[0]["annotations"][0]["result"]:
        for key in result["value"]["sequence"]:
            key["enabled"] = True
    (tmp_path / "ls.json").write_text(json.dumps(tasks))
    made = convert_marks("label-studio", tmp_path / "ls.json", clips(media, tmp_path / "videos"))
    assert not made.problems
    row = only(made.rows)
    dogs = next(one for one in row.annotations if one.label == "dog" and "track" in one.task)
    for moment in dogs.moments:
        assert moment.time_s is not None
        (place,) = moment.places
        assert place.box_px is not None
        assert place.box_px[0] == pytest.approx(2 + round(moment.time_s * FPS), abs=1e-6)


def test_mot_text_finds_the_only_video_there_is(media: Shelf, tmp_path: Path) -> None:
    write_mot(drawn(*boxes()), tmp_path / "det.txt")
    made = convert_marks("mot", tmp_path / "det.txt", clips(media, tmp_path / "v", "a.mp4"), label="dog")
    assert list(made.rows) == ["a.mp4"]
    two = convert_marks("mot", tmp_path / "det.txt", clips(media, tmp_path / "v", "b.mp4"), label="dog")
    assert not two.rows
    assert "no file is called det" in str(two.problems[0])


def test_occluded_is_seen_in_part_unless_it_is_said_to_be_hidden(media: Shelf, tmp_path: Path) -> None:
    marks = [replace(mark, occluded=mark.frame == 0) for mark in boxes()]
    write_cvat(drawn(*marks), tmp_path / "a.xml")
    videos = clips(media, tmp_path / "videos")
    row = only(convert_marks("cvat", tmp_path / "a.xml", videos).rows)
    assert not task_of(row, "track").moments[0].places[0].occluded
    row = only(convert_marks("cvat", tmp_path / "a.xml", videos, hide_occluded=True).rows)
    assert task_of(row, "track").moments[0].places[0].occluded


def test_a_frame_that_is_known_to_be_empty_is_a_moment_without_places(media: Shelf, tmp_path: Path) -> None:
    marks = [mark for mark in boxes() if mark.frame < 3]
    known = replace(drawn(*marks), frames=tuple(range(FRAME_COUNT)))
    write_coco(known, tmp_path / "coco.json")
    row = only(convert_marks("coco", tmp_path / "coco.json", clips(media, tmp_path / "videos")).rows)
    track = task_of(row, "track")
    assert track.moments[0].places
    assert not track.moments[-1].places


def test_what_does_not_fit_is_named(media: Shelf, tmp_path: Path) -> None:
    videos = clips(media, tmp_path / "videos")
    late = Mark(object_id=1, label="dog", frame=FRAME_COUNT, box_px=(1, 1, 5, 5))
    out = Mark(object_id=2, label="dog", frame=0, box_px=(-9, -9, -1, -1))
    write_cvat(drawn(late, frame_count=None), tmp_path / "late.xml")
    write_cvat(drawn(out, *boxes()), tmp_path / "out.xml")
    write_cvat(replace(drawn(*boxes()), size_px=(640, 360)), tmp_path / "size.xml")
    (problem,) = convert_marks("cvat", tmp_path / "late.xml", videos).problems
    assert str(problem) == (
        f"clip.mp4: clip.mp4 has a mark in frame {FRAME_COUNT}, counted from 0, and the video has "
        f"{FRAME_COUNT} frames"
    )
    made = convert_marks("cvat", tmp_path / "out.xml", videos)
    assert str(made.problems[0]).startswith(
        "clip.mp4, frame 0, object 2: the box (-9, -9, -1, -1) lies outside"
    )
    assert made.rows
    (problem,) = convert_marks("cvat", tmp_path / "size.xml", videos).problems
    assert "annotated at 640 x 360 pixels" in str(problem)


def test_pictures_become_a_row_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (20, 10)).save(folder / name)
    document: dict[str, Any] = {
        "images": [
            {"id": n, "file_name": name, "width": 20, "height": 10}
            for n, name in enumerate(("a.png", "b.png", "c.png"))
        ],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "red  pot"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 0, "category_id": 1, "bbox": [6, 2, 3, 4]},
            {"id": 3, "image_id": 0, "category_id": 2, "segmentation": [[2, 2, 6, 2, 6, 8, 2, 8]]},
            {"id": 4, "image_id": 2, "category_id": 1, "keypoints": [5, 5, 2]},
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(document))
    rows = tmp_path / "rows"
    words = ["coco", str(tmp_path / "coco.json"), "--media", str(folder), "--out", str(rows)]
    assert main(words) == 0
    assert "every row can be used" in capsys.readouterr().out
    first, last = RowFolder(rows)
    assert (first.row_id, first.kind, last.row_id) == ("a.png", "image", "c.png")
    cups, pots = first.annotations
    assert (cups.label, cups.task, len(cups.moments[0].places)) == ("cup", ("point", "point_then_count"), 2)
    assert pots.label == "red pot"
    assert pots.moments[0].places[0].mask is not None
    assert last.annotations[0].moments[0].places[0].x_px == 5
    images, annotations = document["images"], document["annotations"]
    images[1]["width"] = 21
    annotations.append({"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]})
    (tmp_path / "coco.json").write_text(json.dumps(document))
    assert main(words) == 1
    printed = capsys.readouterr().out
    assert "coco.json: b.png: it is annotated at (21, 10) pixels and has (20, 10)" in printed
    assert "nothing was written: 1 place cannot be used" in printed


def test_the_command_writes_rows_that_can_be_used(
    media: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = clips(media, tmp_path / "videos", "clip.mp4")
    write_cvat(drawn(*boxes()), tmp_path / "a.xml")
    words = ["cvat", str(tmp_path / "a.xml"), "--media", str(videos), "--out", str(tmp_path / "rows")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "every row can be used" in printed
    assert (tmp_path / "rows" / "media" / "clip.mp4").exists()
    assert main(["cvat", str(tmp_path / "no.xml"), *words[2:]]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_options_of_boxes_hold_for_marks(media: Shelf, tmp_path: Path) -> None:
    write_cvat(drawn(*boxes()), tmp_path / "a.xml")
    made = convert_marks(
        "cvat", tmp_path / "a.xml", clips(media, tmp_path / "videos"), options=BoxOptions(rate_fps=5)
    )
    assert task_of(only(made.rows), "track").rate_fps == 5

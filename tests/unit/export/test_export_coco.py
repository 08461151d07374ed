"""COCO and YouTube-VIS files, read by pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as theirs
from pycocotools.coco import COCO

from molmo2_ground.export import marks_of, write_coco, write_youtube_vis
from tests.made_marks import LABELS, disc, masks, points_on_pictures, tracks

# pycocotools' decoder is older than NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def loaded(path: Path, capsys: pytest.CaptureFixture[str]) -> COCO:
    coco = COCO(str(path))
    capsys.readouterr()
    return coco


def test_pycocotools_reads_every_mask_with_its_box_and_area(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    media = marks_of(tracks(), masks=masks())
    written = write_coco(media, tmp_path / "coco.json")
    coco = loaded(tmp_path / "coco.json", capsys)
    assert len(coco.getImgIds()) == 16
    assert len(coco.getAnnIds()) == len(media.marks) == written.marks
    assert sorted(c["name"] for c in coco.loadCats(coco.getCatIds())) == sorted(LABELS.values())
    frames = {image["id"]: image["frame_id"] for image in coco.loadImgs(coco.getImgIds())}
    found = {(frames[a["image_id"]], a["track_id"]): a for a in coco.loadAnns(coco.getAnnIds())}
    for mask in masks():
        annotation = found[mask.source_index, mask.object_id]
        assert isinstance(annotation["segmentation"]["counts"], str)
        assert np.array_equal(coco.annToMask(annotation).astype(bool), mask.dense())
        assert annotation["area"] == float(theirs.area(coco.annToRLE(annotation))) == mask.area_px
        assert annotation["bbox"] == theirs.toBbox(coco.annToRLE(annotation)).tolist()
        assert annotation["state"] == mask.state
    names = coco.loadCats([found[0, 2]["category_id"]])
    assert names[0]["name"] == LABELS[2]


def test_pycocotools_reads_points_as_key_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(marks_of(tracks()), tmp_path / "coco.json")
    coco = loaded(tmp_path / "coco.json", capsys)
    annotations = coco.loadAnns(coco.getAnnIds())
    places = {(a["track_id"], *a["keypoints"][:2]) for a in annotations}
    assert places == {(t.object_id, s.x_px, s.y_px) for t in tracks() for s in t.samples}
    assert all(a["keypoints"][2] == 2 and a["num_keypoints"] == 1 for a in annotations)
    assert all(a["bbox"][2:] == [0, 0] for a in annotations)
    assert "counts" not in str(annotations)


def test_a_radius_gives_points_a_box(tmp_path: Path) -> None:
    write_coco(marks_of(tracks()), tmp_path / "coco.json", radius_px=2)
    first = json.loads((tmp_path / "coco.json").read_text())["annotations"][0]
    assert first["bbox"] == [3.25, 8.1, 4.0, 4.0]
    assert first["area"] == 16


def test_pictures_are_no_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(marks_of(points_on_pictures()), tmp_path / "coco.json")
    coco = loaded(tmp_path / "coco.json", capsys)
    sizes = [(image["width"], image["height"]) for image in coco.loadImgs(coco.getImgIds())]
    assert sizes == [(48, 32), (20, 30), (50, 40)]
    assert len(coco.getAnnIds(imgIds=[2])) == 0
    assert len(coco.getAnnIds(imgIds=[3])) == 3
    assert "videos" not in coco.dataset


def test_youtube_vis_has_null_where_an_object_is_not_to_be_seen(tmp_path: Path) -> None:
    media = marks_of(tracks(), masks=masks())
    written = write_youtube_vis(media, tmp_path / "ytvis.json")
    document: dict[str, Any] = json.loads((tmp_path / "ytvis.json").read_text())
    (video,) = document["videos"]
    assert video["length"] == len(video["file_names"]) == 16
    assert video["file_names"][15] == "street_one/00015.jpg"
    by_object = {a["object_id"]: a for a in document["annotations"]}
    assert set(by_object) == {1, 2}
    seen = [frame for frame, one in enumerate(by_object[2]["segmentations"]) if one is not None]
    assert seen == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    first = theirs.frPyObjects(by_object[2]["segmentations"][0], 32, 48)
    assert np.array_equal(theirs.decode(first).astype(bool), disc(10, 12, 3.4))
    assert by_object[2]["areas"][0] == int(theirs.area(first))
    assert by_object[2]["bboxes"][0] == theirs.toBbox(first).tolist()
    assert by_object[2]["bboxes"][5] is None
    assert written.left_out == ("object 7: it is only a point in 3 frames, 0 to 5",)


def test_youtube_vis_of_points_alone_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="YouTube-VIS holds masks"):
        write_youtube_vis(marks_of(tracks()), tmp_path / "ytvis.json")
    assert not list(tmp_path.iterdir())

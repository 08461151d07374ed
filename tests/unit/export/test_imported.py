"""What was drawn, as results: settled with the video, filled in between keyframes, with a receipt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.export import (
    marks_of,
    read_coco,
    settled,
    to_masks,
    to_points,
    to_tracks,
    write_coco,
)
from molmo2_ground.export.filled import filled
from molmo2_ground.export.imported import place_of
from molmo2_ground.export.marks import TO_THE_END, Mark, MarkedMedia
from molmo2_ground.replay import derive
from molmo2_ground.rle import Rle
from molmo2_ground.sources.film_facts import FilmFacts
from tests.made_marks import disc, masks, points_on_pictures, tracks


def film(count: int = 12, size_px: tuple[int, int] = (48, 32)) -> FilmFacts:
    times = np.arange(count) / 8 + np.where(np.arange(count) > 3, 0.01, 0)
    return FilmFacts(size_px=size_px, duration_s=count / 8, times_s=times)


def drawn(*marks: Mark, **changes: Any) -> MarkedMedia:
    fields: dict[str, Any] = {
        "name": "a.mp4",
        "kind": "video",
        "size_px": (48, 32),
        "frames": tuple(sorted({mark.frame for mark in marks})),
        "marks": marks,
    }
    return MarkedMedia(**{**fields, **changes})


BOX = Mark(object_id=1, label="car", frame=4, box_px=(2, 4, 6, 10))


def test_the_videos_own_times_count() -> None:
    media = settled(drawn(BOX), film=film())
    assert media.marks[0].time_s == pytest.approx(0.51)
    assert (media.fps, media.frame_count) == (8.0, 12)
    result = to_tracks(media, origin="cvat a.xml")
    (track,) = result
    (sample,) = track.samples
    assert (sample.x_px, sample.y_px, sample.x_norm, sample.source_index) == (4.0, 7.0, 4 / 48, 4)
    assert sample.state == "observed"


def test_without_the_video_the_rate_counts() -> None:
    assert settled(drawn(BOX), fps=2).marks[0].time_s == 2.0
    assert settled(drawn(BOX, fps=4.0)).marks[0].time_s == 1.0
    assert settled(drawn(BOX, times_s={4: 0.7})).marks[0].time_s == 0.7


def test_times_that_were_counted_by_a_rate_are_said() -> None:
    note = "its times are counted by 2 frames a second; the video itself (--media) has its own"
    assert settled(drawn(BOX), fps=2).left_out == (note,)
    assert settled(drawn(BOX, times_s={4: 0.7})).left_out == ()
    assert settled(drawn(BOX), film=film()).left_out == ()


@pytest.mark.parametrize(
    ("media", "options", "message"),
    [
        pytest.param(drawn(BOX), {}, "does not say when they are shown", id="no-times"),
        pytest.param(drawn(BOX), {"film": film(size_px=(50, 32))}, "annotated at 48 x 32", id="other-size"),
        pytest.param(drawn(BOX), {"film": film(count=4)}, "mark in frame 4.*has 4 frames", id="too-short"),
        pytest.param(drawn(BOX, size_px=(0, 0)), {"fps": 2}, "--size WIDTHxHEIGHT", id="no-size"),
        pytest.param(
            drawn(BOX, kind="images", size_px=(0, 0)), {}, "how large its pictures are", id="no-picture-size"
        ),
    ],
)
def test_what_cannot_be_settled_gives_one_line(
    media: MarkedMedia, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        settled(media, **options)


def test_percents_become_pixels() -> None:
    media = settled(drawn(BOX, size_px=(100, 100), percent=True), film=film())
    assert media.marks[0].box_px == pytest.approx((0.96, 1.28, 2.88, 3.2))
    assert not media.percent
    real = settled(drawn(BOX, size_px=(100, 100)), fps=1)
    assert real.marks[0].box_px == BOX.box_px


def test_the_receipt_says_that_no_model_was_asked() -> None:
    media = settled(drawn(replace(BOX, occluded=True), left_out=("2 times: a line",)), film=film())
    receipt = to_tracks(media, origin="cvat a.xml").receipt
    assert (receipt.task, receipt.model_id, receipt.backend, receipt.recipe) == (
        "annotation",
        "annotation",
        "import",
        "cvat a.xml",
    )
    assert receipt.raw_text == receipt.prompt == ""
    assert receipt.notes == (
        "read from cvat a.xml; no model was asked",
        "1 place marked as occluded, which a result has no field for",
        "2 times: a line",
    )
    with pytest.raises(ValueError, match="got 'annotation'"):
        derive(receipt)


@pytest.mark.parametrize(
    ("place", "xy_px", "note"),
    [
        pytest.param({"box_px": (-2, 4, 6, 10)}, (2, 7), "", id="a-box-sticks-out"),
        pytest.param(
            {"box_px": (-10, 4, 6, 10)},
            (3, 7),
            "1 box with the middle outside the picture cut to the part in it; object 1 in frame 4",
            id="its-middle-too",
        ),
        pytest.param(
            {"box_px": (50, 4, 60, 10)},
            None,
            "left out; object 1 in frame 4, counted from 0, is at (55, 7) of 48 x 32",
            id="all-of-it",
        ),
        pytest.param({"point_px": (3, 33)}, None, "1 place outside the picture left out", id="a-point"),
        pytest.param({"point_px": (48.004, 0)}, (48.004, 0), "", id="rounding-at-the-edge"),
    ],
)
def test_a_place_outside_the_picture_is_left_out_and_told(
    place: dict[str, Any], xy_px: tuple[float, float] | None, note: str
) -> None:
    one = Mark(object_id=1, label="car", frame=4, **place)
    other = Mark(object_id=2, label="car", frame=4, point_px=(1, 1))
    settled_media = settled(drawn(one, other), film=film())
    found = to_tracks(settled_media, origin="x")
    places = [(sample.x_px, sample.y_px) for track in found for sample in track.samples]
    assert places == ([] if xy_px is None else [xy_px]) + [(1, 1)]
    assert sum("picture" in line for line in found.receipt.notes) == bool(note)
    assert note in " ".join(found.receipt.notes)
    pictures = replace(settled_media, kind="images", frames=(0, 1, 2, 3, 4), times_s={})
    points = to_points(pictures, origin="x")
    assert [(point.x_px, point.y_px) for point in points] == places
    assert points.receipt.notes == found.receipt.notes


def test_annotations_of_a_picture_of_another_size_are_told() -> None:
    marks = [replace(BOX, frame=frame, box_px=(100, 100, 120, 120)) for frame in (2, 3)]
    with pytest.raises(SourceError, match="none of 2 places lies in the picture; the first, obj"):
        to_tracks(settled(drawn(*marks), film=film()), origin="x")


def test_a_place_of_a_mask_lies_on_it() -> None:
    ring = disc(20, 16, 9) & ~disc(20, 16, 6)
    mark = Mark(object_id=1, label="ring", frame=0, mask=Rle.encode(ring))
    place = place_of(mark)
    assert place is not None
    assert ring[int(place[1]), int(place[0])]
    assert place_of(replace(mark, mask=Rle.encode(np.zeros((3, 3), dtype=bool)))) is None
    assert place_of(replace(mark, point_px=(1, 2))) == (1, 2)


def test_tracks_and_masks_survive_coco(tmp_path: Path) -> None:
    write_coco(marks_of(tracks(), masks=masks()), tmp_path / "coco.json")
    (media,) = read_coco(tmp_path / "coco.json")
    media = settled(media)
    back = to_tracks(media, origin="coco")
    ours = {track.object_id: track for track in tracks()}
    for track in back:
        pointed = {sample.source_index: sample for sample in ours[track.object_id].samples}
        assert track.label == ours[track.object_id].label
        for sample in track.samples:
            if sample.source_index in pointed:
                assert sample == pointed[sample.source_index]
    found = to_masks(media, origin="coco")
    assert found.masks == masks().masks
    assert found.labels == masks().labels
    assert found.segmenter == "annotation"


def test_doubts_and_what_is_hidden_survive_coco(tmp_path: Path) -> None:
    mark = Mark(
        object_id=1,
        label="car",
        frame=0,
        time_s=0.0,
        mask=Rle.encode(disc(8, 8, 3)),
        flags=("area_jump", "covers_frame"),
        occluded=True,
        state="propagated",
    )
    write_coco(drawn(mark), tmp_path / "coco.json")
    (back,) = read_coco(tmp_path / "coco.json")
    assert replace(back.marks[0], time_s=0.0) == mark


def test_points_on_pictures_survive_coco(tmp_path: Path) -> None:
    write_coco(marks_of(points_on_pictures()), tmp_path / "coco.json")
    (media,) = read_coco(tmp_path / "coco.json")
    assert to_points(settled(media), origin="coco").points == points_on_pictures().points


def coco_document(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "images": [{"id": 9, "file_name": "a.jpg", "width": 20, "height": 10}],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 3, "segmentation": [[2, 2, 6, 2, 6, 8, 2, 8]]},
            {"id": 3, "image_id": 9, "category_id": 3, "iscrowd": 1, "bbox": [1, 2, 3, 4]},
            {"id": 4, "image_id": 9, "category_id": 3, "keypoints": [0, 0, 0, 5, 6, 1]},
            {"id": 5, "image_id": 9, "category_id": 3, "bbox": [1, 1, 2, 2], "keypoints": [1, 1, 2, 5, 6, 2]},
            {"id": 6, "image_id": 9, "category_id": 3},
        ],
    }
    return {**document, **changes}


def test_a_coco_file_of_pictures_is_read(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(json.dumps(coco_document()))
    (media,) = read_coco(tmp_path / "coco.json")
    assert (media.kind, media.name, media.image_names) == ("images", "a.jpg", ("a.jpg",))
    box, outline, point, skeleton = media.marks
    assert box.box_px == (1, 2, 4, 6)
    assert outline.mask is not None
    assert (outline.mask.box_px, outline.mask.area_px) == ((2, 2, 6, 8), 24)
    assert point.point_px == (5, 6)
    assert (skeleton.point_px, skeleton.box_px) == (None, (1, 1, 3, 3))
    assert media.left_out == (
        "1 time: crowds are of no single object",
        "1 time: an annotation without a mask, a point or a box",
    )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param([], "expected a list of images", id="a-list"),
        pytest.param({"images": 3}, "expected a list of images", id="no-list"),
        pytest.param(coco_document(images=[{"id": 1}]), "the field 'width' is missing", id="no-size"),
        pytest.param(coco_document(categories=[]), "there is no category 3", id="no-category"),
        pytest.param(coco_document(images=[]), "there is no image 9", id="no-image"),
        pytest.param(
            coco_document(
                annotations=[
                    {
                        "id": 1,
                        "image_id": 9,
                        "category_id": 3,
                        "segmentation": {"size": [1, 2], "counts": "02"},
                    }
                ]
            ),
            "annotation 1: its mask is",
            id="mask-of-another-size",
        ),
        pytest.param(
            coco_document(
                annotations=[
                    {
                        "id": 1,
                        "image_id": 9,
                        "category_id": 3,
                        "segmentation": {"size": [10, 20], "counts": "0"},
                    }
                ]
            ),
            "annotation 1: the runs of a mask cover",
            id="mask-that-is-none",
        ),
        pytest.param(
            coco_document(images=[{"id": 9, "width": 10**9, "height": 10**9}]),
            "no size of a picture",
            id="huge",
        ),
    ],
)
def test_what_is_no_coco_file_gives_one_line(document: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match=message):
        read_coco(tmp_path / "coco.json")


def test_between_keyframes_an_object_moves_straight() -> None:
    first = Mark(object_id=1, label="car", frame=0, box_px=(0, 0, 4, 4), until=4)
    last = Mark(object_id=1, label="car", frame=4, box_px=(8, 4, 12, 12), until=TO_THE_END)
    media = filled(drawn(first, last, frame_count=7))
    assert [(m.frame, m.state) for m in media.marks] == [
        (0, "observed"), (1, "interpolated"), (2, "interpolated"), (3, "interpolated"), (4, "observed"),
        (5, "interpolated"), (6, "interpolated"),
    ]  # fmt: skip
    assert media.marks[1].box_px == (2, 1, 6, 6)
    assert media.marks[6].box_px == last.box_px
    assert media.frames == tuple(range(7))


def test_nothing_is_filled_in_where_the_object_is_not_there() -> None:
    first = Mark(object_id=1, label="car", frame=0, point_px=(1, 1), until=2)
    last = Mark(object_id=1, label="car", frame=4, point_px=(9, 9))
    media = filled(drawn(first, last, frame_count=7))
    assert [(m.frame, m.point_px) for m in media.marks] == [(0, (1, 1)), (1, (1, 1)), (4, (9, 9))]


def test_more_frames_than_can_be_meant_are_not_filled_in() -> None:
    one = Mark(object_id=1, label="car", frame=0, box_px=(0, 0, 4, 4), until=TO_THE_END)
    with pytest.raises(SourceError, match="the numbers of its frames are wrong"):
        filled(drawn(one, frame_count=2_000_000_000))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_what_is_no_place_is_no_mark(value: float) -> None:
    with pytest.raises(ValueError, match="no number of pixels or seconds"):
        Mark(object_id=1, label="car", frame=0, point_px=(1.0, value))


def test_between_outlines_there_is_the_box_around_them() -> None:
    first = Mark(object_id=1, label="car", frame=0, mask=Rle.encode(disc(8, 8, 3)), until=2)
    last = Mark(object_id=1, label="car", frame=2, mask=Rle.encode(disc(12, 8, 3)))
    (_, between, _) = filled(drawn(first, last)).marks
    assert between.mask is None
    assert between.box_px == (7, 5, 13, 11)

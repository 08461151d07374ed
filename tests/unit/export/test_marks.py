from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from molmo2_ground.export import FORMATS, marks_of
from molmo2_ground.export.marks import Mark
from molmo2_ground.results import Answer, Count, Track, Tracks
from tests.made_marks import LABELS, LOOKED_AT, masks, points_on_pictures, receipt, sample, tracks


def test_every_sample_is_a_mark_in_order_of_frames_and_objects() -> None:
    media = marks_of(tracks())
    assert [(mark.frame, mark.object_id) for mark in media.marks] == [
        (0, 1), (0, 2), (0, 7), (3, 7), (5, 1), (5, 7), (10, 1), (10, 2), (15, 1),
    ]  # fmt: skip
    assert media.labels == LABELS
    assert {mark.state for mark in media.of(7)} == {"observed", "propagated"}
    assert (media.kind, media.fps, media.length, media.stem) == ("video", 10.0, 16, "street_one")


def test_masks_join_the_points_of_their_objects() -> None:
    media = marks_of(tracks(), masks=masks())
    (first, dog, blue) = media.in_frame(0)
    assert first.point_px == (5.25, 10.1)
    assert first.mask is not None
    assert dog.mask is not None
    assert blue.mask is None
    assert [mark.frame for mark in media.of(1)] == list(range(16))
    assert media.frames == tuple(range(16))  # whoever carries masks looks at every frame


def test_points_alone_know_the_frames_that_were_looked_at() -> None:
    assert marks_of(tracks().observed).frames == LOOKED_AT
    empty = marks_of(Tracks(tracks=(), receipt=receipt()))
    assert (empty.frames, empty.marks, empty.length) == (LOOKED_AT, (), 16)


def test_pictures_keep_their_sizes() -> None:
    media = marks_of(points_on_pictures())
    assert media.kind == "images"
    assert [media.size_of(frame) for frame in media.frames] == [(48, 32), (20, 30), (50, 40)]
    assert media.time_of(0) is None


def test_an_answer_numbers_its_points_after_its_tracks() -> None:
    answer = Answer(text="", points=points_on_pictures(), tracks=tracks(), receipt=receipt())
    media = marks_of(answer)
    assert sorted(media.labels) == [1, 2, 7, 8, 9, 10, 11, 12]
    count = Count(value=5, stated=5, points=points_on_pictures())
    assert len(marks_of(count).marks) == 5


def test_an_object_without_a_pixel_is_named() -> None:
    found = masks().model_copy(update={"labels": {**masks().labels, 9: "ghost"}})
    assert marks_of(found).left_out == ("object 9: nothing of it was found",)


def test_what_cannot_be_marks() -> None:
    twice = Track(object_id=1, label="car", samples=(sample(0, 1, 1), sample(0, 2, 2)))
    with pytest.raises(ValueError, match="object 1 has two places in frame 0"):
        marks_of(Tracks(tracks=(twice,), receipt=receipt()))
    with pytest.raises(ValueError, match="made from this result"):
        marks_of(Tracks(tracks=(), receipt=receipt(size_px=(10, 10))), masks=masks())
    with pytest.raises(ValueError, match="has 15 frames, and the result goes up to frame 15"):
        marks_of(tracks(), frame_count=15)
    with pytest.raises(ValueError, match="given twice"):
        marks_of(masks(), masks=masks())


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("street.mp4", "street"),
        ("/a/b/c d.e.mkv", "c_d.e"),
        ("C:\\films\\x.avi", "x"),
        ("größe.mp4", "größe"),
        ("..", "images"),
        ("a,b%c\n.mp4", "a_b_c"),
        ("3 images", "3_images"),
        ("x" * 300 + ".mp4", "x" * 100),
    ],
)
def test_a_source_gives_a_name_that_files_can_have(source: str, stem: str) -> None:
    media = marks_of(Tracks(tracks=(), receipt=receipt(source=source, frame_times_s=())))
    assert media.stem == stem


def test_the_square_around_a_point_has_the_point_in_its_middle() -> None:
    mark = Mark(object_id=1, label="car", frame=0, point_px=(1.5, 2.0))
    assert mark.extent_px() is None
    assert mark.extent_px(4) == (-2.5, -2.0, 5.5, 6.0)


@pytest.mark.parametrize("name", FORMATS)
def test_places_that_are_no_pixels_yet_are_not_written(name: str, tmp_path: Path) -> None:
    media = replace(marks_of(masks()), size_px=(100, 100), percent=True)
    with pytest.raises(ValueError, match="settle it first"):
        FORMATS[name].write(media, tmp_path / "out", None)
    assert not list(tmp_path.iterdir())

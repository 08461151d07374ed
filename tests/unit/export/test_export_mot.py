"""MOT text, and back; TrackEval reads the same in tests/parity/test_trackeval_files.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.errors import SourceError
from molmo2_ground.export import marks_of, read_mot, write_mot, write_mots
from molmo2_ground.export.marks import MarkedMedia
from molmo2_ground.export.written import number
from molmo2_ground.results import Masks
from tests.made_marks import LOOKED_AT, disc, mask, masks, points_on_pictures, receipt, tracks


def test_ten_columns_counted_from_one(tmp_path: Path) -> None:
    written = write_mot(marks_of(masks()), tmp_path / "out.txt")
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert lines[0] == "1,1,1,5,11,12,1,-1,-1,-1"  # box (0, 4, 11, 16)
    assert len(lines) == written.marks == len(masks())
    assert all(len(line.split(",")) == 10 for line in lines)
    assert "labels have no place in MOT text" in written.left_out[0]


def test_points_get_the_box_of_the_radius_that_was_asked_for(tmp_path: Path) -> None:
    write_mot(marks_of(tracks()), tmp_path / "out.txt", radius_px=3)
    assert (tmp_path / "out.txt").read_text().splitlines()[0] == "1,1,3.25,8.1,6,6,1,-1,-1,-1"
    (media,) = read_mot(tmp_path / "out.txt", label="thing")
    middles = {
        (m.frame, m.object_id): ((m.box_px[0] + m.box_px[2]) / 2, (m.box_px[1] + m.box_px[3]) / 2)
        for m in media.marks
        if m.box_px is not None
    }
    points = {
        (s.source_index, t.object_id): pytest.approx((s.x_px, s.y_px), abs=1e-6)
        for t in tracks()
        for s in t.samples
    }
    assert middles == points


def test_points_without_a_radius_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"object 1 in frame 0 is only a point.*--radius-px"):
        write_mot(marks_of(tracks()), tmp_path / "out.txt")
    with pytest.raises(ValueError, match="above 0 pixels; got 0"):
        write_mot(marks_of(tracks()), tmp_path / "out.txt", radius_px=0)
    assert not list(tmp_path.iterdir())


def test_an_empty_mask_is_named(tmp_path: Path) -> None:
    empty = Masks(
        masks=(mask(1, 0, disc(9, 9, 0)), mask(1, 5, disc(9, 9, 3))),
        labels={1: "a"},
        segmenter="discs",
        receipt=receipt(),
    )
    written = write_mot(marks_of(empty), tmp_path / "out.txt")
    assert written.marks == 1
    assert written.left_out[0] == "object 1: its mask is empty and has no box in frame 0"
    assert write_mots(marks_of(empty), tmp_path / "mots.txt").marks == 1


def test_mots_has_no_overlaps_and_counts_from_one(tmp_path: Path) -> None:
    write_mots(marks_of(masks()), tmp_path / "out.txt")
    lines = [line.split(" ") for line in (tmp_path / "out.txt").read_text().splitlines()]
    assert lines[0][:5] == ["1", "2001", "2", "32", "48"]
    assert lines[1][:3] == ["1", "2002", "2"]
    assert len(lines) == len(masks())
    with pytest.raises(ValueError, match="MOTS holds masks"):
        write_mots(marks_of(tracks()), tmp_path / "points.txt")


def test_a_truth_is_read_with_what_lies_around_it(tmp_path: Path) -> None:
    folder = tmp_path / "MOT-01" / "gt"
    folder.mkdir(parents=True)
    (folder / "gt.txt").write_text("1,4,11,21,5,6,1,2,1.0\n3,4,12,21,5,6,1,2,0.5\n3,9,1,1,2,2,0,1,1\n\n")
    (folder / "labels.txt").write_text("person\ncar\n")
    (folder.parent / "seqinfo.ini").write_text(
        "[Sequence]\nname=MOT-01\nframeRate=25\nseqLength=30\nimWidth=640\nimHeight=360\nimExt=.jpg\n"
    )
    (media,) = read_mot(folder / "gt.txt")
    assert (media.name, media.size_px, media.fps, media.frame_count) == ("MOT-01", (640, 360), 25.0, 30)
    assert [(m.frame, m.object_id, m.label, m.box_px) for m in media.marks] == [
        (0, 4, "car", (10, 20, 15, 26)),
        (2, 4, "car", (11, 20, 16, 26)),
    ]
    assert media.left_out == ("1 time: a box that the truth says is not to be considered",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("1,1,1,1,2", "line 1: expected frame,id", id="too-few-columns"),
        pytest.param("1,1,1,1,2,x", "line 1: height is 'x'; expected a number", id="no-number"),
        pytest.param("0,1,1,1,2,2", "frames count from 1", id="frame-0"),
        pytest.param("1.5,1,1,1,2,2", "frame is '1.5'", id="half-a-frame"),
        pytest.param("1,1,1,1,0,2", "above 0 pixels; got 0 x 2", id="no-width"),
        pytest.param(
            "1,1,1,1,2,2\n1,1,1,1,2,2", "line 2: object 1 has a box in frame 1 already, in line 1", id="twice"
        ),
        pytest.param("1,1,nan,1,2,2", "left is 'nan'; expected a number", id="nan"),
        pytest.param("a b c", "line 1", id="words"),
    ],
)
def test_what_is_no_mot_text_gives_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(SourceError, match=message):
        read_mot(tmp_path / "x.txt", label="car")


def test_boxes_without_a_name_need_one(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("1,1,1,1,2,2,1,-1,-1,-1")
    with pytest.raises(SourceError, match="--label NAME"):
        read_mot(tmp_path / "x.txt")
    with pytest.raises(SourceError, match="cannot be read"):
        read_mot(tmp_path / "no.txt")


BOXES = st.tuples(*(st.floats(-1e4, 1e4) for _ in range(2)), *(st.floats(0.01, 1e4) for _ in range(2)))


@settings(max_examples=40)
@given(box=BOXES)
def test_a_box_survives_to_a_millionth_of_a_pixel(
    box: tuple[float, float, float, float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    left, top, width, height = box
    edges = (left, top, left + width, top + height)
    path = tmp_path_factory.getbasetemp() / "box.txt"
    media = marks_of(points_on_pictures())
    mark = media.marks[0]
    one = MarkedMedia(
        name="a.mp4",
        kind="video",
        size_px=(10, 10),
        frames=(0,),
        marks=(replace(mark, point_px=None, box_px=edges),),
    )
    write_mot(one, path)
    (back,) = read_mot(path, label="mug")
    assert back.marks[0].box_px == pytest.approx(edges, abs=3e-6)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.1, "0.1"),
        (-0.0, "0"),
        (1e-9, "0"),
        (123456.1234567, "123456.123457"),
        (1e15, str(10**15)),
    ],
)
def test_numbers_are_written_short(value: float, text: str) -> None:
    assert number(value) == text


def test_frames_that_were_looked_at_are_known() -> None:
    assert marks_of(tracks().observed).next_frame(0) == LOOKED_AT[1]
    assert marks_of(tracks().observed).next_frame(15) is None

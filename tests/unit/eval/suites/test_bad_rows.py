from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.suites import open_suite
from tests import made_up_sets as made
from tests.media import write_video

Damage = Callable[[Any], None]
CUT_OFF = "`"


def _set(*path: Any, to: Any) -> Damage:
    """Put a value at a place in the rows."""

    def damage(rows: Any) -> None:
        for step in path[:-1]:
            rows = rows[step]
        rows[path[-1]] = to

    return damage


def _drop(*path: Any) -> Damage:
    """Remove a field."""

    def damage(rows: Any) -> None:
        for step in path[:-1]:
            rows = rows[step]
        del rows[path[-1]]

    return damage


def _twice(rows: list[Any]) -> None:
    rows.insert(1, dict(rows[0]))


SMALL = made.rle(np.zeros((10, 10), dtype=bool))
BROKEN = {"size": [made.HEIGHT, made.WIDTH], "counts": CUT_OFF}
SENTENCE = ("sentences", "videos", "v1", "expressions", "0")


@pytest.mark.parametrize(
    ("name", "write", "damage", "row", "reason"),
    [
        pytest.param(
            "video-point",
            made.video_point,
            _set(0, "video_id", to="gone"),
            "val.jsonl line 1",
            "no file is called gone_2fps or gone",
            id="missing-video",
        ),
        pytest.param(
            "video-point",
            made.video_point,
            _set(0, "masks", 0, 1, "rle", to=SMALL),
            "val.jsonl line 1",
            "the mask of point 1 at frame 2: the mask has 10 x 10 pixels; the picture has 96 x 64",
            id="mask-of-wrong-size",
        ),
        pytest.param(
            "video-point",
            made.video_point,
            _set(0, "masks", 1, 0, "rle", to=BROKEN),
            "val.jsonl line 1",
            "the mask of point 2 at frame 7: a compressed mask of 1 characters ends within a number",
            id="mask-cut-off",
        ),
        pytest.param(
            "video-point",
            made.video_point,
            _set(0, "masks", 1, 0, "rle", "counts", to=[5, 5]),
            "val.jsonl line 1",
            "the runs of a mask cover 10 pixels",
            id="mask-too-short",
        ),
        pytest.param(
            "video-point",
            made.video_point,
            _set(0, "width", to=640),
            "val.jsonl line 1",
            "abc_2fps.mp4 has 96 x 64 pixels; the row says 640 x 64",
            id="video-of-wrong-size",
        ),
        pytest.param(
            "video-point",
            made.video_point,
            _twice,
            "val.jsonl line 2",
            "the id abc:the two boxes is also that of val.jsonl line 1",
            id="same-id-twice",
        ),
        pytest.param(
            "video-point",
            made.video_point,
            _set(0, "two_fps_timestamps", to=[1.0]),
            "val.jsonl line 1",
            "there are 2 points, 2 masks and 1 times",
            id="times-for-half-the-points",
        ),
        pytest.param(
            "video-point",
            made.video_point,
            _set(0, "points", 1, "x", to=98),
            "val.jsonl line 1",
            "point 2 is at (98, ",
            id="point-outside-the-picture",
        ),
        pytest.param(
            "video-point",
            made.video_point,
            _set(0, to=7),
            "val.jsonl line 1",
            "the line is 7; expected fields by name",
            id="row-is-a-number",
        ),
        pytest.param(
            "video-point",
            made.video_point,
            _drop(1, "label"),
            "val.jsonl line 2",
            "the field label is missing",
            id="missing-field",
        ),
        pytest.param(
            "video-count",
            made.video_count,
            _set(1, "clip_start", to=9.0),
            "val.jsonl line 2",
            "the part asked about is 9 to 4 s; the video lasts 6 s",
            id="part-outside-the-video",
        ),
        pytest.param(
            "video-count",
            made.video_count,
            _set(0, "count", to=-1),
            "val.jsonl line 1",
            "the field count is -1; expected a whole number",
            id="negative-count",
        ),
        pytest.param(
            "video-track",
            made.video_track,
            _set(0, "points", 1, "object_id", to="5"),
            "test.jsonl line 1",
            "the object 5 comes twice in points",
            id="same-object-twice",
        ),
        pytest.param(
            "video-track",
            made.video_track,
            _set(0, "masks", 1, "object_id", to="6"),
            "test.jsonl line 1",
            "points are given for the objects ['5', '9'], masks for ['5', '6']",
            id="masks-of-another-object",
        ),
        pytest.param(
            "video-track",
            made.video_track,
            _set(0, "masks", 0, "masks", 5, to=BROKEN),
            "test.jsonl line 1",
            "the mask of object 5 at frame 5: a compressed mask",
            id="mask-cut-off-between-judged-frames",
        ),
        pytest.param(
            "video-track",
            made.video_track,
            _set(0, "points", 0, "points", to=[[1.0, 1.0]] * 20),
            "test.jsonl line 1",
            "20 frames are annotated; clip_0001.mp4 has 12",
            id="more-truth-than-video",
        ),
        pytest.param(
            "video-track",
            made.video_track,
            _set(0, "points", 0, "points", 0, to=[5, -9]),
            "test.jsonl line 1",
            "the point of object 5 at frame 0 is at (5, -9), outside the picture of 96 x 64 pixels",
            id="track-outside-the-picture",
        ),
        pytest.param(
            "video-track",
            made.video_track,
            _set(0, "video_dataset", to="sav"),
            "test.jsonl line 1",
            "several files are called clip_0001",
            id="video-in-two-places",
        ),
        pytest.param(
            "video-track",
            made.video_track,
            _set(0, "fps", to=0),
            "test.jsonl line 1",
            "the field fps is 0; expected a number above 0",
            id="no-rate",
        ),
        pytest.param(
            "mevis",
            made.mevis,
            _set(*SENTENCE, "obj_id", to=[1, 1]),
            "v1/0",
            "an object id comes twice in [1, 1]",
            id="mevis-same-object-twice",
        ),
        pytest.param(
            "mevis",
            made.mevis,
            _set(*SENTENCE, "anno_id", to=[7, 99]),
            "v1/0",
            "mask_dict.json has no masks of the annotation 99",
            id="mevis-no-masks",
        ),
        pytest.param(
            "mevis",
            made.mevis,
            _set("masks", "7", 3, to=BROKEN),
            "v1/0",
            "annotation 7, frame 3: a compressed mask",
            id="mevis-mask-cut-off",
        ),
        pytest.param(
            "mevis",
            made.mevis,
            _set(*SENTENCE, to=None),
            "v1/0",
            "the sentence is None; expected fields by name",
            id="mevis-empty-sentence",
        ),
        pytest.param(
            "ref-yt-vos",
            made.ref_youtube_vos,
            _drop(*SENTENCE[1:], "obj_id"),
            "v1/0",
            "the sentence names no object (obj_id)",
            id="ref-yt-vos-public-sentences",
        ),
        pytest.param(
            "reason-vos",
            made.reason_vos,
            _set("videos", "v1", "source", to="BURST"),
            "v1, sentence 0",
            "BURST_v1_3/00000.png is missing",
            id="reason-vos-missing-masks",
        ),
        pytest.param(
            "reason-vos",
            made.reason_vos,
            _set("videos", "v1", "frames", 4, to="nowhere"),
            "v1, sentence 0",
            "v1/nowhere.jpg is missing",
            id="reason-vos-missing-frame",
        ),
        pytest.param(
            "burst-count",
            made.burst,
            _set("sequences", 0, "seq_name", to="s2"),
            "HACS/s2, category 3",
            "there is no folder of frames",
            id="burst-missing-frames",
        ),
        pytest.param(
            "burst-count",
            made.burst,
            _set("sequences", 0, "segmentations", 1, "2", "rle", to=CUT_OFF),
            "HACS/s1, category 3",
            "track 2, annotated frame 1: a compressed mask",
            id="burst-mask-cut-off",
        ),
        pytest.param(
            "burst-count",
            made.burst,
            _drop("categories", 1),
            "HACS/s1, category 5",
            "the category 5 is not in the list",
            id="burst-unknown-category",
        ),
        pytest.param(
            "burst-count",
            made.burst,
            lambda content: content["sequences"].append("?"),
            "sequence 1",
            "the sequence is '?'",
            id="burst-sequence-is-a-text",
        ),
        pytest.param(
            "pixmo-points",
            made.pixmo_points,
            _set(0, "masks", 0, to=[[True]]),
            "test.jsonl line 1",
            "mask 1: the mask has 1 x 1 pixels",
            id="pixmo-mask-of-wrong-size",
        ),
        pytest.param(
            "pixmo-points",
            made.pixmo_points,
            _set(0, "masks", 0, to=[[True], [True, False]]),
            "test.jsonl line 1",
            "mask 1: its rows differ in length",
            id="pixmo-ragged-mask",
        ),
        pytest.param(
            "pixmo-points",
            made.pixmo_points,
            _set(0, "points", 0, "y", to=140),
            "test.jsonl line 1",
            "outside the picture",
            id="pixmo-point-outside-the-picture",
        ),
        pytest.param(
            "pixmo-count",
            made.pixmo_count,
            _set(0, "image", to="images/none.png"),
            "test.jsonl line 1",
            "there is no picture",
            id="pixmo-missing-picture",
        ),
        pytest.param(
            "point-bench",
            made.point_bench,
            _set(0, "category", to="cooking"),
            "data.json row 0",
            "the category is cooking; expected affordable",
            id="point-bench-unknown-category",
        ),
        pytest.param(
            "point-bench",
            made.point_bench,
            _set(0, "mask_filename", to="gone.png"),
            "data.json row 0",
            "spatial/gone.png is missing",
            id="point-bench-missing-mask",
        ),
    ],
)
def test_a_bad_row_is_told_and_the_others_are_kept(
    tmp_path: Path, name: str, write: Callable[..., None], damage: Damage, row: str, reason: str
) -> None:
    healthy, hurt = tmp_path / "healthy", tmp_path / "hurt"
    for folder in (healthy, hurt):
        folder.mkdir()
    write(healthy)
    write(hurt, damage)
    suite = open_suite(name, hurt)
    first = suite.check()[0]
    assert first.row == row
    assert reason in first.reason
    kept = {example.key for example in suite.examples()}
    assert kept <= {example.key for example in open_suite(name, healthy).examples()}


def test_a_line_that_is_no_json_is_a_bad_row(tmp_path: Path) -> None:
    made.video_count(tmp_path)
    table = tmp_path / "val.jsonl"
    table.write_text(table.read_text() + '{"video_id": \n')
    (problem,) = open_suite("video-count", tmp_path).check()
    assert (problem.row, problem.reason[:19]) == ("val.jsonl line 3", "the line is no JSON")


@pytest.mark.parametrize("kind", ["lines", "list"])
def test_bad_rows_count_as_done(tmp_path: Path, kind: str) -> None:
    made.video_count(tmp_path)
    table = tmp_path / "val.jsonl"
    lines = table.read_text().splitlines()
    if kind == "lines":
        table.write_text("\n\n".join([lines[0], "{", *lines]))
    else:
        table.with_suffix(".json").write_text(f"[{lines[0]}, 7, {lines[0]}, {lines[1]}]")
        table.unlink()
    told: list[tuple[int, int]] = []
    suite = open_suite("video-count", tmp_path)
    problems = suite.check(on_progress=lambda done, total, left_s: told.append((done, total)))
    assert (len(problems), len(suite.examples())) == (2, 2)  # no row, and an id that comes twice
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_video_that_cannot_be_opened_is_a_bad_row(tmp_path: Path) -> None:
    made.video_track(tmp_path)
    (tmp_path / "DanceTrack" / "clip_0001.mp4").write_bytes(b"no video at all")
    suite = open_suite("video-track", tmp_path)
    (problem,) = suite.check()
    assert "clip_0001.mp4" in problem.reason
    assert suite.examples() == ()


def test_frames_of_two_sizes_are_a_bad_row(tmp_path: Path) -> None:
    made.reason_vos(tmp_path)
    Image.new("RGB", (50, 40)).save(tmp_path / "JPEGImages" / "v1" / "00003.jpg")
    (problem,) = open_suite("reason-vos", tmp_path).check()
    assert "differ in size: 00000.jpg 96 x 64, 00003.jpg 50 x 40" in problem.reason


@pytest.mark.parametrize("frame", ["00000", "00007"], ids=["judged", "not-judged"])
def test_every_mask_picture_is_opened(tmp_path: Path, frame: str) -> None:
    made.reason_vos(tmp_path)
    (tmp_path / "Annotations" / "MOSE_v1_3" / f"{frame}.png").write_bytes(b"\x89PNG and no more")
    (problem,) = open_suite("reason-vos", tmp_path).check()
    assert problem.reason.startswith(f"the mask {frame}.png cannot be opened")


def test_a_video_without_mask_pictures_is_a_bad_row(tmp_path: Path) -> None:
    made.ref_youtube_vos(tmp_path)
    for path in (tmp_path / "valid" / "Annotations" / "v1").iterdir():
        path.unlink()
    problems = open_suite("ref-yt-vos", tmp_path).check()
    assert [problem.row for problem in problems] == ["v1/0", "v1/1"]
    assert all("there is no mask in" in problem.reason for problem in problems)


def test_a_video_of_another_size_is_told_with_both_sizes(tmp_path: Path) -> None:
    made.video_track(tmp_path)
    write_video(tmp_path / "DanceTrack" / "clip_0001.mp4", frame_count=12, fps=6, size_px=(64, 48))
    (problem,) = open_suite("video-track", tmp_path).check()
    assert problem.reason == "clip_0001.mp4 has 64 x 48 pixels; the row says 96 x 64"


def test_a_table_in_parquet_reads_as_the_one_in_json_lines(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[Any] = []
    made.video_count(tmp_path, rows.extend)
    expected = open_suite("video-count", tmp_path).examples()
    (tmp_path / "val.jsonl").unlink()
    (tmp_path / "data").mkdir()
    table = arrow.Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / "data" / "val-00000-of-00001.parquet")
    suite = open_suite("video-count", tmp_path)
    told: list[tuple[int, int]] = []
    assert suite.check(on_progress=lambda done, total, left_s: told.append((done, total))) == ()
    assert told == [(1, 2), (2, 2)]
    assert list(suite.examples()) == list(expected)


def test_a_broken_parquet_file_is_told(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "val-0.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(SourceError, match=r"val-0\.parquet is no parquet file"):
        open_suite("video-count", tmp_path).check()


def test_a_line_that_is_no_text_is_one_bad_row(tmp_path: Path) -> None:
    made.video_point(tmp_path)
    table = tmp_path / "val.jsonl"
    table.write_bytes(b"\xff\xfe{}\n" + table.read_bytes())
    suite = open_suite("video-point", tmp_path)
    (problem,) = suite.check()
    assert problem.row == "val.jsonl line 1"
    assert "no JSON" in problem.reason
    assert len(suite.examples()) == 2

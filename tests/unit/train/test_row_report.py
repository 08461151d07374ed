from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

from molmo2_ground.rle import Rle
from molmo2_ground.train.progress_line import ProgressLine
from molmo2_ground.train.row_checks import cautions_of, problems_of
from molmo2_ground.train.row_folder import write_rows
from molmo2_ground.train.row_media import RowSampling
from molmo2_ground.train.row_report import check_folder
from molmo2_ground.train.rows import Annotation, Moment, Place, Row, Subtitle, TaskName, Turn, text_of
from molmo2_ground.train.validate import main
from tests.made_up_rows import box, mask, moments, point, row_folder, track_row
from tests.media import Shelf, picture, renamed_text, rotated, truncated_no_header, truncated_tail


def holding(*places: Place, task: TaskName = "track", label: str = "dog") -> Row:
    """A row whose one annotation has these places at one moment."""
    return track_row(annotations=(Annotation(task=(task,), label=label, moments=moments((0.0,), *places)),))


def timed(*times_s: float, rate_fps: float | None = None) -> Row:
    annotation = Annotation(task=("track",), label="dog", moments=moments(times_s, box(1)), rate_fps=rate_fps)
    return track_row(annotations=(annotation,))


def words(*turns: Turn, kind: str = "none", task: TaskName = "qa") -> Row:
    annotation = Annotation(task=(task,), turns=turns)
    return Row.model_validate({"row_id": "a", "kind": kind, "annotations": (annotation,)})


def images(*numbers: int, times_s: float | None = None, kind: str = "images") -> Row:
    found = tuple(Moment(image=number, time_s=times_s, places=(point(1),)) for number in numbers)
    annotation = Annotation(task=("point",), label="dog", moments=found)
    return Row.model_validate(
        {"row_id": "a", "kind": kind, "media": ("1.png", "2.png"), "annotations": (annotation,)}
    )


SAID = Turn(question="Why?", answer="So.")
BAD_MASK = Place(object_id=1, mask=Rle(size_hw=(64, 96), counts=b"\x01"))
SHORT_MASK = Place(object_id=1, mask=Rle(size_hw=(64, 96), counts=(1, 2)))
SMALL_MASK = Place(object_id=1, mask=Rle(size_hw=(32, 48), counts=(0, 32 * 48)))
EMPTY_MASK = Place(object_id=1, mask=Rle(size_hw=(64, 96), counts=(64 * 96,)))


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(track_row(), id="video"),
        pytest.param(images(0, 1), id="images"),
        pytest.param(words(SAID), id="text"),
        pytest.param(words(SAID, task="text"), id="plain-text"),
        pytest.param(
            images(0).model_copy(
                update={
                    "annotations": (
                        Annotation(task=("caption",), turns=(Turn(question="", answer="A dog."),)),
                    )
                }
            ),
            id="a-caption-asked-for-in-our-words",
        ),
        pytest.param(holding(task="point"), id="nothing-to-be-seen"),
        pytest.param(
            holding(EMPTY_MASK.model_copy(update={"occluded": True})), id="an-empty-mask-of-a-hidden-thing"
        ),
        pytest.param(holding(Place(object_id=1, occluded=True)), id="hidden-without-a-place"),
        pytest.param(holding(mask(1), task="track_from_box"), id="from-a-mask"),
        pytest.param(holding(Place(object_id=1, x_px=0, y_px=64)), id="on-the-edge"),
        pytest.param(timed(0, 1 / 3, 0.667, 1, rate_fps=3), id="rounded-times-of-a-grid"),
        pytest.param(timed(0.1, 0.7), id="irregular"),
        pytest.param(track_row(subtitles=(Subtitle(start_s=1, end_s=1, text="Hm."),)), id="subtitle"),
    ],
)
def test_good_rows_have_no_problem(row: Row) -> None:
    assert list(problems_of(row)) == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(track_row("  "), "row_id is blank", id="blank-id"),
        pytest.param(
            track_row(media=()), "media names 0 files; a row of kind video has one file", id="no-file"
        ),
        pytest.param(track_row(media=("a.mp4", "b.mp4"), size_px=()), "media names 2 files", id="two-videos"),
        pytest.param(track_row(media=("/a.mp4",)), "media[0] is '/a.mp4'", id="absolute"),
        pytest.param(track_row(media=("../a.mp4",)), "media[0] is '../a.mp4'", id="outside-the-folder"),
        pytest.param(track_row(size_px=((96, 64), (96, 64))), "size_px has 2 sizes for 1 media", id="sizes"),
        pytest.param(track_row(size_px=((0, 64),)), "size_px[0] is 0 x 64", id="no-width"),
        pytest.param(track_row(clip_s=(2, 1)), "clip_s is 2 to 1 s", id="reversed-clip"),
        pytest.param(track_row(clip_s=(-1, 1)), "clip_s is -1 to 1 s", id="clip-before-0"),
        pytest.param(
            images(0).model_copy(update={"clip_s": (0.0, 1.0)}),
            "only a video has a part",
            id="clip-of-images",
        ),
        pytest.param(
            track_row(subtitles=(Subtitle(start_s=2, end_s=1, text="Hm."),)),
            "subtitles[0] goes from 2 to 1 s",
            id="reversed-subtitle",
        ),
        pytest.param(
            track_row(subtitles=(Subtitle(start_s=0, end_s=1, text=" "),)),
            "subtitles[0] has no text",
            id="silent",
        ),
        pytest.param(holding(box(1), label=" "), "annotations[0].label is empty", id="no-label"),
        pytest.param(words(task="caption", kind="none"), "needs a picture", id="caption-of-nothing"),
        pytest.param(words(), "qa needs turns", id="no-turns"),
        pytest.param(words(Turn(question=" ", answer="x")), "turns[0].question is blank", id="no-question"),
        pytest.param(words(Turn(question="x", answer="")), "turns[0].answer is blank", id="no-answer"),
        pytest.param(
            images(0).model_copy(
                update={"annotations": (Annotation(task=("track",), label="a", moments=(Moment(),)),)}
            ),
            "track needs a video",
            id="track-of-images",
        ),
        pytest.param(
            track_row(annotations=(Annotation(task=("count",), label="dog"),)),
            "count needs moments",
            id="no-moments",
        ),
        pytest.param(
            holding(box(1, hidden=True), task="track_from_point"),
            "needs a place that can be seen",
            id="hidden-start",
        ),
        pytest.param(holding(point(1), task="track_from_box"), "needs a box or mask", id="no-box"),
        pytest.param(timed(0, 0.5, 0.5), "time_s is 0.5, not after the 0.5 s", id="twice-the-same-time"),
        pytest.param(timed(1.0, 0.5), "time_s is 0.5, not after the 1 s", id="times-go-back"),
        pytest.param(timed(0, 0.6, rate_fps=2), "between two steps of 2 a second", id="off-the-grid"),
        pytest.param(timed(-1), "what is shown goes from 0 s on", id="before-the-video"),
        pytest.param(
            track_row(clip_s=(0.5, 1.0)),
            "time_s is 0; what is shown goes from 0.5 to 1 s",
            id="outside-the-clip",
        ),
        pytest.param(
            track_row(annotations=(Annotation(task=("point",), label="a", moments=(Moment(),)),)),
            "time_s is missing",
            id="no-time",
        ),
        pytest.param(
            track_row(
                annotations=(Annotation(task=("point",), label="a", moments=(Moment(time_s=0, image=1),)),)
            ),
            "image is 1; moments of a video",
            id="image-of-a-video",
        ),
        pytest.param(images(0, times_s=1.0), "time_s is given", id="time-of-an-image"),
        pytest.param(images(2), "image is 2; there are 2 pictures", id="third-of-two"),
        pytest.param(images(1, 1), "picture 1 has two moments", id="one-picture-twice"),
        pytest.param(images(0, kind="image"), "media names 2 files", id="two-for-one-image"),
        pytest.param(holding(box(1), box(1, 40)), "object 1 comes 2 times", id="one-thing-twice"),
        pytest.param(holding(Place(object_id=1, x_px=3)), "one of x_px and y_px", id="half-a-point"),
        pytest.param(holding(Place(object_id=1)), "neither a point nor a box nor a mask", id="no-place"),
        pytest.param(holding(point(1, 97)), "is at (97, 20), outside the picture of 96 x 64", id="outside"),
        pytest.param(holding(box(1, -3)), "which leaves the picture", id="box-outside"),
        pytest.param(holding(box(1, side=-5)), "inside out or empty", id="box-inside-out"),
        pytest.param(holding(SMALL_MASK), "mask of 48 x 32 pixels; the picture has 96 x 64", id="small-mask"),
        pytest.param(holding(BAD_MASK), "mask that cannot be read: character 0", id="broken-mask"),
        pytest.param(holding(SHORT_MASK), "mask that cannot be read: the runs", id="short-mask"),
        pytest.param(holding(EMPTY_MASK), "empty mask", id="empty-mask"),
    ],
)
def test_a_problem_is_named(row: Row, reason: str) -> None:
    found = list(problems_of(row))
    assert any(reason in line for line in found), found


@pytest.mark.parametrize(
    ("row", "caution"),
    [
        pytest.param(
            holding(*(point(i) for i in range(1, 62)), task="point"),
            "61 points; the models were",
            id="many-points",
        ),
        pytest.param(holding(*(box(i) for i in range(1, 62))), "61 objects; the models", id="many-tracks"),
        pytest.param(
            timed(0.0, 0.5, 2.0, rate_fps=2.0),
            "2 steps of its 2 a second, between its first moment and its last, have no moment",
            id="holes-in-a-grid",
        ),
        pytest.param(
            holding(mask(1).model_copy(update={"x_px": 1.0, "y_px": 1.0})),
            "1 of 1 points lie beside",
            id="beside",
        ),
    ],
)
def test_what_is_unusual_is_a_caution(row: Row, caution: str) -> None:
    assert list(problems_of(row)) == []
    (line,) = cautions_of(row)
    assert caution in line


def test_sixty_points_are_usual() -> None:
    assert list(cautions_of(holding(*(point(i) for i in range(1, 61)), task="point"))) == []


# ---------------------------------------------------------------- a folder with its media


def test_a_good_folder(media: Shelf, tmp_path: Path) -> None:
    part = track_row("part", clip_s=(0.5, 1.0), annotations=(track_row().annotations[0],))
    part = part.model_copy(update={"annotations": (timed(0.5).annotations[0],)})
    report = check_folder(row_folder(media, tmp_path, track_row("whole"), part))
    assert report.good
    assert report.problems == ()
    assert (report.rows, report.media, report.points) == (2, 1, 5)
    assert report.annotations == {"point": 1, "point_then_count": 1, "track": 2}
    assert report.video_s == pytest.approx(1.7)
    assert report.summary() == (
        "2 rows, 1 medium, annotations: point 1, point_then_count 1, track 2; 5 points, 1.7 seconds of video"
    )


def test_every_bad_row_is_named_with_its_line(media: Shelf, tmp_path: Path) -> None:
    folder = row_folder(media, tmp_path)
    misspelt = text_of(track_row("b")).replace('"label"', '"lable"')
    lines = [text_of(track_row("a")), "{oops", text_of(track_row("a")), "", text_of(track_row(" ")), misspelt]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    report = check_folder(folder)
    assert [(problem.place, problem.row_id) for problem in report.problems] == [
        ("rows.jsonl line 2", ""),
        ("rows.jsonl line 3", "a"),
        ("rows.jsonl line 5", " "),
        ("rows.jsonl line 6", "b"),
    ]
    assert report.problems[1].reason == "the row_id is also that of rows.jsonl line 1"
    assert report.rows == 5


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(track_row(media=("gone.mp4",)), "there is no file", id="missing"),
        pytest.param(track_row(media=("empty.mp4",)), "empty.mp4 is empty", id="empty"),
        pytest.param(track_row(media=("text.mp4",)), "media[0]: text.mp4", id="no-video"),
        pytest.param(track_row(media=("cut.mp4",)), "media[0]: cut.mp4", id="cut-off"),
        pytest.param(
            track_row(media=("rotated.mp4",)), "has 64 x 96 pixels as a player shows it", id="turned"
        ),
        pytest.param(track_row(media=("still.png",)), "still.png is a still picture", id="a-still"),
        pytest.param(track_row(clip_s=(0.0, 3.0)), "clip_s is 0 to 3 s", id="clip-too-long"),
        pytest.param(timed(0.5, 2.0), "annotated from 0.5 to 2 s", id="behind-the-end"),
        pytest.param(
            holding(box(1, 80)).model_copy(update={"size_px": ()}),
            "leaves the picture of 96 x 64",
            id="no-size",
        ),
        pytest.param(
            images(0).model_copy(update={"media": ("still.png", "clip.mp4")}),
            "clip.mp4 is a video",
            id="a-film",
        ),
        pytest.param(
            images(0).model_copy(
                update={"media": ("still.png", "turned.jpg"), "size_px": ((96, 64), (96, 64))}
            ),
            "turned.jpg has 64 x 96 pixels",
            id="turned-photo",
        ),
    ],
)
@pytest.mark.parametrize("workers", [1, 3])
def test_media_are_held_against_the_row(
    media: Shelf, tmp_path: Path, row: Row, reason: str, workers: int
) -> None:
    folder = row_folder(media, tmp_path, track_row("first"), row.model_copy(update={"row_id": "bad"}))
    (folder / "empty.mp4").touch()
    shutil.copy(media(renamed_text), folder / "text.mp4")
    shutil.copy(media(truncated_no_header), folder / "cut.mp4")
    shutil.copy(media(rotated), folder / "rotated.mp4")
    Image.fromarray(picture(1)).save(folder / "still.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(1)).save(folder / "turned.jpg", exif=exif)
    report = check_folder(folder, workers=workers)
    assert [problem.row_id for problem in report.problems] == ["bad"]
    assert reason in report.problems[0].reason


def test_a_damaged_video_is_a_caution(media: Shelf, tmp_path: Path) -> None:
    folder = row_folder(media, tmp_path, track_row(media=("hurt.mp4",)))
    shutil.copy(media(truncated_tail), folder / "hurt.mp4")
    report = check_folder(folder)
    assert report.good
    (caution,) = report.cautions
    assert caution.reason.startswith("hurt.mp4: the file is cut short")


def test_more_frames_than_are_shown(media: Shelf, tmp_path: Path) -> None:
    folder = row_folder(media, tmp_path, track_row())
    report = check_folder(folder, sampling=RowSampling(max_frames=2))
    assert "cut the row with clip_s to 1 s or less" in report.problems[0].reason


def test_media_are_left_alone_when_asked(media: Shelf, tmp_path: Path) -> None:
    folder = row_folder(media, tmp_path, track_row(media=("gone.mp4",)))
    assert check_folder(folder, media=False).good


@pytest.mark.slow
def test_a_folder_full_of_damage_is_told_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("x\n" * 10_050)
    report = check_folder(tmp_path)
    assert report.problem_count == 10_050
    assert len(report.problems) == 10_000


def test_progress_counts_rows_and_then_media(media: Shelf, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    folder = row_folder(media, tmp_path, track_row("a"), track_row("b"))
    check_folder(folder, on_progress=lambda what, done, total: told.append((what, done, total)))
    assert told == [("rows", 1, 2), ("rows", 2, 2), ("media", 1, 1)]


def test_the_command(media: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = row_folder(media, tmp_path / "good", track_row())
    assert main([str(good)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "every row can be used"
    bad = row_folder(media, tmp_path / "bad", *(track_row(str(i), clip_s=(2, 1)) for i in range(5)))
    assert main([str(bad), "--most", "2"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("problem: rows.jsonl line 1 (0): clip_s is 2 to 1 s")
    assert out[2].startswith("… and ")
    assert out[2].endswith(" more problems (--most and --alike show more)")
    assert main([str(bad), "--most", "20", "--alike", "1"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1] == "… and 4 more like it"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "rows.jsonl").touch()
    assert main([str(tmp_path / "empty")]) == 2
    assert "holds files of rows, and no row in them" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_in_parquet_is_checked_alike(media: Shelf, tmp_path: Path) -> None:
    folder = row_folder(media, tmp_path)
    (folder / "rows.jsonl").unlink()
    write_rows(folder, [track_row("a"), track_row("b", clip_s=(2, 1))], form="parquet")
    (problem, *_) = check_folder(folder).problems
    assert str(problem).startswith("rows.parquet row 2 (b): clip_s")


# ---------------------------------------------------------------- the line on a terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_says_how_many_and_how_long() -> None:
    now_s = [0.0]
    terminal = Terminal()
    line = ProgressLine(terminal, clock=lambda: now_s[0])
    line.tell("rows", 1, 101)
    now_s[0] = 30.0
    line.tell("rows", 26, 101)
    assert terminal.getvalue().split("\r")[-1].rstrip() == "rows 26/101, 1 min 27 s left"
    line.tell("rows", 27, 101)  # too soon to be drawn
    assert "27/101" not in terminal.getvalue()
    line.tell("rows", 101, 101)
    assert terminal.getvalue().split("\r")[-1].rstrip() == "rows 101/101"
    line.clear()
    assert terminal.getvalue().endswith("\r")


def test_progress_is_silent_in_a_log() -> None:
    log = io.StringIO()
    line = ProgressLine(log)
    line.tell("rows", 1, 2)
    line.clear()
    assert log.getvalue() == ""

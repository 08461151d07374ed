from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.sources.film_facts import FilmFacts
from molmo2_ground.train.box_film import BoxFilm
from molmo2_ground.train.box_table import COLUMNS, BoxLine, BoxTable
from molmo2_ground.train.convert_boxes import BoxOptions, convert_boxes, main, split
from molmo2_ground.train.row_folder import RowFolder
from molmo2_ground.train.row_media import RowSampling, row_times
from molmo2_ground.train.row_report import check_folder
from molmo2_ground.train.rows import Annotation, Row
from tests.media import Shelf, constant_rate, rotated, variable_rate

HEAD = "video,frame,object_id,label,left,top,right,bottom"


def table(path: Path, *lines: str, head: str = HEAD) -> Path:
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def clips(media: Shelf, folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("clip.mp4",):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(media(constant_rate), folder / name)
    return folder


def every_frame(
    video: str = "clip.mp4", count: int = 12, object_id: str = "1", label: str = "dog"
) -> list[str]:
    return [f"{video},{i},{object_id},{label},{10 + i},10,{30 + i},30" for i in range(count)]


def of_task(row: Row, task: str) -> list[Annotation]:
    return [one for one in row.annotations if task in one.task]


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize("column", sorted(COLUMNS))
def test_every_name_of_a_column_is_understood(tmp_path: Path, column: str) -> None:
    usual = {
        "video": "a",
        "object_id": "1",
        "label": "dog",
        "left": "1",
        "top": "2",
        "right": "5",
        "bottom": "9",
    }
    usual |= {"time_s": "0.5"} if column != "frame" else {"frame": "5"}
    if column in ("width", "height"):
        del usual[{"width": "right", "height": "bottom"}[column]]
        usual[column] = {"width": "4", "height": "7"}[column]
    usual.setdefault("occluded", "no")
    for name in COLUMNS[column]:
        titles = [name.upper().replace("_", " ") if one == column else one for one in usual]
        path = table(tmp_path / "boxes.csv", ",".join(usual.values()), head=",".join(titles))
        (line,) = BoxTable.read(path).lines
        assert line.box == (1, 2, 5, 9)
        assert (line.video, line.object_name, line.label, line.occluded) == ("a", "1", "dog", False)


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_what_stands_between_cells_is_found_out(tmp_path: Path, between: str) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("\ufeff" + HEAD.replace(",", between) + "\n" + every_frame()[0].replace(",", between))
    assert len(BoxTable.read(path).lines) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("clip.mp4,0,1,dog,10,10,30", "it has 7 cells", id="short"),
        pytest.param("clip.mp4,0,1,dog,ten,10,30,30", "left is 'ten'; expected a number", id="words"),
        pytest.param("clip.mp4,0,1,dog,10,10,nan,30", "right is 'nan'", id="nan"),
        pytest.param("clip.mp4,0,1,dog,30,10,10,30", "inside out", id="inside-out"),
        pytest.param(
            "clip.mp4,0.5,1,dog,10,10,30,30", "frame is '0.5'; expected a whole number", id="half-a-frame"
        ),
        pytest.param(",0,1,dog,10,10,30,30", "video is empty", id="no-video"),
        pytest.param("clip.mp4,0,1,,10,10,30,30", "label is empty", id="no-label"),
        pytest.param("clip.mp4,,1,dog,10,10,30,30", "neither a time nor a frame", id="no-time"),
        pytest.param(
            "clip.mp4,12,1,dog,10,10,30,30", "has 12 frames, counted from 0; got frame 12", id="frame-12"
        ),
        pytest.param("clip.mp4,-1,1,dog,10,10,30,30", "got frame -1", id="frame-before-0"),
        pytest.param("clip.mp4,0,1,dog,96,10,120,30", "lies outside the picture", id="outside"),
        pytest.param("clip.mp4,3,9,dog,10,10,30,30", "has a box at this time already, in line 2", id="twice"),
        pytest.param(
            "clip.mp4,4,9,cat,10,10,30,30", "is called 'cat' here and 'dog' in line 2", id="two-labels"
        ),
        pytest.param(
            "sub\\gone,0,1,dog,10,10,30,30", "no file is called sub\\gone below", id="no-file-in-a-folder"
        ),
        pytest.param("clip.mp4,0,1,dog,10,10,30,30,x", "it has 9 cells; the header has 8", id="long"),
        pytest.param("clip.mp4,0,1,do\0g,10,10,30,30", "label is 'do\\x00g'; expected letters", id="nul"),
        pytest.param("clip.mp4,0,\x1b[1m,dog,10,10,30,30", "object_id is '\\x1b[1m'", id="escape"),
        pytest.param("gone.mp4,0,1,dog,10,10,30,30", "no file is called gone.mp4 below", id="no-file"),
    ],
)
def test_a_bad_line_is_named(media: Shelf, tmp_path: Path, line: str, reason: str) -> None:
    path = table(tmp_path / "boxes.csv", "clip.mp4,3,9,dog,10,10,30,30", line)
    (problem,) = convert_boxes(path, clips(media, tmp_path / "videos")).problems
    assert str(problem).startswith("line 3: ")
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            "video,frame\n", "has no column object_id, label, left, top, right or width", id="columns"
        ),
        pytest.param("", "its header is empty", id="nothing"),
        pytest.param("video,object_id,label,x,y,w,h\n", "no column time_s or frame", id="no-time"),
        pytest.param(HEAD + ",X1", "has 2 columns that may be left: left, x1", id="two-of-one-meaning"),
        pytest.param(HEAD + ",label", "has 2 columns that may be label: label, label", id="one-twice"),
    ],
)
def test_a_table_without_its_columns(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=words):
        BoxTable.read(path)


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(SourceError, match=r"line 1 has the byte 0x89. Save the table again as CSV in UTF-8"):
        BoxTable.read(tmp_path / "boxes.csv")
    (tmp_path / "boxes.csv").write_bytes(HEAD.encode() + "\nclip,0,1,caf\u00e9,1,1,9,9".encode("latin-1"))
    with pytest.raises(SourceError, match="line 2 has the byte 0xe9"):
        BoxTable.read(tmp_path / "boxes.csv")


# ---------------------------------------------------------------- the grid


def lines_at(
    *, frames: Sequence[int] = (), times_s: Sequence[float] = (), object_name: str = "1"
) -> list[BoxLine]:
    made = [(number, None) for number in frames] + [(None, time_s) for time_s in times_s]
    return [
        BoxLine(
            line=at,
            video="v",
            frame=frame,
            time_s=time_s,
            object_name=object_name,
            label="dog",
            box=(at, 0.0, at + 5.0, 5.0),
            occluded=False,
        )
        for at, (frame, time_s) in enumerate(made, start=2)
    ]


def facts(fps: float, duration_s: float) -> FilmFacts:
    count = round(duration_s * fps)
    return FilmFacts(size_px=(9000, 9000), duration_s=duration_s, times_s=np.arange(count) / fps)


def film_of(
    film: FilmFacts, lines: Sequence[BoxLine], *, rate_fps: float = 2.0, whole: bool = False
) -> BoxFilm:
    made, problems = BoxFilm.of(film, lines, rate_fps=rate_fps, normalised=False, whole=whole)
    assert not problems
    assert made is not None
    return made


def times_of(film: BoxFilm) -> list[float]:
    return [round(moment.time_s, 4) for moment in film.moments]


@pytest.mark.parametrize("fps", [10.0, 24.0, 25.0, 29.97, 30.0, 59.94])
def test_boxes_of_every_frame_are_thinned_to_the_grid(fps: float) -> None:
    film = facts(fps, 4.0)
    made = film_of(film, lines_at(frames=range(len(film.times_s))))
    assert made.rate_fps == 2
    assert times_of(made) == [k / 2 for k in range(8)]
    for moment in made.moments:
        ((_, place),) = moment.places
        assert place.box_px is not None
        shown = int(place.box_px[0]) - 2  # the boxes are numbered by where they are
        assert film.times_s[shown] <= moment.time_s + 1e-6
        assert shown + 1 == len(film.times_s) or film.times_s[shown + 1] > moment.time_s


@pytest.mark.parametrize(
    ("times_s", "rate_fps", "grid_s"),
    [
        pytest.param([0, 0.5, 1, 1.5], 2, [0, 0.5, 1, 1.5], id="two-a-second"),
        pytest.param([0, 1, 2, 3], 1, [0, 1, 2, 3], id="one-a-second"),
        pytest.param([0, 2, 4, 6], 0.5, [0, 2, 4, 6], id="one-in-two-seconds"),
        pytest.param([0.37, 1.37, 2.37], 1, [0.37, 1.37, 2.37], id="not-from-0"),
        pytest.param([0.03, 0.53, 1.04, 1.5], 2, [0, 0.5, 1, 1.5], id="rounded"),
        pytest.param([0, 1.5, 3.0, 4.5], 0.667, [0, 1.4993, 2.9985, 4.4978], id="a-rate-of-its-own"),
        pytest.param([0.1, 0.3, 2.2, 7.1], None, [0.1, 0.3, 2.2, 7.1], id="irregular"),
        pytest.param(
            [0.13, 0.5, 0.54, 0.57, 1.33], None, [0.13, 0.5, 0.54, 0.57, 1.33], id="on-a-grid-by-chance"
        ),
        pytest.param([3.3], None, [3.3], id="once"),
        pytest.param([0, 0.5, 1, 4, 4.5, 5], 2, [k / 2 for k in range(11)], id="away-for-a-while"),
    ],
)
def test_the_grid_is_found(times_s: list[float], rate_fps: float | None, grid_s: list[float]) -> None:
    made = film_of(facts(10, 8.0), lines_at(times_s=times_s))
    assert made.rate_fps == rate_fps
    assert times_of(made) == pytest.approx(grid_s, abs=1e-4)
    assert sum(len(moment.places) for moment in made.moments) == len(times_s)


def test_nothing_is_said_of_what_was_not_annotated() -> None:
    made = film_of(facts(10, 60.0), lines_at(times_s=[10, 10.5, 11]))
    assert (made.start_s, made.end_s) == (10, 11.5)


def test_a_whole_video_has_nothing_where_there_is_no_box() -> None:
    made = film_of(facts(10, 5.0), lines_at(times_s=[2, 2.5, 3]), whole=True)
    assert (made.start_s, made.end_s) == (0, 5)
    assert [len(moment.places) for moment in made.moments] == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0]


def test_a_denser_grid_can_be_asked_for() -> None:
    made = film_of(facts(30, 1.0), lines_at(frames=range(30)), rate_fps=10)
    assert made.rate_fps == 10
    assert len(made.moments) == 10


def test_frames_that_stay_on_screen_keep_their_boxes(media: Shelf) -> None:
    film = FilmFacts.of(media(variable_rate))
    made = film_of(film, lines_at(frames=range(12)))
    at_4_s = next(moment for moment in made.moments if moment.time_s == 4.0)
    ((_, place),) = at_4_s.places
    assert place.box_px is not None
    assert place.box_px[0] == 12  # line 12 is frame 10, on screen from 3 to 5 s


def test_facts_are_those_of_a_player(media: Shelf) -> None:
    film = FilmFacts.of(media(rotated))
    assert film.size_px == (64, 96)
    assert film.times_s == pytest.approx(np.arange(12) / 10)


# ---------------------------------------------------------------- from the table to rows


def test_a_video_becomes_a_row_with_everything_to_ask(media: Shelf, tmp_path: Path) -> None:
    lines = [*every_frame(object_id="1"), *every_frame(object_id="2")[:5]]
    lines += every_frame(object_id="7", label="cat")[3:4]
    made = convert_boxes(table(tmp_path / "boxes.csv", *lines), clips(media, tmp_path / "videos"))
    assert made.problems == ()
    ((row,),) = made.rows.values()
    assert row.row_id == "clip.mp4"
    assert row.size_px == ((96, 64),)
    assert row.clip_s is None
    (dogs,) = of_task(row, "track")
    assert (dogs.label, dogs.rate_fps) == ("dog", 2.0)
    assert [[place.object_id for place in moment.places] for moment in dogs.moments] == [[1, 2], [1], [1]]
    (points,) = of_task(row, "point")
    assert sum(len(moment.places) for moment in points.moments) == 2
    (way,) = of_task(row, "track_from_box")  # dog 2 is on the grid once: nothing is left to follow
    assert {place.object_id for moment in way.moments for place in moment.places} == {1}
    times = row_times(row, 1.2, sampling=RowSampling())
    assert times.tolist() == [0, 0.5, 1.0]


def test_a_thing_is_pointed_at_where_it_is_largest(media: Shelf, tmp_path: Path) -> None:
    lines = [f"clip,{frame},1,dog,0,0,{10 + size},20" for frame, size in ((0, 1), (5, 40), (10, 2))]
    made = convert_boxes(table(tmp_path / "boxes.csv", *lines), clips(media, tmp_path / "videos"))
    ((row,),) = made.rows.values()
    (points,) = of_task(row, "point_then_count")
    assert [(moment.time_s, len(moment.places)) for moment in points.moments] == [(0.5, 1)]


def test_hidden_boxes_are_kept_and_not_pointed_at(media: Shelf, tmp_path: Path) -> None:
    lines = [f"{line},{int(i == 5)}" for i, line in enumerate(every_frame())]
    made = convert_boxes(
        table(tmp_path / "boxes.csv", *lines, head=f"{HEAD},occluded"), clips(media, tmp_path / "videos")
    )
    ((row,),) = made.rows.values()
    (track,) = of_task(row, "track")
    assert [place.occluded for moment in track.moments for place in moment.places] == [False, True, False]


@pytest.mark.parametrize(
    ("line", "options", "box_px"),
    [
        pytest.param("clip,0,1,dog,10,10,30,30", BoxOptions(), (10, 10, 30, 30), id="pixels"),
        pytest.param("clip,0,1,dog,-5,10,300,30", BoxOptions(), (0, 10, 96, 30), id="cut-at-the-edge"),
        pytest.param(
            "clip,0,1,dog,0.25,0.5,0.5,1", BoxOptions(normalised=True), (24, 32, 48, 64), id="shares"
        ),
        pytest.param("clip,1,1,dog,10,10,30,30", BoxOptions(first_frame=1), (10, 10, 30, 30), id="from-1"),
    ],
)
def test_boxes_in_pixels(
    media: Shelf, tmp_path: Path, line: str, options: BoxOptions, box_px: tuple[float, ...]
) -> None:
    made = convert_boxes(
        table(tmp_path / "boxes.csv", line), clips(media, tmp_path / "videos"), options=options
    )
    assert made.problems == ()
    ((row,),) = made.rows.values()
    (moment,) = row.annotations[0].moments
    assert moment.time_s == 0
    assert moment.places[0].box_px == pytest.approx(box_px)


def test_pixels_are_no_shares(media: Shelf, tmp_path: Path) -> None:
    path = table(tmp_path / "boxes.csv", every_frame()[0])
    made = convert_boxes(path, clips(media, tmp_path / "videos"), options=BoxOptions(normalised=True))
    assert "not in shares of the picture" in made.problems[0].reason


def test_a_long_video_becomes_several_rows(media: Shelf, tmp_path: Path) -> None:
    path = table(tmp_path / "boxes.csv", *every_frame())
    options = BoxOptions(max_clip_s=0.7)
    made = convert_boxes(path, clips(media, tmp_path / "videos"), options=options)
    (rows,) = made.rows.values()
    assert [(row.row_id, row.clip_s) for row in rows] == [
        ("clip.mp4@0", (0.0, 0.5)),
        ("clip.mp4@0.5", (0.5, 1.0)),
        ("clip.mp4@1", (1.0, pytest.approx(1.2))),
    ]
    assert all(len(of_task(row, "track")[0].moments) == 1 for row in rows)


@pytest.mark.parametrize(("rate_fps", "clip_s"), [(2.0, 60.0), (10.0, 12.0), (0.5, 60.0)])
def test_rows_show_no_more_than_training_does(rate_fps: float, clip_s: float) -> None:
    assert BoxOptions(rate_fps=rate_fps).clip_s == clip_s


def test_objects_may_have_names(media: Shelf, tmp_path: Path) -> None:
    lines = [*every_frame(object_id="rex"), *every_frame(object_id="7")]
    made = convert_boxes(table(tmp_path / "boxes.csv", *lines), clips(media, tmp_path / "videos"))
    ((row,),) = made.rows.values()
    assert {p.object_id for m in row.annotations[0].moments for p in m.places} == {1, 2}


def test_one_video_under_two_names_is_one_row(media: Shelf, tmp_path: Path) -> None:
    lines = [*every_frame("clip"), *every_frame("clip.mp4", object_id="2")]
    made = convert_boxes(table(tmp_path / "boxes.csv", *lines), clips(media, tmp_path / "videos"))
    assert made.problems == ()
    assert [len(rows) for rows in made.rows.values()] == [1]


@pytest.mark.parametrize("write", ["damaged", "missing"])
def test_what_is_wrong_with_a_video_is_said_once(media: Shelf, tmp_path: Path, write: str) -> None:
    videos = clips(media, tmp_path / "videos", "clip.mp4")
    if write == "damaged":
        (videos / "bad.mp4").write_text("no video")
    lines = [*every_frame("bad.mp4"), *every_frame(), *every_frame("bad.mp4", object_id="2")]
    made = convert_boxes(table(tmp_path / "boxes.csv", *lines), videos)
    (problem,) = made.problems
    assert str(problem).startswith("line 2 and 23 more: ")
    assert made.problem_count == 24
    assert list(made.rows) == ["clip.mp4"]


def test_copies_of_an_earlier_run_are_no_media(
    media: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips(media, tmp_path / "videos", "a.mp4", "b.mp4")
    table(tmp_path / "boxes.csv", *every_frame("a"), *every_frame("b"))
    words = [str(tmp_path / "boxes.csv"), "--media", str(tmp_path), "--out", str(tmp_path / "out")]
    for _ in range(2):
        assert main([*words, "--holdout", "1"]) == 0
        assert "left out" not in capsys.readouterr().out


# ---------------------------------------------------------------- the command


def run(folder: Path, *options: str) -> int:
    return main(
        [str(folder / "boxes.csv"), "--media", str(folder / "videos"), "--out", str(folder / "out"), *options]
    )


@pytest.mark.slow
def test_the_command_writes_folders_that_are_good(
    media: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{i}/clip.mp4" for i in range(5)]
    clips(media, tmp_path / "videos", *names, "other.mp4")
    table(tmp_path / "boxes.csv", *(line for name in names for line in every_frame(name)))
    assert run(tmp_path, "--holdout", "2") == 0
    kept, held = RowFolder(tmp_path / "out"), RowFolder(tmp_path / "out-holdout")
    assert (len(kept), len(held)) == (3, 2)
    assert {row.row_id for row in kept} | {row.row_id for row in held} == set(names)
    assert check_folder(tmp_path / "out").good
    assert (tmp_path / "out" / kept[0].media[0]).samefile(tmp_path / "videos" / kept[0].row_id)
    said = capsys.readouterr().out
    assert "videos without a line in the table, left out: other.mp4 (1 in all)" in said
    assert said.count("every row can be used") == 2
    assert run(tmp_path, "--holdout", "2") == 0  # again, over what is there


@pytest.mark.slow
@pytest.mark.parametrize("apart", ["out", "out/held", "."])
def test_rows_kept_apart_have_a_folder_of_their_own(
    media: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], apart: str
) -> None:
    clips(media, tmp_path / "videos", "a.mp4", "b.mp4")
    table(tmp_path / "boxes.csv", *every_frame("a.mp4"), *every_frame("b.mp4"))
    assert run(tmp_path, "--holdout", "1", "--holdout-out", str(tmp_path / apart)) == 2
    assert "a folder of their own" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_writes_nothing_of_a_bad_table(
    media: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips(media, tmp_path / "videos")
    table(tmp_path / "boxes.csv", *every_frame(), "clip.mp4,99,1,dog,1,1,2,2", "clip.mp4,0,1,dog,x,1,2,2")
    assert run(tmp_path) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("boxes.csv line 14: clip.mp4 has 12 frames")
    assert said[1].startswith("boxes.csv line 15: left is 'x'")
    assert said[2] == "nothing was written: 2 lines cannot be used (--skip-bad goes on)"
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, "--skip-bad") == 0
    assert "left out: boxes.csv line 14" in capsys.readouterr().out
    assert len(RowFolder(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(("--holdout", "1"), "holdout leaves at least one", id="all-held"),
        pytest.param(("--rate", "11"), "rate_fps is above 0", id="too-dense"),
        pytest.param(("--max-clip", "0"), "max_clip_s is above 0", id="no-length"),
    ],
)
def test_options_that_cannot_be(
    media: Shelf,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    clips(media, tmp_path / "videos")
    table(tmp_path / "boxes.csv", *every_frame())
    assert run(tmp_path, *options) == 2
    assert words in capsys.readouterr().err


def test_a_folder_of_videos_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path / "boxes.csv", *every_frame())
    assert run(tmp_path) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_which_videos_are_held_out_depends_on_the_seed_alone() -> None:
    videos = [f"{i}.mp4" for i in range(20)]
    kept, held = split(videos, holdout=5, seed=3)
    assert (kept, held) == split(videos, holdout=5, seed=3)
    assert len(held) == 5
    assert sorted(kept + held) == sorted(videos)
    assert held != split(videos, holdout=5, seed=4)[1]

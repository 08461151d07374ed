"""`molmo2-ground export` and `import`, from result files to other tools' and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from molmo2_ground import _cli_export, _cli_import
from molmo2_ground.cli import main
from molmo2_ground.export import FORMATS, READERS, read_masks, read_result, write_result
from molmo2_ground.results import Points, Tracks
from tests.made_marks import FPS, SIZE_PX, masks, points_on_pictures, tracks
from tests.media import write_video

FOLDERS = {"davis", "trackeval", "trackeval-truth"}
NEEDS_MASKS = {"mots", "davis", "youtube-vis"}


@pytest.fixture
def result(tmp_path: Path) -> Path:
    write_result(tracks(), tmp_path / "result.json")
    return tmp_path / "result.json"


@pytest.fixture
def masks_file(tmp_path: Path) -> Path:
    write_result(masks(), tmp_path / "masks.json")
    return tmp_path / "masks.json"


def test_the_command_knows_the_formats_that_there_are() -> None:
    assert list(_cli_export.FORMATS) == list(FORMATS)
    assert list(_cli_import.FORMATS) == list(READERS)
    assert {name for name, one in FORMATS.items() if one.folder} == FOLDERS


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_from_a_result_and_its_masks(
    name: str, result: Path, masks_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    radius = ["--radius-px", "3"] if FORMATS[name].takes_radius else []
    out = tmp_path / "out"
    assert main(["export", name, str(result), "--masks", str(masks_file), "-o", str(out), *radius]) == 0
    printed, said = capsys.readouterr()
    assert printed == f"{out}\n"
    assert said.startswith("marks: ")
    assert out.is_dir() == (name in FOLDERS)
    assert not [path for path in tmp_path.iterdir() if ".part" in path.name]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_from_masks_alone(name: str, masks_file: Path, tmp_path: Path) -> None:
    assert main(["export", name, str(masks_file), "-o", str(tmp_path / "out"), "--quiet"]) == 0


@pytest.mark.parametrize("name", sorted(NEEDS_MASKS | {"mot", "label-studio", "trackeval"}))
def test_points_alone_give_one_line_that_says_what_to_do(
    name: str, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", name, str(result), "-o", str(tmp_path / "out")]) == 2
    printed, said = capsys.readouterr()
    assert (printed, len(said.splitlines())) == ("", 1)
    assert "--masks" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        pytest.param(["coco", "no.json", "-o", "x"], 1, "cannot read the result file", id="no-result"),
        pytest.param(["coco", "{result}", "-o", "{result}"], 2, "is the result itself", id="over-itself"),
        pytest.param(["coco", "{result}", "-o", "{folder}"], 1, "is a folder", id="a-folder"),
        pytest.param(["coco", "{result}", "-o", "no/where"], 1, "does not exist", id="no-folder"),
        pytest.param(
            ["coco", "{result}", "--masks", "{masks}", "-o", "{masks}"], 2, "is the masks", id="over-masks"
        ),
        pytest.param(["davis", "{masks}", "-o", "-"], 2, "cannot go to stdout", id="folder-to-stdout"),
        pytest.param(["davis", "{masks}", "-o", "{folder}"], 1, "choose another folder", id="full-folder"),
        pytest.param(["cvat", "{result}", "-o", "x", "--radius-px", "3"], 2, "holds no boxes", id="radius"),
        pytest.param(
            ["coco", "{masks}", "-o", "x", "--masks", "{masks}"], 2, "given twice", id="masks-twice"
        ),
        pytest.param(
            ["coco", "{result}", "-o", "x", "--masks", "{result}"], 1, "holds tracks", id="no-masks"
        ),
        pytest.param(
            ["coco", "{result}", "-o", "x", "--video", "no.mp4"], 1, "there is no file", id="no-video"
        ),
    ],
)
def test_what_cannot_be_exported_gives_one_line(
    words: list[str],
    code: int,
    message: str,
    result: Path,
    masks_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"result": str(result), "masks": str(masks_file), "folder": str(tmp_path)}
    assert main(["export", *(word.format(**places) for word in words)]) == code
    printed, said = capsys.readouterr()
    assert (printed, len(said.splitlines())) == ("", 1)
    assert message in said


@pytest.mark.parametrize(
    ("film", "message"),
    [
        pytest.param({"frame_count": 16}, "", id="the-video"),
        pytest.param({"frame_count": 90}, "", id="longer"),
        pytest.param({"frame_count": 16, "fps": 10.01}, "", id="rounded-rate"),
        pytest.param({"frame_count": 15}, "has 15 frames, and the result goes up to frame 15", id="short"),
        pytest.param(
            {"frame_count": 90, "fps": 30},
            "shows frame 5 at 0.17 s, and the result has it at 0.50 s",
            id="another-rate",
        ),
    ],
)
def test_a_video_is_the_one_that_was_asked_about(
    film: dict[str, float], message: str, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, out = tmp_path / "film.mp4", tmp_path / "out.txt"
    rate = film.get("fps", FPS)
    write_video(video, size_px=SIZE_PX, times_s=[frame / rate for frame in range(int(film["frame_count"]))])
    words = ["export", "mot", str(result), "--radius-px", "3", "--media", str(video)]
    assert main([*words, "-o", str(out), "--quiet"]) == (2 if message else 0)
    said = capsys.readouterr().err
    assert len(said.splitlines()) == (1 if message else 0)
    assert message in said
    assert out.exists() == (not message)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("street one.mp4", "", id="the-one-asked-about"),
        pytest.param(
            "film.mp4",
            "note: the result is of street one.mp4, and its frames were counted in film.mp4",
            id="other",
        ),
    ],
)
def test_a_video_of_another_name_is_said(
    name: str, said: str, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / name
    write_video(video, size_px=SIZE_PX, times_s=[frame / FPS for frame in range(30)])
    words = ["export", "mot", str(result), "--radius-px", "3", "--media", str(video)]
    assert main([*words, "-o", str(tmp_path / "out.txt")]) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if "is of" in line] == (
        [said] if said else []
    )


def test_pictures_are_called_as_their_files_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result(points_on_pictures(), tmp_path / "result.json")
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name in ("10.jpg", "2.jpg", "1.jpg", "notes.txt"):
        (folder / name).write_bytes(b"")
    words = ["export", "coco", str(tmp_path / "result.json"), "-o", str(tmp_path / "coco.json"), "--media"]
    assert main([*words, str(folder)]) == 0
    images = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["1.jpg", "2.jpg", "10.jpg"]
    capsys.readouterr()
    assert main([*words, str(folder / "1.jpg")]) == 2
    assert "of 3 pictures; got 1 file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["replay", "view"])
def test_a_masks_file_says_that_it_is_one(
    command: str, masks_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(masks_file)]) == 1
    printed, said = capsys.readouterr()
    assert (printed, len(said.splitlines())) == ("", 1)
    assert "holds masks; expected points, tracks, a count or an answer" in said


@pytest.mark.slow
def test_a_video_goes_to_cvat_and_comes_back(
    result: Path, masks_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    xml, back, back_masks = tmp_path / "a.xml", tmp_path / "back.json", tmp_path / "back-masks.json"
    assert main(["export", "cvat", str(result), "--masks", str(masks_file), "-o", str(xml)]) == 0
    words = ["import", "cvat", str(xml), "-o", str(back), "--masks-out", str(back_masks), "--fps", "10"]
    capsys.readouterr()
    assert main(words) == 0
    printed, said = capsys.readouterr()
    assert printed == f"{back}\n"
    assert said.splitlines()[0] == "tracks: 3, of 29 marks in street one.mp4"
    found = read_result(back)
    assert isinstance(found, Tracks)
    seen = {(track.object_id, s.source_index): s for track in found for s in track.samples}
    for track in tracks():
        for sample in track.samples:
            assert seen[track.object_id, sample.source_index] == sample
    assert read_masks(back_masks).masks == masks().masks
    assert main(["replay", str(back)]) == 1
    assert "cannot be replayed" in capsys.readouterr().err
    page = tmp_path / "page.html"
    assert main(["view", str(back), "--out", str(page)]) == 0
    assert "red car" in page.read_text()


def test_pictures_go_to_label_studio_and_come_back(tmp_path: Path) -> None:
    write_result(points_on_pictures(), tmp_path / "result.json")
    out, back = tmp_path / "ls.json", tmp_path / "back.json"
    assert main(["export", "label-studio", str(tmp_path / "result.json"), "-o", str(out)]) == 0
    assert main(["import", "label-studio", str(out), "-o", str(back)]) == 0
    ours, theirs = points_on_pictures(), read_result(back)
    assert isinstance(theirs, Points)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.object_id, mine.source_index, mine.label) == (
            other.object_id,
            other.source_index,
            other.label,
        )
        assert (other.x_px, other.y_px) == pytest.approx((mine.x_px, mine.y_px))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        pytest.param(["mot", "{mot}"], 1, "--label NAME", id="no-label"),
        pytest.param(["mot", "{mot}", "--label", "car"], 1, "--size", id="no-size"),
        pytest.param(["mot", "{mot}", "--label", "car", "--size", "9x9"], 1, "--fps", id="no-rate"),
        pytest.param(
            ["mot", "{mot}", "--label", "car", "--size", "9x9", "--fps", "0"], 2, "above 0", id="rate-0"
        ),
        pytest.param(["cvat", "{mot}"], 1, "no annotation file of CVAT", id="wrong-format"),
        pytest.param(["label-studio", "{none}"], 1, "about no video and no picture", id="nothing"),
        pytest.param(["coco", "{one}"], 1, "annotation 4: there is no category 7", id="no-category"),
        pytest.param(["coco", "{bare}"], 1, "annotation 4: the field 'image_id' is missing", id="no-image"),
        pytest.param(["coco", "{two}", "--masks-out", "-"], 2, "cannot go to stdout", id="masks-to-stdout"),
        pytest.param(
            ["coco", "{two}", "--masks-out", "{two}"], 2, "one of the files to read", id="over-itself"
        ),
        pytest.param(["coco", "{two}", "--fps", "2"], 2, "about 2 media: a, b", id="two-media"),
        pytest.param(["coco", "{two}", "--pick", "c"], 2, "called 'c'", id="not-there"),
        pytest.param(["coco", "{two}", "--label", "c"], 2, "says itself", id="label"),
        pytest.param(
            ["coco", "{two}", "--pick", "a", "--fps", "1", "--masks-out", "m.json"],
            2,
            "holds no masks",
            id="masks",
        ),
    ],
)
def test_what_cannot_be_imported_gives_one_line(
    words: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.txt").write_text("1,1,1,1,2,2\n")
    frame = {"width": 9, "height": 9, "frame_id": 0}
    document = {
        "images": [{"id": n, "video_id": n, **frame, "file_name": f"{n}.jpg"} for n in (1, 2)],
        "videos": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": 1, "name": "car"}],
    }
    (tmp_path / "two.json").write_text(json.dumps(document))
    (tmp_path / "none.json").write_text("[]")
    for name, fields in {"one": {"image_id": 1}, "bare": {}}.items():
        wrong = {"id": 4, "category_id": 7, **fields}
        (tmp_path / f"{name}.json").write_text(json.dumps({**document, "annotations": [wrong]}))
    places = {path.stem: str(path) for path in tmp_path.iterdir()} | {"mot": str(tmp_path / "x.txt")}
    out = tmp_path / "out.json"
    assert main(["import", *(word.format(**places) for word in words), "-o", str(out)]) == code
    printed, said = capsys.readouterr()
    assert (printed, len(said.splitlines())) == ("", 1)
    assert message in said
    assert not out.exists()


def test_places_outside_the_picture_are_told_both_ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gt.txt").write_text("1,1,1,1,2,2\n2,1,-9,1,2,2\n3,1,90,1,2,2\n")
    out, table = tmp_path / "out.json", tmp_path / "out.csv"
    words = ["--label", "car", "--size", "9x9", "--fps", "1", "-o", str(out)]
    assert main(["import", "mot", str(tmp_path / "gt.txt"), *words]) == 0
    assert "note: 2 places outside the picture left out; the first, object 1" in capsys.readouterr().err
    found = read_result(out)
    assert isinstance(found, Tracks)
    (sample,) = found[0].samples
    beyond = found[0].model_copy(update={"samples": (sample.model_copy(update={"x_px": -4.0}),)})
    write_result(found.model_copy(update={"tracks": (beyond,)}), out)
    assert main(["export", "csv", str(out), "-o", str(table)]) == 0
    assert "note: object 1: its place is outside the picture in frame 0" in capsys.readouterr().err


def test_files_go_to_stdout(result: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    file, back = tmp_path / "coco.json", tmp_path / "back.json"
    assert main(["export", "coco", str(result), "-o", str(file), "--quiet"]) == 0
    capfdbinary.readouterr()
    assert main(["export", "coco", str(result), "-o", "-"]) == 0
    assert capfdbinary.readouterr().out == file.read_bytes()
    assert main(["import", "coco", str(file), "-o", str(back), "--quiet"]) == 0
    capfdbinary.readouterr()
    assert main(["import", "coco", str(file), "-o", "-"]) == 0
    assert capfdbinary.readouterr().out == back.read_bytes()


def test_one_of_several_media_can_be_picked(tmp_path: Path) -> None:
    frame = {"width": 9, "height": 9, "frame_id": 3, "file_name": "x.jpg"}
    document = {
        "images": [{"id": n, "video_id": n, **frame} for n in (1, 2)],
        "videos": [{"id": 1, "name": "a.mp4"}, {"id": 2, "name": "b.mp4"}],
        "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": 1, "name": "car"}],
    }
    (tmp_path / "two.json").write_text(json.dumps(document))
    out = tmp_path / "out.json"
    assert (
        main(["import", "coco", str(tmp_path / "two.json"), "--pick", "b", "--fps", "2", "-o", str(out)]) == 0
    )
    found = read_result(out)
    assert isinstance(found, Tracks)
    assert (found.receipt.source, found[0].samples[0].time_s) == ("b.mp4", 1.5)


def test_the_page_names_every_format() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    written, read = page.split("## Annotations from other tools")
    assert [name for name in FORMATS if f"`{name}`" not in written] == []
    assert [name for name in READERS if f"| `{name}` |" not in read] == []


def test_the_pages_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    (code,) = (part.split("```")[0] for part in page.split("```python\n")[1:])
    monkeypatch.chdir(tmp_path)
    write_result(tracks(), tmp_path / "tracks.json")
    exec(compile(code, "formats.md", "exec"), {})
    assert capsys.readouterr().out.startswith("9\nlabels have no place in MOT text")
    assert (tmp_path / "street.txt").read_text().count("\n") == 9

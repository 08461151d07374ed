from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.train.converted import Converted, write_converted
from molmo2_ground.train.row_folder import RowFolder
from tests.made_up_rows import track_row

VIDEOS = ("a.mp4", "b.mp4", "c/c.mp4")


def converted(folder: Path) -> Converted:
    """Rows of three small files, which nobody opens as videos here."""
    for name in VIDEOS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return Converted(
        rows={name: (track_row(name, media=(f"media/{name}",)),) for name in VIDEOS},
        files={name: folder / name for name in VIDEOS},
        problems=(),
    )


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def test_rows_and_media_come_into_their_folders(tmp_path: Path) -> None:
    made = converted(tmp_path / "videos")
    out, held = tmp_path / "new" / "out", tmp_path / "new" / "held"
    for _ in range(2):  # again, over what is there
        write_converted(made, {out: VIDEOS[1:], held: VIDEOS[:1]})
        assert [row.row_id for row in RowFolder(out)] == ["b.mp4", "c/c.mp4"]
        assert files_of(held).keys() == {"rows.jsonl", "media/a.mp4"}
        assert (out / "media/c/c.mp4").samefile(tmp_path / "videos/c/c.mp4")
        assert {path.name for path in out.iterdir()} == {"rows.jsonl", "media"}


def other_form(out: Path) -> None:
    (out / "rows-00000.jsonl").write_text("{}\n")


def other_media(out: Path) -> None:
    (out / "rows.jsonl").write_text('{"media": ["media/a.mp4", "media/z.mp4"]}\n')


def other_lines(out: Path) -> None:
    (out / "rows.jsonl").write_text('\n{"media": ["media/a.mp4"]}\nmy notes\n')


def other_video(out: Path) -> None:
    (out / "media").mkdir()
    (out / "media/b.mp4").write_text("of someone else")


def video_that_is_a_folder(out: Path) -> None:
    (out / "media/b.mp4").mkdir(parents=True)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (other_form, r"holds other rows \(rows-00000.jsonl\); name another folder"),
        (other_media, r"holds rows of other media \(media/z.mp4\); name another folder"),
        (other_lines, "rows.jsonl line 3 is no row that was made here"),
        (other_video, "media/b.mp4 is something else already"),
        (video_that_is_a_folder, "media/b.mp4 is something else already"),
    ],
)
def test_what_is_not_ours_is_never_replaced(tmp_path: Path, there: Callable[[Path], None], said: str) -> None:
    made = converted(tmp_path / "videos")
    out = tmp_path / "out"
    out.mkdir()
    there(out)
    before = files_of(out)
    with pytest.raises(SourceError, match=said):
        write_converted(made, {tmp_path / "held": VIDEOS[:1], out: VIDEOS[1:]})
    assert files_of(out) == before
    assert not (tmp_path / "held").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    made = converted(tmp_path / "videos")
    (tmp_path / "out").write_text("notes")
    with pytest.raises(SourceError, match="out is a file; expected a folder"):
        write_converted(made, {tmp_path / "out": VIDEOS})


@pytest.mark.parametrize("again", [False, True], ids=["new", "over-an-earlier-one"])
def test_a_full_disk_leaves_all_folders_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    made = converted(tmp_path / "videos")
    folders = {tmp_path / "new/out": VIDEOS[:2], tmp_path / "new/held": VIDEOS[2:]}
    if again:
        write_converted(made, folders)
        (tmp_path / "videos/a.mp4").unlink()
        (tmp_path / "videos/a.mp4").write_text("a new one")
    before = files_of(tmp_path)

    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    def fills(source: Path, target: Path) -> None:
        if source.name == "c.mp4":
            target.write_text("hal")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        shutil.copyfile(source, target)

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(shutil, "copy2", fills)
    with pytest.raises(OSError, match="No space left") as caught:
        write_converted(made, folders)
    assert caught.value.filename == str(tmp_path / "new/held")
    assert files_of(tmp_path) == before
    assert (tmp_path / "new").exists() == again


def test_where_there_are_no_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = converted(tmp_path / "videos")

    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", no_links)
    for _ in range(2):
        write_converted(made, {tmp_path / "out": VIDEOS})
    assert not (tmp_path / "out/media/a.mp4").samefile(tmp_path / "videos/a.mp4")
    assert (tmp_path / "out/media/a.mp4").read_text() == "a.mp4"

"""Which file each result of a batch was made from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground._cli_origins import ORIGINS_FILE, Origin, Origins, check_receipt
from molmo2_ground.errors import SourceError
from molmo2_ground.results import Receipt
from tests.found import receipt
from tests.media import SIZE_PX, write_video


def _film(path: Path, **options: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_video(path, **options)  # type: ignore[arg-type]
    return path


def _picture(path: Path, size_px: tuple[int, int] = (80, 50), gray: int = 200) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((size_px[1], size_px[0], 3), gray, np.uint8)).save(path)


def _longer(path: Path) -> None:
    path.write_bytes(b"0123456789" * 100_000)


def _other_bytes_in_the_middle(path: Path) -> None:
    path.write_bytes(b"0" * 500_000 + b"1" + b"0" * 499_999)


def _renamed_picture(path: Path) -> None:
    (path / "1.png").rename(path / "2.png")


def _other_picture(path: Path) -> None:
    _picture(path / "1.png", gray=90)


@pytest.mark.parametrize(
    ("made", "changed", "same"),
    [
        pytest.param("zeros", Path.touch, True, id="touched"),
        pytest.param("zeros", _longer, False, id="other-content"),
        pytest.param("zeros", _other_bytes_in_the_middle, False, id="same-size"),
        pytest.param("pictures", _renamed_picture, False, id="renamed-picture"),
        pytest.param("pictures", _other_picture, False, id="other-picture"),
    ],
)
def test_media_are_known_by_what_they_hold(
    made: str, changed: Callable[[Path], None], same: bool, tmp_path: Path
) -> None:
    media, result = tmp_path / made, tmp_path / "out.json"
    if made == "zeros":
        media.write_bytes(b"0" * 1_000_000)
    else:
        _picture(media / "1.png")
    before = Origin.of(media, result)
    changed(media)
    after = Origin.of(media, result)
    assert (before.digest == after.digest) is same
    if not same:
        with pytest.raises(
            SourceError, match=r"from what this file held before: \d+ bytes, .* another --out"
        ):
            before.check(after, result)


def test_a_copy_elsewhere_is_the_same_and_another_file_of_the_name_is_not(tmp_path: Path) -> None:
    mon, tue = tmp_path / "mon.mp4", tmp_path / "tue.mp4"
    mon.write_bytes(b"monday")
    shutil.copy(mon, tue)
    result = tmp_path / "cam1.json"
    before = Origin.of(mon, result)
    before.check(Origin.of(tue, result), result)
    tue.write_bytes(b"tuesday")
    with pytest.raises(SourceError, match=r"was made from another file, .*mon\.mp4; move it away"):
        before.check(Origin.of(tue, result), result)


def test_the_list_survives_a_kill_and_two_writers(tmp_path: Path) -> None:
    def origin(name: str) -> Origin:
        return Origin(result=f"{name}.json", media=f"/{name}.mp4", bytes=1, digest=name)

    first, second = Origins(tmp_path), Origins(tmp_path)
    first.add(origin("a"))
    second.add(origin("b"))
    with (tmp_path / ORIGINS_FILE).open("a") as file:
        file.write('{"result": "c.json", "media"')  # torn
    Origins(tmp_path).add(origin("d"))
    with (tmp_path / ORIGINS_FILE).open("a") as file:
        file.write(json.dumps({"result": 7, "media": "/e", "bytes": 1, "digest": ""}) + "\n[1]\n")
    again = Origins(tmp_path)
    known = [again.of(tmp_path / f"{name}.json") for name in "abcd"]
    assert known == [origin("a"), origin("b"), None, origin("d")]
    assert again.names() == {}  # none of the results is there
    (tmp_path / "b.json").touch()
    assert again.names() == {Path("/b.mp4"): "b"}


LOOKED = receipt(looked_s=[0.0, 0.5, 1.0], size_px=SIZE_PX, fps=10.0)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        pytest.param({}, {}, "", id="its-own"),
        pytest.param({"source": "other.mp4"}, {}, "it is of other.mp4", id="name"),
        pytest.param({}, {"size_px": (64, 96)}, "street.mp4 has 64 x 96 pixels", id="size"),
        pytest.param({}, {"frame_count": 9}, "street.mp4 has 9 frames", id="short"),
        pytest.param({}, {"fps": 25, "frame_count": 40}, "street.mp4 shows frame 5 at 0.20 s", id="rate"),
    ],
)
def test_a_result_of_unknown_origin_is_compared_by_what_it_holds(
    change: dict[str, object], options: dict[str, object], says: str, tmp_path: Path
) -> None:
    video = _film(tmp_path / "street.mp4", **options)
    _compare(LOOKED.model_copy(update=change), video, says)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        pytest.param([(80, 50), (80, 50)], "", id="its-own"),
        pytest.param([(80, 50), (50, 80)], "its pictures are of other sizes", id="sizes"),
        pytest.param([(80, 50)], "it is of shelf: 2 images", id="count"),
    ],
)
def test_pictures_of_unknown_origin_are_compared_by_their_sizes(
    sizes: list[tuple[int, int]], says: str, tmp_path: Path
) -> None:
    for number, size_px in enumerate(sizes):
        _picture(tmp_path / "shelf" / f"{number}.png", size_px)
    looked = {"source": "shelf: 2 images", "size_px": (80, 50), "frame_source_indices": (0, 1)}
    _compare(receipt().model_copy(update=looked), tmp_path / "shelf", says)


def _compare(about: Receipt, media: Path, says: str) -> None:
    if not says:
        check_receipt(about, media, Path("out/a.json"))
        return
    with pytest.raises(SourceError, match=rf"^out/a\.json is there and is about other media: {says}.*; move"):
        check_receipt(about, media, Path("out/a.json"))

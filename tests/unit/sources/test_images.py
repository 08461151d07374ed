from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.clip import Clip
from molmo2_ground.errors import SourceError
from molmo2_ground.sources import open_clip, open_windows, probe
from tests import media as files
from tests.media import RgbArray, Shelf, is_upright, picture, picture_number

ORIENTATION_TAG = 0x0112
# What a camera does to an upright picture before it writes each EXIF orientation.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


def _only(path: Path | str) -> RgbArray:
    clip = open_clip(path)
    assert (clip.kind, len(clip), clip.duration_s, clip.fps) == ("images", 1, None, None)
    return clip.frames[0].rgb


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.ascontiguousarray(STORED[orientation](picture(37)))).save(path, exif=exif, quality=95)
    clip = open_clip(path)
    frame = clip.frames[0]
    assert (frame.width_px, frame.height_px) == (96, 64)
    assert frame.rgb.shape == (64, 96, 3)
    assert picture_number(frame.rgb) == 37
    assert is_upright(frame.rgb)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff", "ppm", "avif", "gif"])
def test_formats_are_told_by_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"shelf.{suffix}"
    Image.fromarray(picture(5)).save(path)
    renamed = path.rename(tmp_path / "shelf.mp4")
    assert picture_number(_only(renamed)) == 5
    info = probe(renamed)
    assert (info.kind, info.width_px, info.height_px, info.frame_count) == ("images", 96, 64, 1)
    assert info.codec == {"jpg": "jpeg"}.get(suffix, suffix)


def _rgba() -> Image.Image:
    rgba = np.zeros((4, 6, 4), dtype=np.uint8)
    rgba[:, :2] = (255, 0, 0, 255)
    rgba[:, 2:4] = (0, 0, 0, 0)
    rgba[:, 4:] = (0, 0, 0, 128)
    return Image.fromarray(rgba)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(_rgba(), [(255, 0, 0), (255, 255, 255), (127, 127, 127)], id="alpha-over-white"),
        pytest.param(_rgba().convert("LA"), [(76, 76, 76), (255,) * 3, (127,) * 3], id="gray-with-alpha"),
        pytest.param(_rgba().convert("RGB").convert("P"), [(255, 0, 0), (0,) * 3, (0,) * 3], id="palette"),
        pytest.param(_rgba().convert("RGB").convert("L"), [(76,) * 3, (0,) * 3, (0,) * 3], id="gray"),
        pytest.param(
            _rgba().convert("RGB").convert("L").point(lambda v: 255 * (v > 9)).convert("1"),
            [(255,) * 3, (0,) * 3, (0,) * 3],
            id="one-bit",
        ),
        pytest.param(
            Image.fromarray(np.array([[0, 0, 65535, 65535, 32768, 32768]] * 4, dtype=np.uint16)),
            [(0,) * 3, (255,) * 3, (128,) * 3],
            id="sixteen-bit",
        ),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(
    tmp_path: Path, image: Image.Image, expected: list[tuple[int, int, int]]
) -> None:
    path = tmp_path / "pixels.png"
    image.save(path)
    for rgb in (_only(path), open_clip(image).frames[0].rgb):
        assert [tuple(rgb[2, x].tolist()) for x in (1, 3, 5)] == expected


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.fromarray(picture(9)).convert("CMYK").save(path, quality=95)
    assert is_upright(_only(path))


def test_floating_point_pictures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "depth.tiff"
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(path)
    with pytest.raises(SourceError, match=r"depth\.tiff has floating-point values"):
        open_clip(path)


def test_wide_integers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "depth.tiff"
    Image.fromarray(np.full((4, 4), 70000, dtype=np.int32)).save(path)
    with pytest.raises(SourceError, match="32-bit"):
        open_clip(path)


def test_a_tiff_of_several_pages_is_its_first_page(tmp_path: Path) -> None:
    path = tmp_path / "pages.tiff"
    Image.fromarray(picture(1)).save(path, save_all=True, append_images=[Image.fromarray(picture(2))])
    assert picture_number(_only(path)) == 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_picture_cut_short_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(1).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"cut\.\w+ is a damaged picture"):
        open_clip(path)


def test_gigantic_dimensions_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.fromarray(picture(0)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    header = bytes(data[12:29])
    import zlib

    data[29:33] = zlib.crc32(header).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(SourceError, match="gigantic"):
        open_clip(path)


def test_a_long_thin_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "thin.png"
    Image.new("1", (20000, 1)).save(path)
    with pytest.raises(SourceError, match="20000×1"):
        open_clip(path)


# ---------------------------------------------------------------- folders and lists


def test_a_folder_is_read_in_natural_order_and_other_files_are_no_matter(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        Image.fromarray(picture(number)).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"no picture")
    (tmp_path / "more.png").mkdir()
    clip = open_clip(tmp_path)
    assert [picture_number(frame.rgb) for frame in clip.frames] == [1, 2, 10]
    assert [frame.source_index for frame in clip.frames] == [0, 1, 2]
    assert clip.lost == ()
    assert clip.source.endswith("3 images")
    assert probe(tmp_path).codec is None


def test_an_unreadable_picture_in_a_folder_is_told_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    Image.fromarray(picture(3)).save(tmp_path / "c.png")
    clip = open_clip(tmp_path)
    assert [frame.source_index for frame in clip.frames] == [0, 2]
    assert clip.lost == ("b.png is empty (0 bytes)",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({}, "it holds no image files", id="empty"),
        pytest.param({"notes.txt": b"words"}, "it holds no image files", id="no-images"),
        pytest.param({"a.png": b"", "b.jpg": b"x"}, "its 2 image files are all unreadable", id="all-broken"),
    ],
)
def test_a_folder_without_pictures(tmp_path: Path, content: dict[str, bytes], message: str) -> None:
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=message):
        open_clip(tmp_path)


def test_a_list_may_mix_files_arrays_and_pillow_images_of_any_size(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture(1)).save(path)
    clip = open_clip([path, str(path), picture(2, width_px=50, height_px=40), Image.fromarray(picture(3))])
    assert [picture_number(frame.rgb) for frame in clip.frames] == [1, 1, 2, 3]
    assert (clip.frames[2].width_px, clip.frames[2].height_px) == (50, 40)
    assert (clip.kind, clip.source) == ("images", "4 images")


def test_a_video_in_a_list_is_refused(media: Shelf) -> None:
    with pytest.raises(SourceError, match=r"item 2 of the list: constant_rate\.mp4 is no picture"):
        open_clip([picture(0), media(files.constant_rate)])
    with pytest.raises(SourceError, match=r"item 1 of the list: .* an animated picture"):
        open_clip([media(files.animated_gif)])


def test_still_pictures_have_no_windows_and_no_frames_in_time(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture(1)).save(path)
    with pytest.raises(SourceError, match="still pictures"):
        list(open_windows(path, rate=2, window_frames=4, overlap_frames=1))


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("array", "shapes"),
    [
        pytest.param(np.zeros((4, 6, 3), np.uint8), [(4, 6, 3)], id="one-picture"),
        pytest.param(np.zeros((2, 4, 6, 3), np.uint8), [(4, 6, 3)] * 2, id="several"),
        pytest.param(np.zeros((4, 6), np.uint8), [(4, 6, 3)], id="gray"),
        pytest.param(np.zeros((4, 6, 1), np.uint8), [(4, 6, 3)], id="gray-with-channel"),
        pytest.param(np.zeros((4, 6, 4), np.uint8), [(4, 6, 3)], id="with-alpha"),
        pytest.param(np.zeros((4, 6, 3), np.uint8)[::-1, ::2], [(4, 3, 3)], id="a-view"),
    ],
)
def test_arrays_are_pictures(array: RgbArray, shapes: list[tuple[int, ...]]) -> None:
    clip = open_clip(array)
    assert clip.kind == "images"
    assert [frame.rgb.shape for frame in clip.frames] == shapes
    assert [(frame.height_px, frame.width_px) for frame in clip.frames] == [s[:2] for s in shapes]


def test_transparent_places_of_an_array_are_white() -> None:
    assert (open_clip(np.zeros((4, 6, 4), np.uint8)).frames[0].rgb == 255).all()


def test_what_turns_into_an_array_is_one() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> RgbArray:
            return picture(6)

    assert picture_number(open_clip(Tensor()).frames[0].rgb) == 6  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("media_like", "message"),
    [
        pytest.param(np.zeros((4, 6, 3), np.float32), r"got float32\[4, 6, 3\].*255 \* a", id="float"),
        pytest.param(np.zeros((4, 6, 3), np.uint16), r"got uint16\[4, 6, 3\].*>> 8", id="sixteen-bit"),
        pytest.param(np.zeros((4, 6, 3), np.bool_), r"got bool\[4, 6, 3\]", id="bool"),
        pytest.param(np.zeros((3, 40, 60), np.uint8), "channels seem to come first", id="channels-first"),
        pytest.param(np.zeros((2, 3, 40, 60), np.uint8), "channels seem to come first", id="several-first"),
        pytest.param(np.zeros((40, 60, 7), np.uint8), r"got uint8\[40, 60, 7\]", id="seven-channels"),
        pytest.param(np.zeros(7, np.uint8), r"got uint8\[7\]", id="a-row"),
        pytest.param(np.zeros((0, 4, 6, 3), np.uint8), "holds no pictures", id="none"),
        pytest.param(np.zeros((0, 6, 3), np.uint8), "without pixels", id="no-pixels"),
        pytest.param([], "empty list", id="empty-list"),
        pytest.param([1, 2], "item 1 of the list: .*got int", id="numbers"),
        pytest.param([np.zeros((4, 6), np.float64)], "item 1 of the list: .*float64", id="float-in-a-list"),
        pytest.param(["nowhere.png"], "item 1 of the list: there is no file", id="missing-in-a-list"),
        pytest.param(["."], "item 1 of the list: .*folder", id="folder-in-a-list"),
        pytest.param(b"\x89PNG", "got bytes", id="bytes"),
        pytest.param(None, "got NoneType", id="none-at-all"),
        pytest.param(3.5, "got float", id="a-number"),
        pytest.param("", "got the path ''", id="empty-path"),
        pytest.param(Clip(frames=()), "holds no pictures", id="empty-clip"),
    ],
)
def test_wrong_input_is_told_from_right(media_like: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        open_clip(media_like)
    assert "\n" not in str(caught.value)


def test_a_clip_is_taken_as_it_is() -> None:
    clip = Clip.from_arrays(np.zeros((3, 4, 6, 3), np.uint8), fps=2)
    assert open_clip(clip, resize=lambda rgb: rgb[:1, :1]) is clip
    info = probe(clip)
    assert (info.kind, info.frame_count, info.fps, info.duration_s) == ("video", 3, 2, 1.5)

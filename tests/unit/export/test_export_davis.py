"""Palette PNGs, read by Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.export import marks_of, write_davis
from molmo2_ground.export.davis import voc_palette
from molmo2_ground.results import Masks
from tests.made_marks import disc, mask, masks, receipt, tracks


def test_the_palette_is_that_of_pascal_voc() -> None:
    # As the VOC 2012 development kit prints it; DAVIS annotations carry the same.
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        5: (128, 0, 128),
        6: (0, 128, 128),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    palette = np.frombuffer(voc_palette(), dtype=np.uint8).reshape(256, 3)
    assert {number: tuple(palette[number].tolist()) for number in known} == known


def test_each_frame_is_a_palette_picture_of_object_numbers(tmp_path: Path) -> None:
    written = write_davis(marks_of(masks()), tmp_path / "out")
    files = sorted((tmp_path / "out" / "street_one").iterdir())
    assert [file.name for file in files] == [f"{frame:05d}.png" for frame in range(16)]
    with Image.open(files[0]) as image:
        assert image.mode == "P"
        assert image.size == (48, 32)
        palette = image.getpalette()
        assert palette is not None
        assert bytes(palette) == voc_palette()[: len(palette)]
        pixels = np.array(image)
    dog, car = disc(10, 12, 3.4), disc(5, 10, 6.2)
    assert (dog & car).any()
    # The dog is the smaller one and lies on top.
    assert np.array_equal(pixels == 2, dog)
    assert np.array_equal(pixels == 1, car & ~dog)
    assert any(line.startswith("object 1: ") and "smaller masks" in line for line in written.left_out)


def test_equal_masks_go_to_the_lower_number(tmp_path: Path) -> None:
    both = Masks(
        masks=(mask(3, 0, disc(9, 9, 4)), mask(5, 0, disc(9, 9, 4))),
        labels={3: "a", 5: "b"},
        segmenter="discs",
        receipt=receipt(frame_times_s=(0.0,), shown_times_s=(0.0,), frame_source_indices=(0,)),
    )
    write_davis(marks_of(both), tmp_path / "out")
    with Image.open(tmp_path / "out" / "street_one" / "00000.png") as image:
        assert set(np.unique(np.array(image)).tolist()) == {0, 3}


@pytest.mark.parametrize("object_id", [0, 256, 1000])
def test_numbers_that_a_palette_has_no_room_for(object_id: int, tmp_path: Path) -> None:
    one = Masks(
        masks=(mask(object_id, 0, disc(9, 9, 4)),),
        labels={object_id: "a"},
        segmenter="discs",
        receipt=receipt(),
    )
    with pytest.raises(ValueError, match=f"1 to 255; got object {object_id}"):
        write_davis(marks_of(one), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another folder"):
        write_davis(marks_of(masks()), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert len(list(tmp_path.iterdir())) == 1


def test_points_alone_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--masks"):
        write_davis(marks_of(tracks()), tmp_path / "out")

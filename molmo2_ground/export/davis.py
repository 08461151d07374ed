"""DAVIS: a folder of palette PNGs, one a frame, whose pixel values are object numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from molmo2_ground._atomic import atomic_folder
from molmo2_ground.export.marks import MarkedMedia
from molmo2_ground.export.mots import check_has_masks
from molmo2_ground.export.pixels import lines_of_lost, owners
from molmo2_ground.export.written import Written, counted

_MOST_OBJECTS = 255


def voc_palette() -> bytes:
    """The 256 colours of PASCAL VOC, which DAVIS uses: 768 bytes, red, green and blue of each.

    Colour i takes the bits of i three at a time, lowest first, one each for red, green and blue, from the
    highest bit of the colour down (PASCAL VOC 2012 development kit, `VOCcolormap`).
    """
    colours = np.zeros((256, 3), dtype=np.uint8)
    numbers = np.arange(256)
    for shift in range(8):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> channel) & 1) << (7 - shift)).astype(np.uint8)
        numbers = numbers >> 3
    return colours.tobytes()


def write_davis(media: MarkedMedia, folder: str | os.PathLike[str]) -> Written:
    """Write FOLDER/NAME/00000.png for each frame that was looked at, named by its number in the file.

    The pixel value is the object's number, 0 is nobody's. Overlaps go to the smaller mask (`pixels.owners`).
    Bare points are left out and named. Frames that nobody looked at have no file.
    Raises `ValueError` when there is no mask at all or an object's number is not 1 to 255, `OSError`;
    `FileExistsError` when the folder is there and not empty.
    """
    from PIL import Image

    media.check_settled()
    check_has_masks(media, "DAVIS")
    wrong = [object_id for object_id in media.labels if not 1 <= object_id <= _MOST_OBJECTS]
    if wrong:
        raise ValueError(f"a palette PNG has room for objects 1 to {_MOST_OBJECTS}; got object {wrong[0]}")
    palette, lost, dropped, drawn = voc_palette(), dict[int, int](), [], 0
    with atomic_folder(folder) as unfinished:
        place = unfinished / media.stem
        place.mkdir()
        for frame in media.frames:
            marks = media.in_frame(frame)
            owner, lost_here = owners(marks, media.size_of(frame))
            for object_id, count in lost_here.items():
                lost[object_id] = lost.get(object_id, 0) + count
            numbers = np.array([0, *(mark.object_id for mark in marks)], dtype=np.uint8)
            image = Image.fromarray(numbers[owner])
            image.putpalette(palette)
            image.save(place / f"{frame:05d}.png")
            drawn += sum(mark.mask is not None for mark in marks)
            dropped += [("it is only a point", mark.object_id, frame) for mark in marks if mark.mask is None]
    left_out = (
        *media.left_out,
        *lines_of_lost(lost),
        *counted(dropped),
        *(("labels have no place in palette PNGs",) if media.labels else ()),
    )
    return Written(path=Path(folder), marks=drawn, left_out=left_out)

"""MOTS Challenge text: masks, one a line, that do not overlap."""

from __future__ import annotations

import os

from molmo2_ground.export.marks import MarkedMedia
from molmo2_ground.export.pixels import lines_of_lost, owners
from molmo2_ground.export.written import Written, counted, lines_of, write_text
from molmo2_ground.rle import Rle

# The challenge numbers an object `1000 * class + object`, and scores cars (1) and pedestrians (2).
_IDS_A_CLASS = 1000
PEDESTRIAN = 2


def write_mots(media: MarkedMedia, path: str | os.PathLike[str], *, class_id: int = PEDESTRIAN) -> Written:
    """Write `frame id class_id height width rle`, frames counted from 1, by frame and then by object.

    class_id: of all objects; the challenge knows 1, cars, and 2, pedestrians, and TrackEval scores 2 alone.
    Overlaps go to the smaller mask (`pixels.owners`). Bare points and empty masks are left out and named.
    Raises `ValueError` when there is no mask at all or an object's number is not 1 to 999, `OSError`.
    """
    media.check_settled()
    check_has_masks(media, "MOTS")
    rows, dropped = [], []
    lost: dict[int, int] = {}
    for frame in media.frames:
        marks = [mark for mark in media.in_frame(frame) if mark.mask is not None]
        owner, lost_here = owners(marks, media.size_of(frame))
        for object_id, count in lost_here.items():
            lost[object_id] = lost.get(object_id, 0) + count
        for place, mark in enumerate(marks, start=1):
            if not 1 <= mark.object_id < _IDS_A_CLASS:
                raise ValueError(f"MOTS numbers objects 1 to {_IDS_A_CLASS - 1}; got object {mark.object_id}")
            rle = Rle.encode(owner == place)
            if not rle.area_px:
                dropped.append(("nothing of its mask is left", mark.object_id, frame))
                continue
            counts = rle.to_coco()["counts"]
            height, width = rle.size_hw
            rows.append(
                f"{frame + 1} {_IDS_A_CLASS * class_id + mark.object_id} {class_id} {height} {width} {counts}"
            )
        dropped += [
            ("it is only a point", mark.object_id, frame)
            for mark in media.in_frame(frame)
            if mark.mask is None
        ]
    left_out = (*media.left_out, *lines_of_lost(lost), *counted(dropped), *_labels(media))
    return Written(path=write_text(path, lines_of(rows)), marks=len(rows), left_out=left_out)


def check_has_masks(media: MarkedMedia, format_name: str) -> None:
    """Raises `ValueError` when something is marked and nothing has a mask."""
    if media.marks and all(mark.mask is None for mark in media.marks):
        raise ValueError(
            f"{format_name} holds masks, and this result has points alone; give the masks that were made "
            "from it (--masks MASKS.json)"
        )


def _labels(media: MarkedMedia) -> tuple[str, ...]:
    return ("labels have no place in MOTS text",) if media.labels else ()

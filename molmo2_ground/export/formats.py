"""`FORMATS`: every format that results can be written in, by the name that people give it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from molmo2_ground.export.coco import write_coco
from molmo2_ground.export.coco_read import read_coco
from molmo2_ground.export.csv_table import write_csv
from molmo2_ground.export.cvat import write_cvat
from molmo2_ground.export.cvat_read import read_cvat
from molmo2_ground.export.davis import write_davis
from molmo2_ground.export.inside import is_inside
from molmo2_ground.export.json_lines import write_json_lines
from molmo2_ground.export.label_studio import write_label_studio
from molmo2_ground.export.label_studio_read import read_label_studio
from molmo2_ground.export.marks import Exportable, MarkedMedia, marks_of
from molmo2_ground.export.mot import write_mot
from molmo2_ground.export.mot_read import read_mot
from molmo2_ground.export.mots import write_mots
from molmo2_ground.export.trackeval_folder import write_tracker_folder, write_truth_folder
from molmo2_ground.export.written import Written, counted
from molmo2_ground.export.youtube_vis import write_youtube_vis
from molmo2_ground.results import Masks

Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that is written.

    write         takes marks, the path, and the radius of the box around a bare point or None.
    folder        whether it is a folder of files.
    takes_radius  whether boxes have a place in it.
    """

    write: Callable[[MarkedMedia, Path, float | None], Written]
    folder: bool = False
    takes_radius: bool = False


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "jsonl": Format(
            write=lambda media, path, radius: write_json_lines(media, path),
        ),
        "csv": Format(
            write=lambda media, path, radius: write_csv(media, path, radius_px=radius),
            takes_radius=True,
        ),
        "coco": Format(
            write=lambda media, path, radius: write_coco(media, path, radius_px=radius),
            takes_radius=True,
        ),
        "mot": Format(
            write=lambda media, path, radius: write_mot(media, path, radius_px=radius),
            takes_radius=True,
        ),
        "mots": Format(
            write=lambda media, path, radius: write_mots(media, path),
        ),
        "davis": Format(
            write=lambda media, path, radius: write_davis(media, path),
            folder=True,
        ),
        "youtube-vis": Format(
            write=lambda media, path, radius: write_youtube_vis(media, path),
        ),
        "cvat": Format(
            write=lambda media, path, radius: write_cvat(media, path),
        ),
        "label-studio": Format(
            write=lambda media, path, radius: write_label_studio(media, path, radius_px=radius),
            takes_radius=True,
        ),
        "trackeval": Format(
            write=lambda media, path, radius: write_tracker_folder(media, path, radius_px=radius),
            folder=True,
            takes_radius=True,
        ),
        "trackeval-truth": Format(
            write=lambda media, path, radius: write_truth_folder(media, path, radius_px=radius),
            folder=True,
            takes_radius=True,
        ),
    }
)

# Each takes the file and what its boxes are called, which only MOT text does not say itself.
READERS: Mapping[str, Callable[[Path, str | None], tuple[MarkedMedia, ...]]] = MappingProxyType(
    {
        "cvat": lambda path, label: read_cvat(path),
        "label-studio": lambda path, label: read_label_studio(path),
        "coco": lambda path, label: read_coco(path),
        "mot": lambda path, label: read_mot(path, label=label),
    }
)


def write_as(
    format_name: str,
    result: Exportable,
    path: Path,
    *,
    masks: Masks | None = None,
    radius_px: float | None = None,
    frame_count: int | None = None,
    image_names: Sequence[str] = (),
) -> Written:
    """Write a result in a format of `FORMATS`.

    masks: those that were made from the result. radius_px: of the box around a point without a mask.
    frame_count, image_names: how many frames the video has, what the pictures are called; a result does not
    know either. A place outside the picture is written as it is and named.
    Raises `ValueError` for a format that is not among them, and what the format's writer raises.
    """
    if format_name not in FORMATS:
        raise ValueError(f"expected a format among {', '.join(FORMATS)}; got {format_name!r}")
    chosen = FORMATS[format_name]
    if radius_px is not None and not chosen.takes_radius:
        raise ValueError(f"{format_name} holds no boxes, so a radius has no use there")
    media = marks_of(result, masks=masks, frame_count=frame_count, image_names=image_names)
    written = chosen.write(media, path, radius_px)
    beyond = [
        ("its place is outside the picture", mark.object_id, mark.frame)
        for mark in media.marks
        if not is_inside(mark, media.size_of(mark.frame))
    ]
    return replace(written, left_out=(*written.left_out, *counted(beyond)))


def read_from(format_name: str, path: Path, *, label: str | None = None) -> tuple[MarkedMedia, ...]:
    """Read a file of annotations in a format of `READERS`.

    label: what the boxes are of, for MOT text, which does not say it.
    Raises `ValueError` for a format that is not among them, `SourceError` for a file that cannot be read.
    """
    if format_name not in READERS:
        raise ValueError(f"expected a format among {', '.join(READERS)}; got {format_name!r}")
    if label is not None and format_name != "mot":
        raise ValueError(f"{format_name} says itself what things are; a label is for MOT text")
    return READERS[format_name](path, label)

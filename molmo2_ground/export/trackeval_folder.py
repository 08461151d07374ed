"""Folders that TrackEval reads, in the MOT Challenge layout: one of the truth, one of what a model said."""

from __future__ import annotations

import os
from pathlib import Path

from molmo2_ground._atomic import atomic_folder
from molmo2_ground.export.marks import MarkedMedia
from molmo2_ground.export.mot import mot_rows
from molmo2_ground.export.written import Written, counted, lines_of, write_text

BENCHMARK = "molmo2"
SPLIT = "train"


def write_truth_folder(
    media: MarkedMedia,
    folder: str | os.PathLike[str],
    *,
    radius_px: float | None = None,
    benchmark: str = BENCHMARK,
    split: str = SPLIT,
) -> Written:
    """Write what TrackEval calls GT_FOLDER: `BENCHMARK-SPLIT/NAME/gt/gt.txt`, `seqinfo.ini` and `seqmaps`.

    gt.txt: `frame,id,left,top,width,height,1,1,1`, counted from 1: considered, of class 1, all to be seen.
    Class 1 is the pedestrian of the challenge, the only one that TrackEval scores; all labels become it.
    seqinfo.ini: the length is that of the file where it is known, else up to the last frame that was looked
    at. Raises `ValueError` for points without a radius, `FileExistsError`, `OSError`.
    """
    rows, dropped = mot_rows(media, tail="1,1,1", radius_px=radius_px)
    name, group = media.stem, f"{benchmark}-{split}"
    with atomic_folder(folder) as unfinished:
        sequence = unfinished / group / name
        (sequence / "gt").mkdir(parents=True)
        (unfinished / "seqmaps").mkdir()
        write_text(sequence / "gt" / "gt.txt", lines_of(rows))
        write_text(sequence / "seqinfo.ini", lines_of(_seqinfo(media)))
        write_text(unfinished / "seqmaps" / f"{group}.txt", lines_of(["name", name]))
    return Written(path=Path(folder), marks=len(rows), left_out=_left_out(media, dropped))


def write_tracker_folder(
    media: MarkedMedia,
    folder: str | os.PathLike[str],
    *,
    radius_px: float | None = None,
    tracker: str = "molmo2-ground",
    benchmark: str = BENCHMARK,
    split: str = SPLIT,
) -> Written:
    """Write what TrackEval calls TRACKERS_FOLDER: `BENCHMARK-SPLIT/TRACKER/data/NAME.txt`, ten columns.

    NAME is made of the source's name as for the truth, so both go together.
    Raises `ValueError` for points without a radius, `FileExistsError`, `OSError`.
    """
    rows, dropped = mot_rows(media, tail="1,-1,-1,-1", radius_px=radius_px)
    with atomic_folder(folder) as unfinished:
        data = unfinished / f"{benchmark}-{split}" / tracker / "data"
        data.mkdir(parents=True)
        write_text(data / f"{media.stem}.txt", lines_of(rows))
    return Written(path=Path(folder), marks=len(rows), left_out=_left_out(media, dropped))


def _seqinfo(media: MarkedMedia) -> list[str]:
    width, height = media.size_px
    # The challenge has whole numbers, readers take others; without a rate the file says so by 0.
    rate = f"{media.fps:g}" if media.fps else "0"
    return [
        "[Sequence]",
        f"name={media.stem}",
        "imDir=img1",
        f"frameRate={rate}",
        f"seqLength={media.length}",
        f"imWidth={width}",
        f"imHeight={height}",
        "imExt=.jpg",
    ]


def _left_out(media: MarkedMedia, dropped: list[tuple[str, int, int]]) -> tuple[str, ...]:
    labels = ("all labels became class 1, which is what TrackEval scores",) if media.labels else ()
    return (*media.left_out, *counted(dropped), *labels)

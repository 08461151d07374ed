"""`RowTracks`: the tracks of a folder of rows as an evaluation suite, to measure a model before and after.

    suite = RowTracks("street/rows-holdout")
    before = evaluate(suite, checkpoint_candidate("allenai/Molmo2-4B"), "runs/before")

Every annotation with the task `track` is one question, asked as a user would ask it: the label, at the rate
of the annotation. An answer is right where it lies in the box or mask. Rows that training shows a part of are
asked about a film of that part.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from molmo2_ground.eval.example import Example, Settings, Truth, TruthFrame, TruthObject
from molmo2_ground.eval.suites.dataset import Row as SuiteRow
from molmo2_ground.eval.suites.dataset import TrackingSuite, tagged
from molmo2_ground.eval.suites.media import cut_film
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.query import Query
from molmo2_ground.rle import Rle
from molmo2_ground.sources import SourceInfo, probe
from molmo2_ground.train.row_checks import problems_of
from molmo2_ground.train.row_folder import RowFolder
from molmo2_ground.train.row_media import part_of
from molmo2_ground.train.rows import Annotation, Place, Row, row_of


class RowTracks(TrackingSuite):
    """Tracks of training rows, judged at every annotated moment."""

    name = "row-tracks"
    settings = Settings(max_new_tokens=4096, note="greedy, asked and judged at the rate of the rows")

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        # Which part of its file an example is about, seconds.
        self._parts: dict[str, tuple[float, float]] = {}

    def _rows(self) -> Iterator[SuiteRow]:
        rows = RowFolder(self.folder)
        for number in range(len(rows)):
            place = rows.place(number)
            try:
                row = row_of(rows.text(number))
            except BadRowError as error:
                yield place, partial(_fail, str(error))
                continue
            for at, annotation in enumerate(row.annotations):
                if "track" in annotation.task:
                    yield f"{place} ({row.row_id})", partial(self._example, row, at, annotation)

    def prepare(self, example: Example, folder: Path) -> Path:
        """The file to open; a part of one is written into `folder` unless it is there."""
        if example.key not in self._parts:
            return Path(example.media)
        start_s, end_s = self._parts[example.key]
        source = Path(example.media)
        out = folder / f"{source.parent.name}-{source.stem}-{start_s:.3f}-{end_s:.3f}.mp4"
        if not out.exists():
            # The frame at the end belongs to what follows.
            cut_film(source, out, start_s=start_s, end_s=end_s - 0.002, fps=example.truth.fps)
        return out

    def _example(self, row: Row, number: int, annotation: Annotation) -> Example:
        problem = next(problems_of(row), None)
        if problem is not None:
            raise BadRowError(problem)
        if annotation.rate_fps is None:
            raise BadRowError(f"annotations[{number}] is on no regular grid, so no rate can be asked for")
        path = self.folder / row.media[0]
        info = probe(path)
        if info.kind != "video" or info.duration_s is None:
            raise BadRowError(f"{row.media[0]} is no video")
        if row.size_px and row.size_px[0] != (info.width_px, info.height_px):
            raise BadRowError(f"{row.media[0]} has {info.width_px} x {info.height_px} pixels, not as said")
        part_s = part_of(row, info.duration_s)
        key = f"{row.row_id} {number}"
        if row.clip_s is not None:
            self._parts[key] = part_s
        return tagged(
            Example(
                key=key,
                media=path,
                query=Query.track(annotation.label, fps=annotation.rate_fps),
                truth=_truth(annotation, info, part_s),
            )
        )


def _fail(reason: str) -> Example:
    raise BadRowError(reason)


def _truth(annotation: Annotation, info: SourceInfo, part_s: tuple[float, float]) -> Truth:
    """Where everything is at each annotated moment, in seconds from the start of the part."""
    start_s, end_s = part_s
    fps = info.fps or 1.0
    frames: dict[int, list[TruthFrame]] = {}
    times_s = []
    for moment in annotation.moments:
        assert moment.time_s is not None  # problems_of has looked
        time_s = moment.time_s - start_s
        times_s.append(time_s)
        for place in moment.places:
            if not place.occluded:
                frames.setdefault(place.object_id, []).append(
                    TruthFrame(
                        time_s=time_s,
                        source_index=round(time_s * fps),
                        xy_px=_point(place),
                        mask=_mask(place, (info.width_px, info.height_px)),
                    )
                )
    return Truth(
        size_px=(info.width_px, info.height_px),
        duration_s=end_s - start_s,
        fps=info.fps,
        objects=tuple(
            TruthObject(object_id=object_id, frames=tuple(found)) for object_id, found in frames.items()
        ),
        frame_times_s=tuple(times_s),
    )


def _point(place: Place) -> tuple[float, float] | None:
    return None if place.x_px is None or place.y_px is None else (place.x_px, place.y_px)


def _mask(place: Place, size_px: tuple[int, int]) -> Rle:
    """The pixels in which an answer is right: those of the mask, or that the box touches."""
    if place.mask is not None:
        return place.mask
    if place.box_px is None:
        raise BadRowError(f"object {place.object_id} has a point alone; to judge answers, give a box or mask")
    left, top, right, bottom = place.box_px
    pixels = np.zeros((size_px[1], size_px[0]), dtype=np.bool_)
    pixels[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    return Rle.encode(pixels)

"""pixmo-points-eval: point to everything of a description in a picture, judged by a mask a thing.

The folder holds the table of the split `test` and the pictures below it: at the row's `image` when it has
that field, else called by the row's image_sha256. Other fields: label, points {x, y} in hundredths of the
picture, masks, lists of rows of true and false as large as the picture, one a point.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from molmo2_ground.eval.example import Example, Result, Settings, Truth, TruthFrame, TruthObject
from molmo2_ground.eval.metrics import image_point_scores, placed_of
from molmo2_ground.eval.suites.dataset import (
    PAPER_CROPS,
    DatasetSuite,
    Rows,
    encoded_mask,
    table_rows,
    tagged,
)
from molmo2_ground.eval.suites.media import Shelf, image_size
from molmo2_ground.eval.suites.records import BadRowError, Record, in_picture
from molmo2_ground.query import Query
from molmo2_ground.rle import Rle


class PixmoPoints(DatasetSuite):
    """pixmo-points-eval."""

    name = "pixmo-points"
    settings = Settings(max_new_tokens=192, max_crops=PAPER_CROPS, note="greedy, up to 24 crops")
    headline = ("f1", "precision", "recall")

    def _rows(self) -> Rows:
        shelf = Shelf.of_images(self.folder)
        return table_rows(self.folder, split="test", shelf=shelf, example=_example)

    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        """precision, recall, f1, and what the released evaluator would give as `reference_*`."""
        placed = placed_of(result)
        scores = image_point_scores(example.truth, placed).scores()
        if result is None:  # wrong, also where there is nothing to point at
            scores = dict.fromkeys(scores, 0.0)
        released = image_point_scores(example.truth, placed, reference_compat=True).scores()
        return {
            "readable": float(result is not None),
            **scores,
            **{f"reference_{name}": value for name, value in released.items()},
        }


def picture_of(row: Record, shelf: Shelf) -> Path:
    """The picture that a row is about; raises `BadRowError` when it is not there."""
    if row.has("image"):
        path = shelf.folder / row.text("image")
        if not path.is_file():
            raise BadRowError(f"there is no picture {path}")
        return path
    return shelf.find(row.text("image_sha256"))


def _example(row: Record, shelf: Shelf) -> Example:
    path, label = picture_of(row, shelf), row.text("label")
    size_px = image_size(path)
    masks = [_mask(rows, size_px, number) for number, rows in enumerate(row.items("masks"), start=1)]
    points = [_point(point, size_px, number) for number, point in enumerate(row.records("points"), start=1)]
    if points and len(points) != len(masks):
        raise BadRowError(f"there are {len(points)} points and {len(masks)} masks")
    frames = [
        TruthFrame(
            time_s=None,
            source_index=0,
            xy_px=points[i] if points else None,
            mask=mask,
        )
        for i, mask in enumerate(masks)
        if points or mask.area_px
    ]
    truth = Truth(
        size_px=size_px,
        count=len(frames),
        objects=tuple(TruthObject(object_id=i, frames=(frame,)) for i, frame in enumerate(frames, start=1)),
    )
    key = f"{path.stem}:{label}"
    return tagged(Example(key=key, media=path, query=Query.point(label.lower()), truth=truth))


def _point(point: Record, size_px: tuple[int, int], number: int) -> tuple[float, float]:
    """A place in pixels, of one in hundredths of the picture."""
    xy_px = point.number("x") * size_px[0] / 100, point.number("y") * size_px[1] / 100
    return in_picture(xy_px, size_px, f"point {number}")


def _mask(rows: object, size_px: tuple[int, int], number: int) -> Rle:
    what = f"mask {number}"
    try:
        pixels = np.array(rows, dtype=bool)
    except ValueError:
        raise BadRowError(f"{what}: its rows differ in length") from None
    if pixels.ndim != 2:
        raise BadRowError(f"{what} is no list of rows of true and false")
    return encoded_mask(pixels, size_px=size_px, what=what)

"""pixmo-count: how many of a thing are there in a picture.

The folder holds the table of the split `test` and the pictures, found as for pixmo-points-eval. Fields of a
row: image or image_sha256, label, count.
"""

from __future__ import annotations

from molmo2_ground.eval.example import Example, Settings, Truth
from molmo2_ground.eval.suites.dataset import PAPER_CROPS, CountingSuite, Rows, table_rows, tagged
from molmo2_ground.eval.suites.media import Shelf, image_size
from molmo2_ground.eval.suites.pixmo_points import picture_of
from molmo2_ground.eval.suites.records import Record
from molmo2_ground.query import Query


class PixmoCount(CountingSuite):
    """pixmo-count. The number is that of the points where the model pointed; close means off by at most 1."""

    name = "pixmo-count"
    settings = Settings(max_new_tokens=192, max_crops=PAPER_CROPS, note="greedy, up to 24 crops")
    close_percent = 0
    published_by_text = False

    def _rows(self) -> Rows:
        shelf = Shelf.of_images(self.folder)
        return table_rows(self.folder, split="test", shelf=shelf, example=_example)


def _example(row: Record, shelf: Shelf) -> Example:
    path, label = picture_of(row, shelf), row.text("label")
    truth = Truth(size_px=image_size(path), count=row.whole("count"))
    key = f"{path.stem}:{label}"
    return tagged(Example(key=key, media=path, query=Query.count(label.lower()), truth=truth))

"""PointBench: point as an instruction says; every point must lie in the mask.

The folder holds data.json, selected_images/<category>/<image_filename> and
selected_masks/<category>/<mask_filename>. Fields of a row: image_filename, mask_filename, category,
user_input; rows without a mask belong to no test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.example import Example, Result, Settings, Truth, TruthFrame, TruthObject
from molmo2_ground.eval.metrics import POINT_BENCH_CATEGORIES, placed_of, point_bench
from molmo2_ground.eval.suites.dataset import PAPER_CROPS, DatasetSuite, Row, encoded_mask, tagged
from molmo2_ground.eval.suites.media import image_size
from molmo2_ground.eval.suites.records import BadRowError, Record, as_record, read_json
from molmo2_ground.query import Query

# The instruction is a whole sentence; our own wording of a question to point puts these words back.
_POINT_TO = re.compile(r"^(?:please\s+)?point\s+(?:to|at)\s+", re.IGNORECASE)
_ON = 127


class PointBench(DatasetSuite):
    """PointBench. The headline is the mean of the five categories."""

    name = "point-bench"
    settings = Settings(max_new_tokens=256, max_crops=PAPER_CROPS, note="greedy, up to 24 crops")
    headline = ("accuracy",)

    def _rows(self) -> Iterator[Row]:
        path = self.folder / "data.json"
        rows = read_json(path)
        if not isinstance(rows, list):
            raise SourceError(f"{path.name} holds {type(rows).__name__}; expected a list of rows")
        for number, row in enumerate(rows):
            if not (isinstance(row, Mapping) and row.get("mask_filename") is None):
                yield f"data.json row {number}", _reader(row, self.folder)

    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        """correct, and the same as `accuracy_<category>`, which the summary is made of."""
        mask = example.truth.objects[0].frames[0].mask
        assert mask is not None
        correct = point_bench(mask, placed_of(result))
        category = example.tags["category"]
        return {
            "readable": float(result is not None),
            "correct": correct,
            f"accuracy_{category}": correct,
        }

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Means, and `accuracy`, the mean over the categories, each with the same weight."""
        means = super().summary(rows)
        categories = [value for name, value in means.items() if name.startswith("accuracy_")]
        return means | ({"accuracy": sum(categories) / len(categories)} if categories else {})


def _reader(row: object, folder: Path) -> Callable[[], Example]:
    return lambda: _example(as_record(row, "the row"), folder)


def _example(row: Record, folder: Path) -> Example:
    category = row.text("category")
    if category not in POINT_BENCH_CATEGORIES:
        raise BadRowError(f"the category is {category}; expected {', '.join(POINT_BENCH_CATEGORIES)}")
    path = folder / "selected_images" / category / row.text("image_filename")
    mask_path = folder / "selected_masks" / category / row.text("mask_filename")
    size_px = image_size(path)
    mask = encoded_mask(_white(mask_path), size_px=size_px, what=mask_path.name)
    truth = Truth(
        size_px=size_px,
        objects=(TruthObject(object_id=1, frames=(TruthFrame(time_s=None, source_index=0, mask=mask),)),),
    )
    instruction = row.text("user_input")
    return tagged(
        Example(
            key=f"{category}/{path.name}:{instruction}",
            media=path,
            query=Query.point(_POINT_TO.sub("", instruction) or instruction),
            truth=truth,
        ),
        category=category,
    )


def _white(path: Path) -> np.ndarray:
    """bool[height, width]: where any channel is brighter than half."""
    image_size(path)  # raises with the reason when there is no picture
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB") if image.mode not in ("L", "RGB") else image)
    except (OSError, ValueError) as error:
        raise BadRowError(f"the mask {path.name} cannot be opened: {error}") from error
    return (pixels if pixels.ndim == 2 else pixels.max(axis=2)) > _ON

"""Results as files, and files of annotations as results.

Every format goes through `MarkedMedia`: `marks_of` makes it of a result, `write_…` writes it; `read_…` makes
it of a file, `settled` gives it the video's size and times, and `to_tracks`, `to_points` and `to_masks` make
results of it. Names load what they need when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from molmo2_ground.export.result_file import (
    Result,
    dumps,
    json_schema,
    kind_of,
    loads,
    loads_masks,
    read_any,
    read_masks,
    read_result,
    write_result,
)

if TYPE_CHECKING:
    from molmo2_ground.export.coco import write_coco
    from molmo2_ground.export.coco_read import read_coco
    from molmo2_ground.export.csv_table import write_csv
    from molmo2_ground.export.cvat import write_cvat
    from molmo2_ground.export.cvat_read import read_cvat
    from molmo2_ground.export.davis import write_davis
    from molmo2_ground.export.formats import FORMATS, READERS, Format, read_from, write_as
    from molmo2_ground.export.imported import to_masks, to_points, to_tracks
    from molmo2_ground.export.json_lines import write_json_lines
    from molmo2_ground.export.label_studio import label_config, write_label_studio
    from molmo2_ground.export.label_studio_read import read_label_studio
    from molmo2_ground.export.marks import Mark, MarkedMedia, marks_of
    from molmo2_ground.export.mot import write_mot
    from molmo2_ground.export.mot_read import read_mot
    from molmo2_ground.export.mots import write_mots
    from molmo2_ground.export.settled import settled
    from molmo2_ground.export.trackeval_folder import write_tracker_folder, write_truth_folder
    from molmo2_ground.export.written import Written
    from molmo2_ground.export.youtube_vis import write_youtube_vis

__all__ = [
    "FORMATS",
    "READERS",
    "Format",
    "Mark",
    "MarkedMedia",
    "Result",
    "Written",
    "dumps",
    "json_schema",
    "kind_of",
    "label_config",
    "loads",
    "loads_masks",
    "marks_of",
    "read_any",
    "read_coco",
    "read_cvat",
    "read_from",
    "read_label_studio",
    "read_masks",
    "read_mot",
    "read_result",
    "settled",
    "to_masks",
    "to_points",
    "to_tracks",
    "write_as",
    "write_coco",
    "write_csv",
    "write_cvat",
    "write_davis",
    "write_json_lines",
    "write_label_studio",
    "write_mot",
    "write_mots",
    "write_result",
    "write_tracker_folder",
    "write_truth_folder",
    "write_youtube_vis",
]

_HERE = "molmo2_ground.export"
_HOME_OF = {
    "FORMATS": f"{_HERE}.formats",
    "READERS": f"{_HERE}.formats",
    "Format": f"{_HERE}.formats",
    "Mark": f"{_HERE}.marks",
    "MarkedMedia": f"{_HERE}.marks",
    "Written": f"{_HERE}.written",
    "label_config": f"{_HERE}.label_studio",
    "marks_of": f"{_HERE}.marks",
    "read_coco": f"{_HERE}.coco_read",
    "read_cvat": f"{_HERE}.cvat_read",
    "read_from": f"{_HERE}.formats",
    "read_label_studio": f"{_HERE}.label_studio_read",
    "read_mot": f"{_HERE}.mot_read",
    "settled": f"{_HERE}.settled",
    "to_masks": f"{_HERE}.imported",
    "to_points": f"{_HERE}.imported",
    "to_tracks": f"{_HERE}.imported",
    "write_as": f"{_HERE}.formats",
    "write_coco": f"{_HERE}.coco",
    "write_csv": f"{_HERE}.csv_table",
    "write_cvat": f"{_HERE}.cvat",
    "write_davis": f"{_HERE}.davis",
    "write_json_lines": f"{_HERE}.json_lines",
    "write_label_studio": f"{_HERE}.label_studio",
    "write_mot": f"{_HERE}.mot",
    "write_mots": f"{_HERE}.mots",
    "write_tracker_folder": f"{_HERE}.trackeval_folder",
    "write_truth_folder": f"{_HERE}.trackeval_folder",
    "write_youtube_vis": f"{_HERE}.youtube_vis",
}


if not TYPE_CHECKING:  # a type checker reads the imports above, and is to find misspelt names

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)

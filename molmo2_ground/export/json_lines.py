"""JSON lines: one object in one frame a line, and all that is known about it."""

from __future__ import annotations

import json
import os
from typing import Any

from molmo2_ground.export.marks import Mark, MarkedMedia
from molmo2_ground.export.written import Written, lines_of, write_text

# Some readers break lines at these too; JSON may write them as it likes.
_OTHER_LINE_ENDS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}


def write_json_lines(media: MarkedMedia, path: str | os.PathLike[str]) -> Written:
    """Write a line for each mark, by frame and then by object; fields without a value are left out.

    source, source_index, time_s, object_id, label, state: as in the result file.
    x_px, y_px, x_norm, y_norm: the point. box_px: [left, top, right, bottom] of the mask.
    mask: {"size": [height, width], "counts": …} as COCO writes it. flags: doubts about the mask.
    occluded: true where a file of annotations says so.
    Raises `OSError`.
    """
    media.check_settled()
    rows = (json.dumps(_fields(media, mark), ensure_ascii=False) for mark in media.marks)
    text = lines_of(row.translate(_OTHER_LINE_ENDS) for row in rows)
    return Written(path=write_text(path, text), marks=len(media.marks), left_out=media.left_out)


def _fields(media: MarkedMedia, mark: Mark) -> dict[str, Any]:
    fields: dict[str, Any] = {"source": media.name, "source_index": mark.frame}
    if mark.time_s is not None:
        fields["time_s"] = mark.time_s
    fields |= {"object_id": mark.object_id, "label": mark.label, "state": mark.state}
    if mark.point_px is not None:
        (x, y), (width, height) = mark.point_px, media.size_of(mark.frame)
        fields |= {"x_px": x, "y_px": y, "x_norm": x / width, "y_norm": y / height}
    box = mark.extent_px()
    if box is not None:
        fields["box_px"] = list(box)
    if mark.mask is not None:
        fields["mask"] = mark.mask.to_coco()
    if mark.flags:
        fields["flags"] = list(mark.flags)
    if mark.occluded:
        fields["occluded"] = True
    return fields

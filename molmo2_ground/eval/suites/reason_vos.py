"""ReasonVOS: sentences that take some thought, about one object each, in clips of four other sets.

The folder holds meta_expressions.json, JPEGImages/<video>/<frame>.jpg and, one folder an object,
Annotations/<source>_<video>_<obj_id>/<frame>.png, where every pixel but 0 belongs to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from molmo2_ground.eval.suites.records import as_record
from molmo2_ground.eval.suites.referring import (
    ReferringSuite,
    Sentence,
    expressions_of,
    frame_names,
    in_folder,
    png_masks,
    videos_of,
)


class ReasonVos(ReferringSuite):
    """ReasonVOS."""

    name = "reason-vos"

    def _frames_folder(self) -> Path:
        return in_folder(self.folder, "JPEGImages")

    def _sentences(self) -> Iterator[tuple[str, Callable[[], Sentence]]]:
        masks = in_folder(self.folder, "Annotations")
        decoded: set[Path] = set()
        for video, content in videos_of(in_folder(self.folder, "meta_expressions.json")).items():
            for number, fields in expressions_of(content):
                yield f"{video}, sentence {number}", _reader(video, content, fields, masks, decoded)


def _reader(
    video: str, content: Any, fields: Any, folder: Path, decoded: set[Path]
) -> Callable[[], Sentence]:
    def read() -> Sentence:
        row, about = as_record(fields, "the sentence"), as_record(content, "the video")
        source, object_id, names = about.text("source"), row.name("obj_id"), frame_names(about)
        return Sentence(
            key=f"{video}/{row.name('exp_id')}",
            video=video,
            frames=names,
            phrase=row.text("exp_text"),
            category=source,
            masks=lambda size_px: {
                1: png_masks(
                    folder / f"{source}_{video}_{object_id}", names, size_px, value=None, decoded=decoded
                )
            },
        )

    return read

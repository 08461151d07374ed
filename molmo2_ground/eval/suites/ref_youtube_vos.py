"""Ref-YouTube-VOS: sentences about one object each in YouTube clips.

The folder holds meta_expressions/valid/meta_expressions.json, valid/JPEGImages/<video>/<frame>.jpg and
valid/Annotations/<video>/<frame>.png, where a pixel's value is the number of its object. The public sentences
of `valid` name no object and its masks are kept back: a copy with obj_id and masks is needed, or another
split laid out in this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from molmo2_ground.eval.suites.records import BadRowError, as_record
from molmo2_ground.eval.suites.referring import (
    ReferringSuite,
    Sentence,
    expressions_of,
    frame_names,
    in_folder,
    png_masks,
    videos_of,
)


class RefYoutubeVos(ReferringSuite):
    """Ref-YouTube-VOS."""

    name = "ref-yt-vos"
    # A frame without a PNG is one in which no object of the video is seen.
    sparse: ClassVar[bool] = True

    def _frames_folder(self) -> Path:
        return in_folder(self.folder, "valid/JPEGImages", "JPEGImages")

    def _sentences(self) -> Iterator[tuple[str, Callable[[], Sentence]]]:
        sentences = in_folder(
            self.folder, "meta_expressions/valid/meta_expressions.json", "meta_expressions.json"
        )
        masks = in_folder(self.folder, "valid/Annotations", "Annotations")
        decoded: set[Path] = set()
        for video, content in videos_of(sentences).items():
            for number, fields in expressions_of(content):
                place = f"{video}/{number}"
                yield place, _reader(place, content, fields, masks / video, decoded, self.sparse)


def _reader(
    key: str, content: Any, fields: Any, folder: Path, decoded: set[Path], sparse: bool
) -> Callable[[], Sentence]:
    def read() -> Sentence:
        row = as_record(fields, "the sentence")
        if not row.has("obj_id"):
            raise BadRowError("the sentence names no object (obj_id), so it cannot be judged")
        object_id = row.name("obj_id")
        if not object_id.isdecimal() or not 0 < int(object_id) < 256:
            raise BadRowError(f"obj_id is {object_id}; expected a number from 1 to 255")
        names = frame_names(as_record(content, "the video"))
        return Sentence(
            key=key,
            video=folder.name,
            frames=names,
            phrase=row.text("exp"),
            masks=lambda size_px: {
                int(object_id): png_masks(
                    folder, names, size_px, value=int(object_id), decoded=decoded, sparse=sparse
                )
            },
        )

    return read

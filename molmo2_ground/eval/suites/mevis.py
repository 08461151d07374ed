"""MeViS: sentences about how things move; several objects may be meant.

The folder is that of a split with public masks, `valid_u` (or holds it): meta_expressions.json,
mask_dict.json {anno_id: a mask or null, one a frame} and JPEGImages/<video>/<frame>.jpg.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.suites.dataset import checked_mask
from molmo2_ground.eval.suites.records import BadRowError, Record, as_record, read_json
from molmo2_ground.eval.suites.referring import (
    Masks,
    ReferringSuite,
    Sentence,
    expressions_of,
    frame_names,
    in_folder,
    videos_of,
)


class Mevis(ReferringSuite):
    """MeViS, the split whose masks are public."""

    name = "mevis"

    def _frames_folder(self) -> Path:
        return in_folder(self.folder, "JPEGImages", "valid_u/JPEGImages")

    def _sentences(self) -> Iterator[tuple[str, Callable[[], Sentence]]]:
        sentences = in_folder(self.folder, "meta_expressions.json", "valid_u/meta_expressions.json")
        masks = read_json(sentences.with_name("mask_dict.json"))
        if not isinstance(masks, Mapping):
            raise SourceError("mask_dict.json holds no masks by annotation id")
        for video, content in videos_of(sentences).items():
            for number, fields in expressions_of(content):
                yield f"{video}/{number}", _reader(video, number, content, fields, masks)


def _reader(
    video: str, number: str, content: Any, fields: Any, masks: Mapping[str, Any]
) -> Callable[[], Sentence]:
    def read() -> Sentence:
        row = as_record(fields, "the sentence")
        object_ids, annotations = row.wholes("obj_id"), row.items("anno_id")
        if len(object_ids) != len(annotations):
            raise BadRowError(f"there are {len(object_ids)} obj_id and {len(annotations)} anno_id")
        if len(set(object_ids)) != len(object_ids):
            raise BadRowError(f"an object id comes twice in {object_ids}")
        stored = {i: str(annotation) for i, annotation in zip(object_ids, annotations, strict=True)}
        missing = [annotation for annotation in stored.values() if annotation not in masks]
        if missing:
            raise BadRowError(f"mask_dict.json has no masks of the annotation {missing[0]}")
        return Sentence(
            key=f"{video}/{number}",
            video=video,
            frames=frame_names(as_record(content, "the video")),
            phrase=row.text("exp"),
            masks=lambda size_px: {i: _masks(masks[a], size_px, a) for i, a in stored.items()},
        )

    return read


def _masks(stored: Any, size_px: tuple[int, int], annotation: str) -> Masks:
    return {
        index: checked_mask(mask, size_px=size_px, what=f"annotation {annotation}, frame {index}")
        for index, mask in enumerate(Record({"masks": stored}).items("masks"))
        if mask is not None
    }

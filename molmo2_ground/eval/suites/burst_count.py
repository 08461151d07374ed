"""Counting on BURST: how many tracks of a category a video has.

The folder holds a split's annotation file, all_classes.json (or `<split>/all_classes.json`, `val` first), and
the frames as frames/<split>/<dataset>/<seq_name>/<image> or frames/<dataset>/<seq_name>/<image>. The
annotated images become a video, each at its place among all images at the sequence's rate. Categories that
were not annotated exhaustively in a video are left out of its questions; so are those that are not there.
The exact questions behind the published number were not released: the files give other ones than its 2.2k.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.example import Example, Settings, Truth, TruthFrame, TruthObject
from molmo2_ground.eval.suites.dataset import PAPER_FRAMES, CountingSuite, Row, checked_mask, tagged
from molmo2_ground.eval.suites.media import Films
from molmo2_ground.eval.suites.records import BadRowError, Record, as_record, read_json
from molmo2_ground.eval.suites.referring import in_folder
from molmo2_ground.query import Query

_PARTLY = "not_exhaustive_category_ids"
# `car_(automobile)` says in parentheses which meaning of a word is meant; nobody asks so.
_MEANING = re.compile(r"_?\([^)]*\)")

_Tracks = dict[int, list[TruthFrame]]


class BurstCount(CountingSuite):
    """Counting on BURST."""

    name = "burst-count"
    settings = Settings(
        max_frames=PAPER_FRAMES, max_new_tokens=2048, note="greedy, 2 frames a second, at most 384"
    )

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self._films = Films()

    def prepare(self, example: Example, folder: Path) -> Path:
        """The video, written into `folder` from its annotated frames."""
        self.examples()  # reading the rows is what collects the frames
        return self._films.prepare(Path(example.media), folder, name=self.name)

    def _rows(self) -> Iterator[Row]:
        path = in_folder(self.folder, "all_classes.json", "val/all_classes.json", "test/all_classes.json")
        content = read_json(path)
        if not isinstance(content, Mapping) or not isinstance(content.get("sequences"), list):
            raise SourceError(f"{path.name} has no list of sequences")
        split = str(content.get("split", ""))
        names = _category_names(content)
        for number, sequence in enumerate(content["sequences"]):
            try:
                row = as_record(sequence, "the sequence")
                where = f"{row.text('dataset')}/{row.name('seq_name')}"
                tracks = row.record("track_category_ids")
                found = {tracks.whole(track) for track in tracks.fields}
                partly = set(row.wholes(_PARTLY)) if row.has(_PARTLY) else set()
            except BadRowError as error:
                yield f"sequence {number}", _raiser(error)
                continue
            for category in sorted(found - partly):
                yield (
                    f"{where}, category {category}",
                    self._reader(row, split, category, names.get(category, "")),
                )

    def _reader(self, row: Record, split: str, category: int, name: str) -> Callable[[], Example]:
        return lambda: self._example(row, split, category, name)

    def _example(self, row: Record, split: str, category: int, name: str) -> Example:
        if not name:
            raise BadRowError(f"the category {category} is not in the list of categories")
        dataset, sequence, fps = row.text("dataset"), row.name("seq_name"), row.positive("fps")
        size_px = row.size_px()
        images, annotated = row.texts("all_image_paths"), row.texts("annotated_image_paths")
        indices = _places(annotated, images)
        media = self._frames(split, dataset, sequence)
        times_s = [(index - indices[0]) / fps for index in indices]
        # The last frame of a video is taken to last as long as the one before.
        last_s = times_s[-1] - times_s[-2] if len(times_s) > 1 else 1 / fps
        found = self._films.add(media, annotated, fps=1 / last_s, times_s=times_s)
        if found != size_px:
            raise BadRowError(
                f"the frames have {found[0]} x {found[1]} pixels; the row says {size_px[0]} x {size_px[1]}"
            )
        wanted = {int(i) for i, c in row.record("track_category_ids").fields.items() if c == category}
        tracks = _tracks(row, wanted, size_px=size_px, times_s=times_s)
        truth = Truth(
            size_px=size_px,
            duration_s=times_s[-1] + last_s,
            fps=1 / last_s,
            count=len(wanted),
            objects=tuple(
                TruthObject(object_id=i, frames=tuple(frames)) for i, frames in sorted(tracks.items())
            ),
            frame_times_s=tuple(times_s),
        )
        key = f"{dataset}/{sequence}:{category}"
        return tagged(Example(key=key, media=media, query=Query.count(name), truth=truth), category=name)

    def _frames(self, split: str, dataset: str, sequence: str) -> Path:
        places = [
            self.folder / "frames" / part / dataset / sequence
            if part
            else self.folder / "frames" / dataset / sequence
            for part in (split, "")
        ]
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            raise BadRowError(f"there is no folder of frames {places[0]}")
        return found


def _category_names(content: Mapping[str, Any]) -> dict[int, str]:
    try:
        rows = Record(content).records("categories")
        return {row.whole("id"): _spoken(row.text("name")) for row in rows}
    except BadRowError as error:
        raise SourceError(f"the list of categories cannot be used: {error}") from error


def _raiser(error: BadRowError) -> Callable[[], Example]:
    def read() -> Example:
        raise error

    return read


def _spoken(name: str) -> str:
    return _MEANING.sub("", name).replace("_", " ").strip()


def _places(annotated: list[str], images: list[str]) -> list[int]:
    """The place of each annotated image among all."""
    at = {image: index for index, image in enumerate(images)}
    if not annotated:
        raise BadRowError("no image is annotated")
    unknown = [image for image in annotated if image not in at]
    if unknown:
        raise BadRowError(f"the annotated image {unknown[0]} is not among all_image_paths")
    places = [at[image] for image in annotated]
    if places != sorted(set(places)):
        raise BadRowError("the annotated images do not come in the order of all_image_paths")
    return places


def _tracks(row: Record, wanted: set[int], *, size_px: tuple[int, int], times_s: list[float]) -> _Tracks:
    frames = row.records("segmentations")
    if len(frames) != len(times_s):
        raise BadRowError(f"{len(times_s)} images are annotated; segmentations has {len(frames)} entries")
    found: _Tracks = {i: [] for i in wanted}
    for index, frame in enumerate(frames):
        for name, segment in frame.fields.items():
            if int(name) not in wanted:
                continue
            counts = as_record(segment, f"track {name}").text("rle")
            mask = checked_mask(
                {"size": [size_px[1], size_px[0]], "counts": counts},
                size_px=size_px,
                what=f"track {name}, annotated frame {index}",
            )
            found[int(name)].append(TruthFrame(time_s=times_s[index], source_index=index, mask=mask))
    return found

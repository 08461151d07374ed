"""What the sets of sentences about objects in short videos share.

MeViS, Ref-YouTube-VOS, Ref-DAVIS and ReasonVOS give a video as a folder of frames and name its objects'
masks. The frames become a video at `FRAMES_PER_SECOND`, the rate at which the released evaluation shows them
whatever the camera's was.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.example import Example, Settings
from molmo2_ground.eval.suites.dataset import (
    PAPER_FRAMES,
    PAPER_SHOW_FPS,
    Row,
    TrackingSuite,
    encoded_mask,
    tagged,
    tracked_truth,
)
from molmo2_ground.eval.suites.media import Films
from molmo2_ground.eval.suites.records import BadRowError, Record, read_json
from molmo2_ground.query import Query
from molmo2_ground.rle import Rle

FRAMES_PER_SECOND = 6.0
TRACK_FPS = 1.0
# One frame a second is judged.
STEP = round(FRAMES_PER_SECOND / TRACK_FPS)

Masks = dict[int, Rle]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One sentence about a video.

    frames  names of the video's frames, in order.
    masks   called with the picture's size (width, height): by object id, the visible ones by frame number.
    """

    key: str
    video: str
    frames: Sequence[str]
    phrase: str
    masks: Callable[[tuple[int, int]], Mapping[int, Masks]]
    category: str = ""


class ReferringSuite(TrackingSuite):
    """A set of sentences; a subclass says where they stand and how masks are stored."""

    settings = Settings(
        max_frames=PAPER_FRAMES,
        max_new_tokens=4096,
        note="greedy, all frames shown as a video at 6 frames a second while they fit in, asked and judged "
        "at 1 frame a second",
    )

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self._films = Films()

    @abstractmethod
    def _sentences(self) -> Iterator[tuple[str, Callable[[], Sentence]]]:
        """Each sentence's place, for messages, and a function that reads it or raises `BadRowError`."""

    @abstractmethod
    def _frames_folder(self) -> Path:
        """Where each video has a folder of frames."""

    def prepare(self, example: Example, folder: Path) -> Path:
        """The video, written into `folder` from its frames."""
        self.examples()  # reading the rows is what collects the frames
        return self._films.prepare(Path(example.media), folder, name=self.name)

    def _rows(self) -> Iterator[Row]:
        for place, read in self._sentences():
            yield place, self._reader(read)

    def _reader(self, read: Callable[[], Sentence]) -> Callable[[], Example]:
        return lambda: self._example(read())

    def _example(self, sentence: Sentence) -> Example:
        media = self._frames_folder() / sentence.video
        size_px = self._films.add(media, sentence.frames, fps=FRAMES_PER_SECOND)
        objects = sentence.masks(size_px)
        count = len(sentence.frames)
        beyond = [index for masks in objects.values() for index in masks if index >= count]
        if beyond:
            raise BadRowError(f"a mask is given for frame {beyond[0]}; there are {count} frames")
        truth = tracked_truth(
            {
                object_id: {
                    index: (None, mask) for index, mask in masks.items() if index % STEP == 0 and mask.area_px
                }
                for object_id, masks in objects.items()
            },
            size_px=size_px,
            fps=FRAMES_PER_SECOND,
            frame_count=count,
            judged=range(0, count, STEP),
        )
        query = Query.track(sentence.phrase, fps=TRACK_FPS, show_fps=PAPER_SHOW_FPS)
        example = Example(key=sentence.key, media=media, query=query, truth=truth)
        return tagged(example, **({"category": sentence.category} if sentence.category else {}))


def in_folder(folder: Path, *candidates: str) -> Path:
    """The first of these paths below a folder that there is; raises `SourceError` naming them all."""
    for candidate in candidates:
        if (folder / candidate).exists():
            return folder / candidate
    raise SourceError(f"{folder} holds none of: {', '.join(candidates)}")


def videos_of(path: Path) -> Mapping[str, Any]:
    """The `videos` of a file of sentences, by name; raises `SourceError` when it has none."""
    content = read_json(path)
    videos = content.get("videos") if isinstance(content, Mapping) else None
    if not isinstance(videos, Mapping):
        raise SourceError(f"{path.name} has no field videos with the sentences of each video")
    return videos


def expressions_of(video: Any) -> list[tuple[str, Any]]:
    """The sentences about a video, each with its number; one that cannot be read where there is no list."""
    expressions = video.get("expressions") if isinstance(video, Mapping) else None
    if isinstance(expressions, Mapping):
        return [(str(number), fields) for number, fields in expressions.items()]
    if isinstance(expressions, list):
        return [(str(number), fields) for number, fields in enumerate(expressions)]
    return [("?", expressions)]


def frame_names(video: Record) -> list[str]:
    """The names of a video's frames; raises `BadRowError` when there is none."""
    names = video.texts("frames")
    if not names:
        raise BadRowError("the video has no frames")
    return names


def number_png(path: Path) -> npt.NDArray[np.uint8]:
    """uint8[height, width]: the number of each pixel's object in a PNG with a palette, or its grey value."""
    try:
        with Image.open(path) as image:
            return np.array(image if image.mode in ("P", "L", "1") else image.convert("L"), dtype=np.uint8)
    except FileNotFoundError:
        raise BadRowError(f"{path.parent.name}/{path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise BadRowError(f"the mask {path.name} cannot be opened: {error}") from error


def png_masks(
    folder: Path,
    names: Sequence[str],
    size_px: tuple[int, int],
    *,
    value: int | None,
    decoded: set[Path],
    sparse: bool = False,
) -> Masks:
    """One object's masks of the judged frames, from `<folder>/<name>.png`. All frames' PNGs are decoded.

    value    its number in the PNGs, None for every number but 0.
    decoded  those that were found to be in order, for another sentence about the same video.
    sparse   not every frame was annotated: a frame without a PNG is one in which nothing is seen.
    """
    found: Masks = {}
    for index, name in enumerate(names):
        path = folder / f"{Path(name).stem}.png"
        judged = index % STEP == 0
        if (sparse and not path.exists()) or (path in decoded and not judged):
            continue
        numbers = number_png(path)
        mask = numbers != 0 if value is None else numbers == value
        encoded = encoded_mask(mask, size_px=size_px, what=f"{folder.name}/{path.name}")
        decoded.add(path)
        if judged:
            found[index] = encoded
    if not any((folder / f"{Path(name).stem}.png").exists() for name in names):
        raise BadRowError(f"there is no mask in {folder}")
    return found

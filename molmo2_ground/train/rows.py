"""`Row`: one picture, list of pictures, video or nothing to look at, and all that is asked about it.

What lies on disk is one JSON object a row; see docs/training-data.md. Places are pixels of the picture as a
player shows it, (0, 0) the outer corner of the top left one; seconds count from the first frame of the file.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from molmo2_ground.masks import Rle

MediumKind = Literal["none", "image", "images", "video"]
TaskName = Literal[
    "point",  # places only
    "point_then_count",  # places, then how many
    "count_then_point",  # how many, then places
    "count",  # how many, no places
    "track",  # places over time
    "first_last",  # where each thing is first and last seen
    "track_from_point",  # the rest of one thing's way from a given place
    "track_from_box",  # the same from a given box or mask, of which a point inside is shown
    "caption",
    "qa",
    "text",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


class Place(_Frozen):
    """Where one thing is in one frame or picture.

    occluded  known to be there and not to be seen: never part of an answer.
    box_px    (left, top, right, bottom), pixels. mask: its visible pixels. A point is found inside them when
              x_px and y_px are not given.
    """

    object_id: int = Field(ge=1)
    x_px: float | None = None
    y_px: float | None = None
    box_px: tuple[float, float, float, float] | None = None
    mask: Rle | None = None
    occluded: bool = False


class Moment(_Frozen):
    """Everything of one annotation in one frame of a video (`time_s`) or one picture of a list (`image`)."""

    time_s: float | None = None
    image: int = Field(default=0, ge=0)
    places: tuple[Place, ...] = ()


class Turn(_Frozen):
    """A question and its answer, in words."""

    question: str
    answer: str


class Annotation(_Frozen):
    """One thing that is asked: a label with its places, or words with their answer.

    task      one or several ways to ask it; each use draws one.
    label     what the places are of; for tasks of places.
    question  the data set's own words for it, instead of ours.
    moments   every annotated frame or picture, those with nothing in them included.
    rate_fps  how many annotated moments a second of video there are on a regular grid; None when irregular.
    turns     the conversation; for tasks of words.
    style     the name of the training style, where the model is told it in front of the question.
    weight    factor on what this annotation counts in the loss.
    """

    task: tuple[TaskName, ...] = Field(min_length=1)
    label: str = ""
    question: str | None = None
    moments: tuple[Moment, ...] = ()
    rate_fps: float | None = Field(default=None, gt=0)
    turns: tuple[Turn, ...] = ()
    style: str | None = None
    weight: float = Field(default=1.0, gt=0)


class Subtitle(_Frozen):
    """A line that is spoken from `start_s` to `end_s`, seconds of the file."""

    start_s: float
    end_s: float
    text: str


class Row(_Frozen):
    """One example: what is looked at, and all that is asked about it.

    media      files, relative to the data set's folder: none, one, or several pictures.
    size_px    (width, height) of each medium; a check against the file, and the scale of the places.
    clip_s     the part of the video that is shown, (start, end) in seconds of the file; None for all of it.
    """

    row_id: str = Field(min_length=1)
    kind: MediumKind
    media: tuple[str, ...] = ()
    size_px: tuple[tuple[int, int], ...] = ()
    clip_s: tuple[float, float] | None = None
    subtitles: tuple[Subtitle, ...] = ()
    annotations: tuple[Annotation, ...] = Field(min_length=1)

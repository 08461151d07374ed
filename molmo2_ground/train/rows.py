"""`Row`: one picture, list of pictures, video or nothing to look at, and all that is asked about it.

What lies on disk is one JSON object a row; see docs/training-data.md. Places are pixels of the picture as a
player shows it, (0, 0) the outer corner of the top left one; seconds count from the first frame of the file.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.rle import Rle

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


# Tasks whose answer says where things are at one time after another.
TRACK_TASKS: frozenset[TaskName] = frozenset({"track", "first_last", "track_from_point", "track_from_box"})
# Tasks whose answer is words that the row brings along; all others are about places.
WORD_TASKS: frozenset[TaskName] = frozenset({"caption", "qa", "text"})
_MOST_REASONS = 3


def _mask(value: Any) -> Rle:
    if isinstance(value, Rle):
        return value
    try:
        return Rle.from_coco(value)
    except (TypeError, OverflowError) as error:  # a size may be anything
        raise ValueError(f"a mask's size is [height, width], two whole numbers: {error}") from error


Mask = Annotated[Rle, PlainValidator(_mask), PlainSerializer(Rle.to_coco, return_type=dict[str, Any])]
"""A mask as COCO writes it: {"size": [height, width], "counts": string or list}."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    mask: Mask | None = None
    occluded: bool = False


class Moment(_Frozen):
    """Everything of one annotation in one frame of a video (`time_s`) or one picture of a list (`image`)."""

    time_s: float | None = None
    image: int = Field(default=0, ge=0)
    places: tuple[Place, ...] = ()


class Turn(_Frozen):
    """A question and its answer, in words; a caption whose first question is blank is asked for in ours."""

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
               The model sees it as a video of its own: its times count from the start of the part.
    """

    row_id: str = Field(min_length=1)
    kind: MediumKind
    media: tuple[str, ...] = ()
    size_px: tuple[tuple[int, int], ...] = ()
    clip_s: tuple[float, float] | None = None
    subtitles: tuple[Subtitle, ...] = ()
    annotations: tuple[Annotation, ...] = Field(min_length=1)


def row_of(text: str | bytes) -> Row:
    """The row that one JSON object holds; raises `BadRowError` that names the fields at fault.

    Nothing is bent into shape: a number written as a text is not a number.
    """
    try:
        return Row.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise BadRowError("; ".join(_reasons(error))) from error


def id_in(text: str | bytes) -> str:
    """The id of a row that may be no good one otherwise, "" when it has none."""
    try:
        fields = json.loads(text)
    except ValueError:
        return ""
    row_id = fields.get("row_id") if isinstance(fields, dict) else None
    return row_id if isinstance(row_id, str) else ""


def text_of(row: Row) -> str:
    """The row as one line of JSON, without the fields that say nothing new; `row_of` reads it back."""
    return row.model_dump_json(exclude_defaults=True)


def _reasons(error: ValidationError) -> list[str]:
    """What is wrong with which field, in words; the first few, and how many more."""
    lines = []
    all_found = error.errors(include_url=False)
    for found in all_found:
        depth = len(found["loc"])
        if found["type"] == "too_short" and any(
            len(other["loc"]) > depth and other["loc"][:depth] == found["loc"] for other in all_found
        ):
            continue  # the list is short only because what stands in it is wrong
        message = found["msg"].removeprefix("Value error, ")
        if found["type"] == "json_invalid":
            lines.append(f"this is no JSON ({found['ctx']['error']})")
            continue
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"])
        where = f"the field {where.lstrip('.')}" if where else "the row"
        if found["type"] == "extra_forbidden":
            lines.append(f"{where} is unknown")
        elif found["type"] == "missing":
            lines.append(f"{where} is missing")
        else:
            lines.append(f"{where} is {_shortly(found['input'])}: {message[:1].lower()}{message[1:]}")
    left = len(lines) - _MOST_REASONS
    return lines[:_MOST_REASONS] + ([f"and {left} more fields like these"] if left > 0 else [])


def _shortly(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

"""Typed events: what happened to an object, when, where, and how surely.

An object is seen at some moments and not between them, so an event has three times: it happened after
`after_s` and no later than `before_s`, and `time_s` is the estimate, with `timing` saying how it was made.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from molmo2_ground.analytics.line import Direction
from molmo2_ground.analytics.rules import By
from molmo2_ground.results import State

# line    on the straight line between two samples (of places, or of the mask's share in the zone)
# middle  half way between two samples, where no line can tell
# sample  the time of the sample that shows it; when it really began or ended was not seen
Timing = Literal["line", "middle", "sample"]


class _Event(BaseModel):
    """What every event says.

    time_s        the estimate, seconds.
    after_s       the last moment that shows that it had not happened; None when there is none.
    before_s      the first moment that shows that it had; None when there is none.
    source_index  the frame that shows it: the first after the change, or the last in which it was seen.
    x_px, y_px    where the object was at `time_s`, pixels.
    states        of the samples that this rests on: before and after, or the one there is.
    hidden        whether the object was hidden or missed between those samples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    time_s: float
    after_s: float | None
    before_s: float | None
    timing: Timing
    source_index: int
    object_id: int
    label: str
    x_px: float
    y_px: float
    states: tuple[State, ...]
    hidden: bool = False


class Appeared(_Event):
    """An object came into sight; `after_s` is None when it was there at the model's first look."""

    kind: Literal["appeared"] = "appeared"


class Disappeared(_Event):
    """An object was not seen again, or not within the grace time."""

    kind: Literal["disappeared"] = "disappeared"


class ZoneEntered(_Event):
    """An object came into a zone: it `moved` there, or `appeared` in it."""

    kind: Literal["zone_entered"] = "zone_entered"
    zone: str
    reason: Literal["moved", "appeared"]
    judged_by: By


class ZoneLeft(_Event):
    """An object went out of a zone: it `moved` out, or `disappeared` in it."""

    kind: Literal["zone_left"] = "zone_left"
    zone: str
    reason: Literal["moved", "disappeared"]
    judged_by: By


class CountChanged(_Event):
    """The number of objects in a zone changed, because this object came or went."""

    kind: Literal["count_changed"] = "count_changed"
    zone: str
    count_before: int
    count_after: int


class LineCrossed(_Event):
    """An object went over a line."""

    kind: Literal["line_crossed"] = "line_crossed"
    line: str
    direction: Direction


Event = Annotated[
    Appeared | Disappeared | ZoneEntered | ZoneLeft | CountChanged | LineCrossed, Field(discriminator="kind")
]

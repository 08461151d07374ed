"""Messages about places: tracks, points, counts, masks and events."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from molmo2_ground.messages.detection import Detection, Position2D
from molmo2_ground.messages.header import Header
from molmo2_ground.messages.part import Part
from molmo2_ground.results import State


class TracksMessage(Part):
    """Everything that one question follows, in one picture; topic `tracks`."""

    SCHEMA: ClassVar[str] = "molmo2-ground/live-tracks/1"

    header: Header
    detections: tuple[Detection, ...]


class PointsMessage(Part):
    """What the model pointed to in one picture, ids good for this message alone; topic `points`."""

    SCHEMA: ClassVar[str] = "molmo2-ground/live-points/1"

    header: Header
    detections: tuple[Detection, ...]


class CountMessage(Part):
    """How many there were in one picture, with the places that were counted; topic `count`.

    stated  the number in the model's text; None when it wrote none.
    """

    SCHEMA: ClassVar[str] = "molmo2-ground/live-count/1"

    header: Header
    value: int
    stated: int | None
    points: tuple[Position2D, ...]


class MaskPart(Part):
    """The pixels of one thing: a COCO run-length mask, compressed, of the header's `size_px`."""

    id: str
    counts: str
    state: State
    flags: tuple[str, ...] = ()


class MasksMessage(Part):
    """Which pixels belong to what, in one picture; topic `masks`."""

    SCHEMA: ClassVar[str] = "molmo2-ground/live-masks/1"

    header: Header
    masks: tuple[MaskPart, ...]


class EventMessage(Part):
    """Something that a watch was waiting for; topic `events`.

    name    of the watch. event: the event of `molmo2_ground.analytics` that set it off, as JSON.
    at_ns   stamp of the picture with which it became certain, by the header's clock. When it happened, the
            event says itself, in seconds of the stream.
    receipt_of  stamp of the newest picture of the look that it rests on; None when on followed places alone.
    clip    name of the file with what came before and after; None when none was kept.
    """

    SCHEMA: ClassVar[str] = "molmo2-ground/live-event/1"

    header: Header
    name: str
    kind: Literal["event"] = "event"
    at_ns: int
    event: dict[str, Any]
    receipt_of: int | None = None
    clip: str | None = None

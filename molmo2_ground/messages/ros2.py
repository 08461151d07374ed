"""Our messages in the shapes of ROS 2, as plain values: what a bridge or a bag copies field by field.

The classes are named as in `std_msgs`, `geometry_msgs`, `vision_msgs` and `sensor_msgs`, and so are their
fields. ROS itself is not needed. Stamps are those of the picture, never of publishing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from molmo2_ground.messages import detection as ours
from molmo2_ground.messages.header import Header as OurHeader
from molmo2_ground.messages.places import PointsMessage, TracksMessage

_NS_PER_S = 1_000_000_000
_LAST_SEC = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """`builtin_interfaces/Time`: nanosec is 0 to 999 999 999, also before 1970."""

    sec: int
    nanosec: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """`std_msgs/Header`."""

    stamp: Time
    frame_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """`geometry_msgs/Point`."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PointStamped:
    """`geometry_msgs/PointStamped`, here in PIXELS of the picture: x, y from its top left corner, z = 0.

    It is no place in space: project it with the camera's calibration and a depth before anything moves.
    """

    header: Header
    point: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Point2D:
    """`vision_msgs/Point2D`, pixels."""

    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose2D:
    """`vision_msgs/Pose2D`; not that of `geometry_msgs`, which has no position of its own."""

    position: Point2D
    theta: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundingBox2D:
    """`vision_msgs/BoundingBox2D`, pixels; of size 0 for a bare point."""

    center: Pose2D
    size_x: float
    size_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHypothesis:
    """`vision_msgs/ObjectHypothesis`; the score is NaN, because the model gives none."""

    class_id: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHypothesisWithPose:
    """`vision_msgs/ObjectHypothesisWithPose`; its pose in space is not known and stays ROS's default."""

    hypothesis: ObjectHypothesis


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection2D:
    """`vision_msgs/Detection2D`; id is the same for the same thing across messages."""

    header: Header
    results: tuple[ObjectHypothesisWithPose, ...]
    bbox: BoundingBox2D
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection2DArray:
    """`vision_msgs/Detection2DArray`."""

    header: Header
    detections: tuple[Detection2D, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedImage:
    """`sensor_msgs/CompressedImage`; format is `jpeg` or `png`."""

    header: Header
    format: str
    data: bytes = field(repr=False)


def time_of(stamp_ns: int) -> Time:
    """Nanoseconds as ROS writes them. Raises `ValueError` for what ROS's 32-bit seconds cannot hold."""
    sec, nanosec = divmod(stamp_ns, _NS_PER_S)
    if not -_LAST_SEC - 1 <= sec <= _LAST_SEC:
        raise ValueError(f"ROS 2 holds times up to {_LAST_SEC} s; got a stamp of {sec} s")
    return Time(sec=sec, nanosec=nanosec)


def header_of(header: OurHeader) -> Header:
    """The picture's stamp and frame."""
    return Header(stamp=time_of(header.stamp_ns), frame_id=header.frame_id)


def detections_of(message: TracksMessage | PointsMessage) -> Detection2DArray:
    """Everything in one picture; each detection repeats the message's header, as ROS asks."""
    header = header_of(message.header)
    return Detection2DArray(
        header=header, detections=tuple(_detection(header, one) for one in message.detections)
    )


def point_of(message: TracksMessage | PointsMessage, *, object_id: str) -> PointStamped | None:
    """Where one thing is, in pixels; None when the message does not hold it."""
    for one in message.detections:
        if one.id == object_id:
            return PointStamped(header=header_of(message.header), point=Point(x=one.point.x, y=one.point.y))
    return None


def image_of(header: OurHeader, *, jpeg: bytes) -> CompressedImage:
    """A picture that is a JPEG already."""
    return CompressedImage(header=header_of(header), format="jpeg", data=jpeg)


def _detection(header: Header, one: ours.Detection) -> Detection2D:
    place = one.bbox.center.position
    center = Pose2D(position=Point2D(x=place.x, y=place.y), theta=one.bbox.center.theta)
    return Detection2D(
        header=header,
        results=tuple(
            ObjectHypothesisWithPose(
                hypothesis=ObjectHypothesis(
                    class_id=result.class_id, score=math.nan if result.score is None else result.score
                )
            )
            for result in one.results
        ),
        bbox=BoundingBox2D(center=center, size_x=one.bbox.size_x, size_y=one.bbox.size_y),
        id=one.id,
    )

"""Places in the shapes of ROS 2's `vision_msgs`, so that a bridge only renames.

`Detection` is `vision_msgs/Detection2D` without a header of its own: the message's header is that of its
picture. A bare point is a box of size 0 at that point. `score` is None where ROS would say NaN: the model
gives none, and none is invented.
"""

from __future__ import annotations

from molmo2_ground.messages.part import Part
from molmo2_ground.results import State


class Position2D(Part):
    """`vision_msgs/Point2D`, pixels from the outer corner of the top left pixel; not metres."""

    x: float
    y: float


class Pose2D(Part):
    """`vision_msgs/Pose2D`; theta is always 0."""

    position: Position2D
    theta: float = 0.0


class BoundingBox2D(Part):
    """`vision_msgs/BoundingBox2D`, pixels; the box of the mask where there is one, else of size 0."""

    center: Pose2D
    size_x: float = 0.0
    size_y: float = 0.0


class Result(Part):
    """`vision_msgs/ObjectHypothesis`: what it is."""

    class_id: str
    score: float | None = None


class Detection(Part):
    """One thing in one picture.

    id           the same thing across messages, reconnects within the grace time included.
    results      one entry: the label.
    bbox         of the thing's mask; of size 0 at the point without one.
    point        the place the model or what carries it from there means, pixels.
    state        `observed`: the model pointed to it in this very picture; `propagated`: followed here from
                 one in which it did; `predicted`: moved straight on, nothing was seen of it.
    observed_ns  stamp of the newest picture in which the model itself saw it, by the header's clock.
    born_ns      stamp of the picture in which it was first seen.
    """

    id: str
    results: tuple[Result, ...]
    bbox: BoundingBox2D
    point: Position2D
    state: State
    observed_ns: int
    born_ns: int

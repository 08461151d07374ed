"""`CameraMessage`: a picture from a camera that speaks ZeroMQ.

On the wire it is two parts, the JSON of this header and the picture's bytes; or one part, the JSON on one
line, a line feed, and the bytes (a socket that keeps only the newest message loses parts: there it is one).
A topic may come before: as a part of its own, or as `topic ` before the JSON in a single part.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from molmo2_ground.messages.header import StampClock
from molmo2_ground.messages.part import Part

Encoding = Literal["jpeg", "png", "rgb8", "bgr8", "mono8"]
"""`rgb8`, `bgr8` and `mono8` are rows of bytes without gaps, as in ROS's sensor_msgs/Image."""


class CameraMessage(Part):
    """What a camera says of a picture.

    stamp_ns  when it was taken, nanoseconds by `clock`.  seq  rises by one with each picture.
    epoch     another value is another run of the camera. size_px: (width, height).
    """

    SCHEMA: ClassVar[str] = "molmo2-ground/camera/1"

    schema_: Literal["molmo2-ground/camera/1"] = Field(default="molmo2-ground/camera/1", alias="schema")
    camera: str = ""
    seq: Annotated[int, Field(ge=0)] = 0
    epoch: int = 0
    stamp_ns: Annotated[int, Field(ge=0, lt=2**63)]
    clock: StampClock = "unix"
    encoding: Encoding = "jpeg"
    size_px: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]

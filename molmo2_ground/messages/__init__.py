"""What goes between processes about a live camera: pydantic models, one JSON object a message.

Sources (a camera that speaks ZeroMQ), the live loop, publishers and recorders all speak these, and know
nothing of each other. JSON Schemas of all of them ship in `molmo2_ground/messages/schemas`.
"""

from __future__ import annotations

from molmo2_ground.messages.camera import CameraMessage
from molmo2_ground.messages.detection import BoundingBox2D, Detection, Pose2D, Position2D, Result
from molmo2_ground.messages.header import Header, MessageStatus, StampClock
from molmo2_ground.messages.health import FeedState, HealthMessage, StatusEvent
from molmo2_ground.messages.places import (
    CountMessage,
    EventMessage,
    MaskPart,
    MasksMessage,
    PointsMessage,
    TracksMessage,
)

__all__ = [
    "BoundingBox2D",
    "CameraMessage",
    "CountMessage",
    "Detection",
    "EventMessage",
    "FeedState",
    "Header",
    "HealthMessage",
    "MaskPart",
    "MasksMessage",
    "MessageStatus",
    "PointsMessage",
    "Pose2D",
    "Position2D",
    "Result",
    "StampClock",
    "StatusEvent",
    "TracksMessage",
]

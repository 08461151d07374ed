"""The ROS 2 message types that a bag of ours holds, and our values in them.

`std_msgs`, `geometry_msgs` and `sensor_msgs` come with rosbags, as ROS 2 Humble has them; `vision_msgs` (4.x)
does not, so its fields are written down here in ROS's own grammar.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from molmo2_ground._optional import require
from molmo2_ground.messages import ros2

DETECTIONS = "vision_msgs/msg/Detection2DArray"
IMAGE = "sensor_msgs/msg/CompressedImage"
STRING = "std_msgs/msg/String"

_VISION_MSGS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
    ),
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\n"
        "vision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\n"
        "string id"
    ),
    DETECTIONS: "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
}


class RosTypes:
    """Makes ROS messages of our values, and bytes (CDR) of those."""

    def __init__(self) -> None:
        typesys = require("rosbags.typesys", extra="record")
        self.store: Any = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        for name, text in _VISION_MSGS.items():
            self.store.register(typesys.get_types_from_msg(text, name))

    def string(self, text: str) -> bytes:
        """`std_msgs/String`."""
        return self._bytes(self.store.types[STRING](data=text), STRING)

    def image(self, image: ros2.CompressedImage) -> bytes:
        """`sensor_msgs/CompressedImage`."""
        import numpy as np

        message = self.store.types[IMAGE](
            header=self._of(image.header, "std_msgs/msg/Header"),
            format=image.format,
            data=np.frombuffer(image.data, dtype=np.uint8),
        )
        return self._bytes(message, IMAGE)

    def detections(self, found: ros2.Detection2DArray) -> bytes:
        """`vision_msgs/Detection2DArray`."""
        return self._bytes(self._of(found, DETECTIONS), DETECTIONS)

    def _bytes(self, message: Any, name: str) -> bytes:
        return bytes(self.store.serialize_cdr(message, name))

    def _of(self, value: Any, name: str) -> Any:
        """A ROS message of a value whose fields are named as the message's."""
        given: dict[str, Any] = {}
        kinds = dict(self.store.get_msgdef(name).fields)
        for field in fields(value):
            given[field.name] = self._field(getattr(value, field.name), kinds[field.name])
        if name == "vision_msgs/msg/ObjectHypothesisWithPose":
            given["pose"] = self._unknown_pose()
        return self.store.types[name](**given)

    def _field(self, value: Any, kind: Any) -> Any:
        # rosbags describes a field as (category, (its type's name or its items' description, …)).
        inner = kind[1]
        if isinstance(value, tuple):
            return [self._field(item, inner[0]) for item in value]
        return self._of(value, inner) if is_dataclass(value) else value

    def _unknown_pose(self) -> Any:
        """A pose with ROS's default values: nothing is known of it."""
        import numpy as np

        types = self.store.types
        return types["geometry_msgs/msg/PoseWithCovariance"](
            pose=types["geometry_msgs/msg/Pose"](
                position=types["geometry_msgs/msg/Point"](x=0.0, y=0.0, z=0.0),
                orientation=types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
            ),
            covariance=np.zeros(36, dtype=np.float64),
        )

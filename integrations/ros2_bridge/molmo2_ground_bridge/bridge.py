"""A ROS 2 node: what molmo2-ground publishes over ZeroMQ comes out as ROS topics.

It needs rclpy, vision_msgs and pyzmq, and neither molmo2-ground nor torch: a robot runs this file, another
machine the model. rclpy is imported where the node starts, so that the rest can be tested without ROS.

    ros2 run molmo2_ground_bridge bridge --ros-args -p address:=tcp://127.0.0.1:5556

Parameters:
    address        of the publisher.                                          tcp://127.0.0.1:5556
    stream         only of this stream; empty: of all.                         ""
    target         id of one thing whose place is also sent as a PointStamped; empty: none.  ""
    camera         address of a camera that speaks our camera messages; its JPEGs and PNGs are passed on
                   as CompressedImage; empty: none.                            ""
    camera_frame_id  its optical frame.                                        camera_optical_frame
    skip_stale     leave out what was too old to act on when it came here.      true
    depth          QoS: keep the last so many.                                 1
    reliable       QoS: reliable instead of best effort.                        true
    server_key, client_key  files of keys for CURVE: the server's `server.key`, one's own `NAME.key_secret`

Topics, for a stream `door` and a question `people`:
    /molmo2/door/detections/people  vision_msgs/Detection2DArray    tracks, ids good across messages
    /molmo2/door/points/people      vision_msgs/Detection2DArray    points, ids good for one message
    /molmo2/door/target/people      geometry_msgs/PointStamped      PIXELS of the picture, not metres
    /molmo2/door/count, masks, events, health   std_msgs/String     our JSON
    /molmo2/camera/image/compressed sensor_msgs/CompressedImage
Stamps are those of the picture, and the frame is the camera's optical frame.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

NS_PER_S = 1_000_000_000
DETECTIONS, POINT, IMAGE, STRING = "Detection2DArray", "PointStamped", "CompressedImage", "String"
MAX_BYTES = 64_000_000


@dataclass(frozen=True)
class Outgoing:
    """One ROS message: its topic, the name of its type, and its fields as plain values."""

    topic: str
    kind: str
    fields: dict[str, Any]


def outgoing(frame: bytes, *, now_ns: int, target: str = "", skip_stale: bool = True) -> list[Outgoing]:
    """What one ZeroMQ message becomes; nothing for one that is too old.

    Raises `ValueError` for bytes that are no message of ours.
    """
    topic, _, body = frame.partition(b" ")
    levels = topic.decode("utf-8", "replace").split("/")
    if len(levels) != 4 or levels[0] != "molmo2" or levels[3]:
        raise ValueError(f"expected a topic molmo2/<stream>/<kind>/; got {topic[:80]!r}")
    said = json.loads(body)
    if not isinstance(said, dict):
        raise ValueError("expected a JSON object after the topic")
    base, kind = f"/molmo2/{ros_name(levels[1])}", levels[2]
    if kind == "health":
        return [Outgoing(f"{base}/health", STRING, {"data": body.decode()})]
    try:
        header = said["header"]
        if skip_stale and now_ns > header["valid_until_ns"]:
            return []
        if kind not in ("tracks", "points"):
            return [Outgoing(f"{base}/{ros_name(kind)}", STRING, {"data": body.decode()})]
        question = ros_name(header.get("question", ""))
        name = "detections" if kind == "tracks" else "points"
        made = [Outgoing(f"{base}/{name}/{question}", DETECTIONS, detections(said))]
        if kind == "tracks" and target:
            made += [
                Outgoing(f"{base}/target/{question}", POINT, point(header, one))
                for one in said["detections"]
                if one["id"] == target
            ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"a message of kind {kind} without what belongs to it: {error}") from error
    return made


def header_fields(header: dict[str, Any]) -> dict[str, Any]:
    """`std_msgs/Header` of one of our headers: when the picture was taken, and in which frame."""
    sec, nanosec = divmod(int(header["stamp_ns"]), NS_PER_S)
    return {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": str(header["frame_id"])}


def detections(said: dict[str, Any]) -> dict[str, Any]:
    """`vision_msgs/Detection2DArray` of a message with detections; scores are NaN where there is none."""
    header = header_fields(said["header"])
    return {"header": header, "detections": [_detection(header, one) for one in said["detections"]]}


def point(header: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """`geometry_msgs/PointStamped`: where one thing is, in PIXELS, z = 0."""
    place = {"x": float(one["point"]["x"]), "y": float(one["point"]["y"]), "z": 0.0}
    return {"header": header_fields(header), "point": place}


def image(parts: list[bytes], *, frame_id: str) -> dict[str, Any]:
    """`sensor_msgs/CompressedImage` of a camera's message: its header as JSON, and a JPEG or PNG.

    Raises `ValueError` for another message and another encoding.
    """
    if len(parts) != 2:
        raise ValueError(f"expected a header and a picture; got {len(parts)} parts")
    header = json.loads(parts[0])
    encoding = header.get("encoding") if isinstance(header, dict) else None
    if encoding not in ("jpeg", "png") or not isinstance(header.get("stamp_ns"), int):
        raise ValueError(f"expected a stamp and a jpeg or png; got {encoding!r}")
    made = header_fields({"stamp_ns": header["stamp_ns"], "frame_id": frame_id})
    return {"header": made, "format": encoding, "data": parts[1]}


def ros_name(text: str) -> str:
    """The text as one part of a ROS name: letters, digits and `_`, no digit in front."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "unnamed"
    return f"_{plain}" if plain[0].isdigit() else plain


def fill(message: Any, values: dict[str, Any], items: dict[str, type]) -> Any:
    """Put plain values into a ROS message; `items` are the types of the lists of messages, by field."""
    for name, value in values.items():
        if isinstance(value, dict):
            fill(getattr(message, name), value, items)
        elif isinstance(value, list):
            setattr(message, name, [fill(items[name](), item, items) for item in value])
        else:
            setattr(message, name, value)
    return message


def _detection(header: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    box = one["bbox"]
    center = box["center"]
    place = {"x": float(center["position"]["x"]), "y": float(center["position"]["y"])}
    return {
        "header": header,
        "results": [{"hypothesis": _hypothesis(result)} for result in one["results"]],
        "bbox": {
            "center": {"position": place, "theta": float(center.get("theta", 0.0))},
            "size_x": float(box["size_x"]),
            "size_y": float(box["size_y"]),
        },
        "id": str(one["id"]),
    }


def _hypothesis(result: dict[str, Any]) -> dict[str, Any]:
    score = result.get("score")
    return {"class_id": str(result["class_id"]), "score": math.nan if score is None else float(score)}


@dataclass(frozen=True)
class Settings:
    """The node's parameters; the top of this file says what they mean."""

    address: str = "tcp://127.0.0.1:5556"
    stream: str = ""
    target: str = ""
    camera: str = ""
    camera_frame_id: str = "camera_optical_frame"
    skip_stale: bool = True
    depth: int = 1
    reliable: bool = True
    server_key: str = ""
    client_key: str = ""


def main() -> None:
    """Run the node until Ctrl-C."""
    import rclpy
    import zmq
    from rclpy.node import Node

    rclpy.init()
    node = Node("molmo2_ground_bridge")
    settings = Settings(
        **{one.name: node.declare_parameter(one.name, one.default).value for one in fields(Settings)}
    )
    publish, context = ros_publisher(node, settings), zmq.Context()
    try:
        listen(context, settings, publish=publish, log=node.get_logger(), go_on=lambda: _turn(rclpy, node))
    except KeyboardInterrupt:
        node.get_logger().info("stopped")
    finally:
        context.destroy(linger=0)
        node.destroy_node()
        rclpy.try_shutdown()


def _turn(rclpy: Any, node: Any) -> bool:
    """Let ROS do what it has to; whether to go on."""
    if rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.0)
    return bool(rclpy.ok())


def ros_publisher(node: Any, settings: Settings) -> Callable[[Outgoing], None]:
    """What sends a message on its topic, which is advertised with its first."""
    from geometry_msgs.msg import PointStamped
    from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CompressedImage
    from std_msgs.msg import String
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    kinds = {DETECTIONS: Detection2DArray, POINT: PointStamped, IMAGE: CompressedImage, STRING: String}
    items = {"detections": Detection2D, "results": ObjectHypothesisWithPose}
    reliability = ReliabilityPolicy.RELIABLE if settings.reliable else ReliabilityPolicy.BEST_EFFORT
    qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=settings.depth, reliability=reliability)
    publishers: dict[str, Any] = {}

    def publish(one: Outgoing) -> None:
        if one.topic not in publishers:
            publishers[one.topic] = node.create_publisher(kinds[one.kind], one.topic, qos)
        publishers[one.topic].publish(fill(kinds[one.kind](), one.fields, items))

    return publish


def listen(
    context: Any,
    settings: Settings,
    *,
    publish: Callable[[Outgoing], None],
    log: Any,
    go_on: Callable[[], bool],
) -> None:
    """Receive and publish for as long as `go_on` says so; what is no message of ours is told and left out."""
    import zmq

    topic = f"molmo2/{settings.stream}/" if settings.stream else "molmo2/"
    with _subscribed(context, topic, held=100) as said, _subscribed(context, "", held=2) as seen:
        _shut(said, settings)
        said.connect(settings.address)
        if settings.camera:
            seen.connect(settings.camera)
        poller = zmq.Poller()
        poller.register(said, zmq.POLLIN)
        poller.register(seen, zmq.POLLIN)
        while go_on():
            ready = dict(poller.poll(200))
            try:
                for one in outgoing_of(ready, said, seen, settings):
                    publish(one)
            except ValueError as error:
                log.warning(f"left out a message: {error}", throttle_duration_sec=5.0)


def outgoing_of(ready: dict[Any, int], said: Any, seen: Any, settings: Settings) -> list[Outgoing]:
    """One message of each socket that has one."""
    made: list[Outgoing] = []
    if seen in ready:
        picture = image(seen.recv_multipart(), frame_id=settings.camera_frame_id)
        made.append(Outgoing("/molmo2/camera/image/compressed", IMAGE, picture))
    if said in ready:
        now_ns = time.time_ns()
        made += outgoing(said.recv(), now_ns=now_ns, target=settings.target, skip_stale=settings.skip_stale)
    return made


def _shut(socket: Any, settings: Settings) -> None:
    """CURVE, where there are keys for it."""
    from zmq.auth import load_certificate

    if settings.server_key:
        socket.curve_serverkey = load_certificate(settings.server_key)[0]
        socket.curve_publickey, socket.curve_secretkey = load_certificate(settings.client_key)


def _subscribed(context: Any, topic: str, *, held: int) -> Any:
    """A socket that hears a topic, holds so many messages, and takes none that is out of all proportion."""
    import zmq

    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
    socket.setsockopt(zmq.RCVHWM, held)
    socket.subscribe(topic)
    return socket


if __name__ == "__main__":
    main()

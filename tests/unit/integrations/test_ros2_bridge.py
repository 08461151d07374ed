from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import zmq

from molmo2_ground.integrations.rosbag.recorder import ros_name
from molmo2_ground.integrations.zeromq.wire import to_wire
from molmo2_ground.live.saying import Numbering, messages_of
from molmo2_ground.messages import TracksMessage, ros2
from tests.live_updates import QUESTIONS, START_NS, health, toy_updates

ROOT = Path(__file__).parents[3] / "integrations"
FILE = ROOT / "ros2_bridge" / "molmo2_ground_bridge" / "bridge.py"


@pytest.fixture(scope="module")
def bridge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("molmo2_ground_bridge_under_test", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def sent() -> list[tuple[str, Any, bytes]]:
    numbering = Numbering()
    said = [
        one
        for update in [*toy_updates(8, masks=True)][:5]
        for one in messages_of(update, questions=QUESTIONS, numbering=numbering)
    ]
    return [(one.kind, one.message, to_wire("door", one.kind, one.message)) for one in said]


def plain(value: Any) -> Any:
    """A value of `messages.ros2` as the bridge writes it: dicts and lists; a NaN that equals itself."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [plain(inner) for inner in value]
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def test_it_needs_neither_ros_nor_this_package_to_be_loaded(bridge: ModuleType) -> None:
    head = FILE.read_text().split("def main")[0]
    assert "import rclpy" not in head
    assert "molmo2_ground." not in "".join(line for line in head.splitlines() if "import" in line)
    assert "rclpy" not in sys.modules


def test_tracks_become_the_detections_that_this_package_makes(bridge: ModuleType) -> None:
    tracks = [(message, frame) for kind, message, frame in sent() if kind == "tracks"]
    assert tracks
    for message, frame in tracks:
        (made,) = bridge.outgoing(frame, now_ns=START_NS)
        assert (made.topic, made.kind) == ("/molmo2/door/detections/people", "Detection2DArray")
        assert plain(made.fields) == plain(ros2.detections_of(message))


def test_one_thing_is_sent_as_a_point_in_pixels(bridge: ModuleType) -> None:
    message, frame = next((one, frame) for kind, one, frame in sent() if kind == "tracks")
    assert isinstance(message, TracksMessage)
    wanted = message.detections[0].id
    _, target = bridge.outgoing(frame, now_ns=START_NS, target=wanted)
    assert (target.topic, target.kind) == ("/molmo2/door/target/people", "PointStamped")
    assert target.fields == plain(ros2.point_of(message, object_id=wanted))
    assert len(bridge.outgoing(frame, now_ns=START_NS, target="999")) == 1


def test_what_is_too_old_is_left_out_unless_asked_for(bridge: ModuleType) -> None:
    _, message, frame = sent()[0]
    until_ns = message.header.valid_until_ns
    assert len(bridge.outgoing(frame, now_ns=until_ns)) == 1
    assert bridge.outgoing(frame, now_ns=until_ns + 1) == []
    assert len(bridge.outgoing(frame, now_ns=until_ns + 1, skip_stale=False)) == 1


def test_other_messages_are_passed_on_as_json(bridge: ModuleType) -> None:
    others = {kind: (message, frame) for kind, message, frame in sent() if kind not in ("tracks", "points")}
    others["health"] = (
        health(START_NS),
        b"molmo2/door/health/ " + health(START_NS).model_dump_json().encode(),
    )
    assert set(others) == {"count", "masks", "events", "health"}
    for kind, (message, frame) in others.items():
        (made,) = bridge.outgoing(frame, now_ns=START_NS)
        assert (made.topic, made.kind) == (f"/molmo2/door/{kind}", "String")
        assert type(message).model_validate_json(made.fields["data"]) == message


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"other/door/tracks/ {}", id="another-topic"),
        pytest.param(b"molmo2/door/tracks {}", id="no-last-slash"),
        pytest.param(b"molmo2/door/tracks/ []", id="no-object"),
        pytest.param(b"molmo2/door/tracks/ {", id="no-json"),
        pytest.param(b"molmo2/door/tracks/ {}", id="no-header"),
        pytest.param(b'molmo2/door/tracks/ {"header": 3}', id="a-header-that-is-none"),
        pytest.param(b"molmo2/door/health/ \xff\xfe", id="no-text"),
    ],
)
def test_what_is_no_message_is_refused_in_words(bridge: ModuleType, frame: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        bridge.outgoing(frame, now_ns=0)


def test_a_camera_message_becomes_a_compressed_image(bridge: ModuleType) -> None:
    header = {
        "schema": "molmo2-ground/camera/1",
        "stamp_ns": START_NS,
        "encoding": "jpeg",
        "size_px": [64, 48],
    }
    made = bridge.image([json.dumps(header).encode(), b"\xff\xd8"], frame_id="front")
    stamp = {"sec": 1_790_000_000, "nanosec": 123_456_789}
    assert made == {"header": {"stamp": stamp, "frame_id": "front"}, "format": "jpeg", "data": b"\xff\xd8"}
    for wrong in ([b"{}"], [b"[]", b""], [json.dumps(header | {"encoding": "rgb8"}).encode(), b""]):
        with pytest.raises(ValueError, match="expected"):
            bridge.image(wrong, frame_id="front")


def test_fields_are_put_into_messages_with_their_lists(bridge: ModuleType) -> None:
    class Hypothesis(SimpleNamespace):
        def __init__(self) -> None:
            super().__init__(hypothesis=SimpleNamespace(class_id="", score=0.0), pose="untouched")

    class Found(SimpleNamespace):
        def __init__(self) -> None:
            stamp = SimpleNamespace(sec=0, nanosec=0)
            place = SimpleNamespace(position=SimpleNamespace(x=0.0, y=0.0), theta=0.0)
            super().__init__(
                header=SimpleNamespace(stamp=stamp, frame_id=""),
                results=[],
                bbox=SimpleNamespace(center=place, size_x=0.0, size_y=0.0),
                id="",
            )

    message, frame = next((one, frame) for kind, one, frame in sent() if kind == "tracks")
    (made,) = bridge.outgoing(frame, now_ns=START_NS)
    empty = SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id=""), detections=[]
    )
    filled = bridge.fill(empty, made.fields, {"detections": Found, "results": Hypothesis})
    assert filled.header.stamp.nanosec == message.header.stamp_ns % 10**9
    assert [one.id for one in filled.detections] == [one.id for one in message.detections]
    assert all(one.results[0].pose == "untouched" for one in filled.detections)
    first = message.detections[0].bbox
    assert filled.detections[0].bbox.center.position.x == first.center.position.x


@pytest.mark.parametrize("text", ["door", "Tür 3", "3rd", "a%2Fb.c", "…"])
def test_names_are_spelt_as_in_our_bags(bridge: ModuleType, text: str) -> None:
    assert bridge.ros_name(text) == ros_name(text)


def test_the_layout_shows_topics_that_a_recording_has() -> None:
    layout = json.loads((ROOT / "foxglove-layout.json").read_text())
    panels = layout["configById"]

    def leaves(node: Any) -> list[str]:
        return [node] if isinstance(node, str) else leaves(node["first"]) + leaves(node["second"])

    assert set(leaves(layout["layout"])) == set(panels)
    shown = panels["Image!video"]["imageMode"]
    assert shown["imageTopic"] == "/molmo2/door/video"
    assert [*shown["annotations"]] == ["/molmo2/door/annotations"]


class FakeRos:
    """What the node uses of rclpy and the message packages; it ends when so many messages were published."""

    def __init__(self, parameters: dict[str, Any], *, messages: int) -> None:
        self.published: list[tuple[str, Any]] = []
        self.profiles: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self._parameters, self._messages = parameters, messages

    def modules(self) -> dict[str, ModuleType]:
        made: dict[str, dict[str, Any]] = {
            "rclpy": {
                "init": lambda: None,
                "ok": lambda: len(self.published) < self._messages,
                "spin_once": lambda node, timeout_sec: None,
                "try_shutdown": lambda: None,
            },
            "rclpy.node": {"Node": lambda name: self},
            "rclpy.qos": {
                "HistoryPolicy": SimpleNamespace(KEEP_LAST="keep last"),
                "ReliabilityPolicy": SimpleNamespace(RELIABLE="reliable", BEST_EFFORT="best effort"),
                "QoSProfile": self._profile,
            },
        }
        kinds = {
            "geometry_msgs.msg": ["PointStamped"],
            "sensor_msgs.msg": ["CompressedImage"],
            "std_msgs.msg": ["String"],
            "vision_msgs.msg": ["Detection2D", "Detection2DArray", "ObjectHypothesisWithPose"],
        }
        made |= {home: dict.fromkeys(names, Anything) for home, names in kinds.items()}
        found = {}
        for name, values in made.items():
            found[name] = ModuleType(name)
            vars(found[name]).update(values)
        return found | {home.split(".")[0]: ModuleType(home) for home in kinds}

    def _profile(self, **given: Any) -> dict[str, Any]:
        self.profiles.append(given)
        return given

    def declare_parameter(self, name: str, default: Any) -> SimpleNamespace:
        return SimpleNamespace(value=self._parameters.get(name, default))

    def create_publisher(self, kind: type, topic: str, qos: dict[str, Any]) -> SimpleNamespace:
        return SimpleNamespace(publish=lambda message: self.published.append((topic, message)))

    def get_logger(self) -> SimpleNamespace:
        return SimpleNamespace(warning=lambda text, **_: self.warnings.append(text), info=lambda text: None)

    def destroy_node(self) -> None:
        """Nothing is held."""


class Anything:
    """A message with whichever fields are asked of it."""

    def __getattr__(self, name: str) -> Anything:
        value = Anything()
        self.__dict__[name] = value
        return value


def test_the_node_passes_on_what_is_sent_and_tells_what_it_leaves_out(
    bridge: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        given = {"address": f"tcp://127.0.0.1:{port}", "stream": "door", "skip_stale": False, "depth": 3}
        ros = FakeRos(given, messages=3)
        for name, module in ros.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        node = threading.Thread(target=bridge.main)
        node.start()
        assert publisher.poll(10_000)
        assert publisher.recv() == b"\x01molmo2/door/"
        rows = [(kind, frame) for kind, _, frame in sent()]
        for frame in (
            b"molmo2/yard/count/ {}",
            b"molmo2/door/tracks/ nonsense",
            next(frame for kind, frame in rows if kind == "tracks"),
            next(frame for kind, frame in rows if kind == "count"),
            b"molmo2/door/health/ {}",
        ):
            publisher.send(frame)
        node.join(30)
        assert not node.is_alive()
    topics = [topic for topic, _ in ros.published]
    assert topics == ["/molmo2/door/detections/people", "/molmo2/door/count", "/molmo2/door/health"]
    assert ros.published[0][1].header.frame_id == "door_optical_frame"
    assert len(ros.warnings) == 1
    assert ros.profiles == [{"history": "keep last", "depth": 3, "reliability": "reliable"}]

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader

from molmo2_ground.errors import SourceError
from molmo2_ground.integrations.rosbag import BagRecorder, recover_bag
from molmo2_ground.integrations.rosbag.recorder import Storage, ros_name
from molmo2_ground.live.recording import Contents
from molmo2_ground.live.saying import Numbering, messages_of
from molmo2_ground.live.update import Update
from molmo2_ground.messages import TracksMessage
from tests.live_updates import QUESTIONS, START_NS, health, ticking, toy_updates
from tests.recordings import PASSWORD, RecordingProcess, close_to, contents

STORAGES = pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
DETECTIONS = "/molmo2/door/detections/people"

Read = dict[str, list[tuple[int, Any]]]


def record(path: Path, updates: list[Update], storage: Storage, **options: Any) -> None:
    options.setdefault("contents", contents())
    with BagRecorder(path, storage=storage, when_full="wait", **options) as recorder:
        for update in updates:
            recorder.write(update)
        recorder.write_health(health(START_NS))
    assert recorder.problem is None


def read(path: Path) -> Read:
    """By rosbags' reader, with the definitions that lie in the bag: topic -> (time, message), by time."""
    topics: Read = {}
    with AnyReader([path]) as reader:
        for connection, at_ns, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            topics.setdefault(connection.topic, []).append((at_ns, message))
    return topics


def read_by_mcap(file: Path) -> Read:
    """By MCAP's reader and its own decoder of ROS 2 messages."""
    topics: Read = {}
    with open(file, "rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        for _, channel, message, decoded in reader.iter_decoded_messages():
            topics.setdefault(channel.topic, []).append((message.log_time, decoded))
    return topics


def said_tracks(updates: list[Update]) -> list[TracksMessage]:
    numbering = Numbering()
    said = [
        one for update in updates for one in messages_of(update, questions=QUESTIONS, numbering=numbering)
    ]
    return [cast(TracksMessage, one.message) for one in said if one.kind == "tracks"]


def check_detections(found: list[tuple[int, Any]], updates: list[Update]) -> None:
    wanted = said_tracks(updates)
    assert len(found) == len(wanted) > 0
    for (at_ns, message), told in zip(found, wanted, strict=True):
        assert at_ns == told.header.recv_ns
        for header in (message.header, *(one.header for one in message.detections)):
            assert header.stamp.sec * 10**9 + header.stamp.nanosec == told.header.stamp_ns
            assert header.frame_id == "door_optical_frame"
        for one, meant in zip(message.detections, told.detections, strict=True):
            assert (one.id, one.results[0].hypothesis.class_id) == (meant.id, "person")
            assert math.isnan(one.results[0].hypothesis.score)
            center = one.bbox.center.position
            assert (center.x, center.y) == (meant.bbox.center.position.x, meant.bbox.center.position.y)
            assert (one.bbox.size_x, one.bbox.size_y) == (meant.bbox.size_x, meant.bbox.size_y)


@pytest.mark.slow
def test_health_spells_the_stream_as_its_headers_do(tmp_path: Path) -> None:
    with BagRecorder(tmp_path / "run", contents=contents()) as recorder:
        recorder.write_health(health(START_NS).model_copy(update={"source": "my cam/1"}))
    ((_, (row,)),) = read(tmp_path / "run").items()
    assert json.loads(row[1].data)["source"] == "my%20cam%2F1"


@pytest.mark.slow
@STORAGES
def test_detections_come_back_with_ids_boxes_and_every_nanosecond(tmp_path: Path, storage: Storage) -> None:
    updates = [*toy_updates(8, masks=True)]
    record(tmp_path / "run", updates, storage)
    check_detections(read(tmp_path / "run")[DETECTIONS], updates)


@pytest.mark.slow
def test_an_independent_decoder_reads_the_same(tmp_path: Path) -> None:
    updates = [*toy_updates(8, masks=True)]
    record(tmp_path / "run", updates, "mcap")
    topics = read_by_mcap(tmp_path / "run" / "run.mcap")
    check_detections(topics[DETECTIONS], updates)
    assert {topic: len(rows) for topic, rows in topics.items()} == {
        topic: len(rows) for topic, rows in read(tmp_path / "run").items()
    }


@pytest.mark.slow
@STORAGES
def test_pictures_and_our_own_messages_come_back(tmp_path: Path, storage: Storage) -> None:
    updates = [*toy_updates(8)]
    record(tmp_path / "run", updates, storage)
    topics = read(tmp_path / "run")
    pictures = topics["/molmo2/door/image/compressed"]
    assert [at_ns for at_ns, _ in pictures] == [update.capture.recv_ns for update in updates]
    for (_, message), update in zip(pictures, updates, strict=True):
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == update.stamp_ns
        assert message.format == "jpeg"
        shown = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR)
        assert shown is not None
        assert close_to(np.asarray(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), dtype=np.uint8), update)
    (at_ns, told), *_ = topics["/molmo2/door/health"]
    assert (at_ns, json.loads(told.data)) == (START_NS, health(START_NS).model_dump(mode="json"))
    counts = {topic.rsplit("/", 1)[-1]: len(rows) for topic, rows in topics.items()}
    assert counts == {"compressed": 8, "people": 8, "count": 2, "events": 1, "ledger": 1, "health": 1}
    assert json.loads(topics["/molmo2/door/count"][0][1].data)["value"] == 1


@STORAGES
def test_a_bag_is_named_when_it_is_whole_and_holds_no_password(tmp_path: Path, storage: Storage) -> None:
    with BagRecorder(tmp_path / "run", storage=storage, contents=contents()) as recorder:
        recorder.write(next(iter(toy_updates(1))))
        (unfinished,) = tmp_path.iterdir()
        assert unfinished.suffix == ".part"
    file = {"sqlite3": "run.db3", "mcap": "run.mcap"}[storage]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(["metadata.yaml", file])
    told = (tmp_path / "run" / "metadata.yaml").read_text()
    assert "rtsp://" in told
    assert PASSWORD not in told + (tmp_path / "run" / file).read_bytes().decode("latin1")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(FileExistsError, match="run exists"):
        BagRecorder(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="folder"):
        BagRecorder(tmp_path / "none" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("text", "name"),
    [("door", "door"), ("Tür 3", "T_r_3"), ("3rd", "_3rd"), ("a%2Fb.c", "a_2Fb_c"), ("…", "unnamed")],
)
def test_names_are_made_fit_for_ros(text: str, name: str) -> None:
    assert ros_name(text) == name


@pytest.mark.slow
@STORAGES
def test_a_bag_without_its_index_is_recovered(tmp_path: Path, storage: Storage) -> None:
    inside = Contents(questions=lambda: QUESTIONS, clocks=ticking(step_ns=3_000_000_000))
    record(tmp_path / "run", [*toy_updates(8, masks=True)], storage, contents=inside)
    whole = read(tmp_path / "run")
    (tmp_path / "run" / "metadata.yaml").unlink()
    assert recover_bag(tmp_path / "run", tmp_path / "again") == sum(map(len, whole.values()))
    again = read(tmp_path / "again")
    assert {topic: [at for at, _ in rows] for topic, rows in again.items()} == {
        topic: [at for at, _ in rows] for topic, rows in whole.items()
    }
    check_detections(again[DETECTIONS], [*toy_updates(8, masks=True)])


def test_a_folder_without_a_bag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found 0"):
        recover_bag(tmp_path, tmp_path / "again")
    with pytest.raises(SourceError, match="there is no folder"):
        recover_bag(tmp_path / "gone", tmp_path / "again")


@pytest.mark.slow
def test_ctrl_c_leaves_a_whole_bag(tmp_path: Path) -> None:
    written = RecordingProcess(tmp_path / "run").after(40, signal.SIGINT)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert len(read(tmp_path / "run")["/molmo2/door/image/compressed"]) in (written, written + 1)


@pytest.mark.slow
def test_kill_9_loses_no_more_than_the_last_two_seconds(tmp_path: Path) -> None:
    written = RecordingProcess(tmp_path / "run").after(60, signal.SIGKILL)
    (unfinished,) = tmp_path.iterdir()
    recover_bag(unfinished, tmp_path / "again")
    kept = len(read(tmp_path / "again")["/molmo2/door/image/compressed"])
    # Eight updates in two seconds of the child's clock, and those that still waited for their turn.
    assert written - 8 - 17 <= kept <= written + 1

"""`BagRecorder`: a live run as a ROS 2 bag, with the message types that ROS's own tools show."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from molmo2_ground import __version__
from molmo2_ground._optional import require
from molmo2_ground.integrations.rosbag.types import DETECTIONS, IMAGE, STRING, RosTypes
from molmo2_ground.live.kept_pictures import to_jpeg
from molmo2_ground.live.recording import (
    Contents,
    Entry,
    PutAway,
    Recorder,
    WhenFull,
    refuse_taken,
    unfinished_name,
)
from molmo2_ground.live.saying import Numbering, frame_name, messages_of
from molmo2_ground.messages import HealthMessage, PointsMessage, TracksMessage, ros2
from molmo2_ground.messages.kinds import spelt, topic_name

Storage = Literal["sqlite3", "mcap"]

_JPEG_QUALITY = 90
# Bags up to this version are read by Humble as well as by its followers; rosbags writes 8 and 9.
_BAG_VERSION = 8


class BagRecorder(Recorder):
    """Records to a folder, as `ros2 bag record` does; see `Recorder` for what all recorders do.

    Topics, for a camera called `door` and a question called `people`:
    `/molmo2/door/detections/people` and, of single answers, `/molmo2/door/points/people`
    (`vision_msgs/Detection2DArray`), `/molmo2/door/image/compressed` (`sensor_msgs/CompressedImage`, JPEG),
    and `/molmo2/door/count`, `masks`, `events`, `health`, `ledger` (`std_msgs/String` with our JSON). What
    ROS does not allow in a name becomes `_`.
    The time of a message in the bag is when its picture arrived, by this machine's clock; the stamp in
    its header is when the picture was taken.

    storage  `sqlite3`, which every ROS 2 can read, or `mcap`.
    Raises `FileExistsError` when there is something of that name, `FileNotFoundError` when there is no
    folder for it, `MissingExtraError` without the library.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        contents: Contents | None = None,
        storage: Storage = "sqlite3",
        when_full: WhenFull = "skip",
    ) -> None:
        target, inside = Path(path), contents or Contents()
        super().__init__(
            target, lambda: _BagTape(target, inside, storage=storage), contents=inside, when_full=when_full
        )


class _BagTape:
    """See `Tape`. The bag grows in `NAME.3f9a.part/NAME`, so that its files are called after NAME."""

    def __init__(self, path: Path, contents: Contents, *, storage: Storage) -> None:
        bags = require("rosbags.rosbag2", extra="record")
        refuse_taken(path)
        self._path, self._contents = path, contents
        self._types, self._numbering = RosTypes(), Numbering()
        self._around = unfinished_name(path)
        self.left = self._around / path.name
        self._writer: Any = bags.Writer(
            self.left, version=_BAG_VERSION, storage_plugin=bags.StoragePlugin[storage.upper()]
        )
        self._writer.open()
        self._topics: dict[str, Any] = {}
        self._told: set[str] = set()
        self._put_away = PutAway()

    def write(self, entry: Entry) -> None:
        update, recv_ns = entry.update, entry.update.capture.recv_ns
        source = topic_name(update.source)
        base = f"/molmo2/{ros_name(source)}"
        self._tell(source)
        if self._contents.wants(update):
            image = ros2.CompressedImage(
                header=ros2.Header(
                    stamp=ros2.time_of(update.stamp_ns),
                    frame_id=frame_name(source, self._contents.frame_id),
                ),
                format="jpeg",
                data=to_jpeg(update.capture.paint(), quality=_JPEG_QUALITY),
            )
            self._add(f"{base}/image/compressed", IMAGE, recv_ns, self._types.image(image))
        self._say(entry, base)
        for change in update.ledger:
            self._add(f"{base}/ledger", STRING, recv_ns, self._types.string(change.model_dump_json()))
        if self._put_away.due(entry.pub_ns):
            self._flush()

    def write_health(self, message: HealthMessage) -> None:
        message = spelt(message)
        topic = f"/molmo2/{ros_name(message.source)}/health"
        self._add(topic, STRING, message.pub_ns, self._types.string(message.model_dump_json()))

    def end(self) -> None:
        self._writer.close()
        refuse_taken(self._path)
        os.replace(self.left, self._path)
        self._around.rmdir()

    def let_go(self) -> None:
        # Undoing and closing on a full disk may fail in their own way; the first failure has been told.
        with suppress(Exception):
            self._writer.storage.conn.commit()
        with suppress(Exception):
            self._writer.abort()

    def _say(self, entry: Entry, base: str) -> None:
        for said in messages_of(
            entry.update,
            questions=entry.questions,
            numbering=self._numbering,
            frame_id=self._contents.frame_id,
        ):
            message = said.handed_over(entry.pub_ns).message
            at_ns = message.header.recv_ns
            if isinstance(message, TracksMessage | PointsMessage):
                kind = "detections" if isinstance(message, TracksMessage) else "points"
                topic = f"{base}/{kind}/{ros_name(message.header.question)}"
                self._add(topic, DETECTIONS, at_ns, self._types.detections(ros2.detections_of(message)))
            else:
                self._add(f"{base}/{said.kind}", STRING, at_ns, self._types.string(message.model_dump_json()))

    def _add(self, topic: str, kind: str, at_ns: int, message: bytes) -> None:
        if topic not in self._topics:
            self._topics[topic] = self._writer.add_connection(topic, kind, typestore=self._types.store)
        self._writer.write(self._topics[topic], at_ns, message)

    def _tell(self, source: str) -> None:
        if source not in self._told:
            self._told.add(source)
            told = {**self._contents.told(), "molmo2_ground": __version__, "source": source}
            self._writer.set_custom_data(f"molmo2-ground {source}", json.dumps(told, ensure_ascii=False))

    def _flush(self) -> None:
        """Put on the disk what there is; rosbags itself does so by size or at the end."""
        storage = self._writer.storage
        if hasattr(storage, "conn"):
            storage.conn.commit()
        else:
            storage.close_chunk()
            storage.bio.flush()


def ros_name(text: str) -> str:
    """The text as one part of a ROS name: letters, digits and `_`, no digit in front."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "unnamed"
    return f"_{plain}" if plain[0].isdigit() else plain

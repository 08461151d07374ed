"""`recover_bag`: a whole bag from one that was cut off by a kill, a crash or a full disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from molmo2_ground._optional import require
from molmo2_ground.errors import SourceError
from molmo2_ground.integrations.rosbag.types import RosTypes
from molmo2_ground.live.recording import unfinished_name

_Row = tuple[str, str, str, int, bytes]


def recover_bag(unfinished: Path | str, path: Path | str) -> int:
    """Copy every message that can be read, with its time, to a new bag; return how many there were.

    unfinished: the folder `NAME.3f9a.part`, or the one in it that holds the file. It stays as it is but for
    what SQLite undoes of a half-written step when it opens one. What `ros2 bag reindex` does, without ROS.
    Raises `SourceError` when there is no file of a bag in it, `FileExistsError` when `path` exists.
    """
    folder, target = Path(unfinished), Path(path)
    if target.exists():
        raise FileExistsError(f"{target} exists; recover to another name")
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder}; expected the unfinished bag's")
    files = [*folder.rglob("*.db3"), *folder.rglob("*.mcap")]
    if len(files) != 1:
        raise SourceError(f"expected one .db3 or .mcap file in {folder}; found {len(files)}")
    bags = require("rosbags.rosbag2", extra="record")
    is_mcap = files[0].suffix == ".mcap"
    rows = _rows_of_mcap(files[0]) if is_mcap else _rows_of_sqlite(files[0])
    around = unfinished_name(target)
    kind = bags.StoragePlugin.MCAP if is_mcap else bags.StoragePlugin.SQLITE3
    try:
        with bags.Writer(around / target.name, version=8, storage_plugin=kind) as writer:
            copied = _copy(rows, writer)
        os.replace(around / target.name, target)
    finally:
        shutil.rmtree(around, ignore_errors=True)
    return copied


def _copy(rows: Iterator[_Row], writer: Any) -> int:
    types = RosTypes()
    topics: dict[str, Any] = {}
    copied = 0
    for topic, kind, definition, at_ns, data in rows:
        if topic not in topics:
            digest = types.store.hash_rihs01(kind)
            topics[topic] = writer.add_connection(topic, kind, msgdef=definition, rihs01=digest)
        writer.write(topics[topic], at_ns, data)
        copied += 1
    return copied


def _rows_of_sqlite(file: Path) -> Iterator[_Row]:
    # Opened for writing, so that SQLite first undoes a step that was cut off.
    try:
        with closing(sqlite3.connect(file)) as database:
            yield from database.execute(
                "SELECT topics.name, topics.type, message_definitions.encoded_message_definition,"
                " messages.timestamp, messages.data FROM messages"
                " JOIN topics ON messages.topic_id = topics.id"
                " JOIN message_definitions ON message_definitions.topic_type = topics.type"
                " ORDER BY messages.id"
            )
    except sqlite3.DatabaseError as error:
        raise SourceError(f"{file} cannot be read as the file of a bag: {error}") from error


def _rows_of_mcap(file: Path) -> Iterator[_Row]:
    reading = require("mcap.stream_reader", extra="record")
    broken = require("mcap.exceptions", extra="record")
    kinds = require("mcap.records", extra="record")
    schemas: dict[int, Any] = {}
    channels: dict[int, Any] = {}
    with open(file, "rb") as stream:
        records = iter(reading.StreamReader(stream).records)
        while True:
            try:
                record = next(records)
            except (StopIteration, broken.McapError):
                return  # cut off here
            if isinstance(record, kinds.Schema):
                schemas[record.id] = record
            elif isinstance(record, kinds.Channel):
                channels[record.id] = record
            elif isinstance(record, kinds.Message):
                channel = channels[record.channel_id]
                schema = schemas[channel.schema_id]
                yield channel.topic, schema.name, schema.data.decode(), record.log_time, record.data

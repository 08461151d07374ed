"""`recover_mcap`: a whole file from one that was cut off by a kill, a crash or a full disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from molmo2_ground._atomic import atomic_path
from molmo2_ground._optional import require
from molmo2_ground.errors import SourceError

log = logging.getLogger(__name__)


def recover_mcap(unfinished: Path | str, path: Path | str) -> int:
    """Copy every message that can be read, with its times, to a new file; return how many there were.

    Schemas, channels and metadata come along. Works for MCAP files of any kind; what `mcap recover` of the
    MCAP command line does. Raises `SourceError` when nothing in it is MCAP, `FileExistsError` when `path`
    exists.
    """
    source, target = Path(unfinished), Path(path)
    if target.exists():
        raise FileExistsError(f"{target} exists; recover to another name")
    writing = require("mcap.writer", extra="record")
    with open(source, "rb") as damaged, atomic_path(target) as whole, open(whole, "wb") as stream:
        records = _readable(damaged, name=os.fspath(source))
        writer = writing.Writer(stream)
        first = next(records)
        writer.start(profile=first.profile, library=first.library)
        copied = _copy(records, writer)
        writer.finish()
    return copied


def _copy(records: Iterator[Any], writer: Any) -> int:
    kinds = require("mcap.records", extra="record")
    schemas: dict[int, int] = {0: 0}
    channels: dict[int, int] = {}
    messages = 0
    for record in records:
        if isinstance(record, kinds.Schema) and record.id not in schemas:
            schemas[record.id] = writer.register_schema(
                name=record.name, encoding=record.encoding, data=record.data
            )
        elif isinstance(record, kinds.Channel) and record.id not in channels:
            channels[record.id] = writer.register_channel(
                topic=record.topic,
                message_encoding=record.message_encoding,
                schema_id=schemas[record.schema_id],
                metadata=record.metadata,
            )
        elif isinstance(record, kinds.Message):
            messages += 1
            writer.add_message(
                channel_id=channels[record.channel_id],
                log_time=record.log_time,
                publish_time=record.publish_time,
                sequence=record.sequence,
                data=record.data,
            )
        elif isinstance(record, kinds.Metadata):
            writer.add_metadata(name=record.name, data=record.metadata)
        elif isinstance(record, kinds.Attachment):
            writer.add_attachment(
                create_time=record.create_time,
                log_time=record.log_time,
                name=record.name,
                media_type=record.media_type,
                data=record.data,
            )
    return messages


def _readable(stream: Any, *, name: str) -> Iterator[Any]:
    """The file's header, then its records up to the first that is cut off."""
    reading = require("mcap.stream_reader", extra="record")
    broken = require("mcap.exceptions", extra="record")
    kinds = require("mcap.records", extra="record")
    try:
        records = iter(reading.StreamReader(stream).records)
        first = next(records)
    except (broken.McapError, StopIteration) as error:
        raise SourceError(f"{name} is no MCAP file: {str(error) or 'it is empty'}") from error
    if not isinstance(first, kinds.Header):
        raise SourceError(
            f"{name} does not begin as an MCAP file: expected a header; got {type(first).__name__}"
        )
    yield first
    try:
        for record in records:
            if isinstance(record, kinds.DataEnd):
                return  # after it stands the index, which is made anew
            yield record
    # What a power failure leaves at the end can break the reader at any of its steps.
    except Exception as error:
        log.info("%s can be read up to here: %s", name, error or "it is cut off")

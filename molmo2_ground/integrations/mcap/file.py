"""`McapFile`: one MCAP file that grows under a `.part` name and gets its own when it is whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from molmo2_ground._optional import require
from molmo2_ground.integrations.mcap.plain_schema import Schema, schema_bytes
from molmo2_ground.live.recording import PutAway, refuse_taken, unfinished_name

# What a killed process loses at most: a chunk not yet full, and not yet due to be put away.
_CHUNK_BYTES = 1 << 20


class McapFile:
    """Messages with JSON Schemas, in compressed and indexed chunks.

    unfinished  where it lies until `finish`: readers of streams and `recover_mcap` read it up to the last
                chunk that was written, also after the process was killed.
    left        where it lies now.
    """

    def __init__(self, path: Path, *, manifest: Mapping[str, str]) -> None:
        writing = require("mcap.writer", extra="record")
        refuse_taken(path)
        self._path = path
        self.unfinished = unfinished_name(path)
        self._stream = open(self.unfinished, "xb")  # noqa: SIM115 - closed by finish and let_go
        self._writer: Any = writing.Writer(self._stream, chunk_size=_CHUNK_BYTES)
        self._writer.start(profile="", library=f"molmo2-ground {manifest.get('molmo2_ground', '')}".strip())
        self._manifest = dict(manifest)
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._sources: set[str] = set()
        self._put_away = PutAway()
        self.left = self.unfinished

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk so far."""
        return self._stream.tell()

    def holds(self, topic: str) -> bool:
        """Whether there is a message of this topic."""
        return topic in self._written

    def see_source(self, source: str, told: Mapping[str, str]) -> None:
        """Write the manifest of this stream once, as metadata `molmo2-ground`."""
        if source not in self._sources:
            self._sources.add(source)
            self._writer.add_metadata("molmo2-ground", {**told, **self._manifest, "source": source})

    def add(self, topic: str, schema: Schema, message: bytes, *, log_ns: int, publish_ns: int) -> None:
        """Add a message, numbered within its topic; schema and topic are registered with their first."""
        if topic not in self._channels:
            self._channels[topic] = self._writer.register_channel(
                topic=topic, message_encoding="json", schema_id=self._schema(schema)
            )
        number = self._written.get(topic, 0)
        self._written[topic] = number + 1
        self._writer.add_message(
            channel_id=self._channels[topic],
            log_time=log_ns,
            publish_time=publish_ns,
            data=message,
            sequence=number % 2**32,
        )

    def seal_by_time(self, now_ns: int) -> None:
        """Put what has gathered on the disk when it is two seconds old."""
        if self._put_away.due(now_ns):
            # The library ends a chunk by size alone: a quiet stream would lose minutes when it is killed. It
            # has no public name for ending one earlier; a test says when this one is gone.
            self._writer._Writer__finalize_chunk()
            self._stream.flush()

    def finish(self) -> None:
        """Write index and summary, make sure of the disk, and give it its name."""
        self._writer.finish()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        refuse_taken(self._path)
        os.replace(self.unfinished, self._path)
        self.left = self._path

    def let_go(self) -> None:
        """Close it as it is."""
        # A full disk refuses what is still buffered, again; the first refusal has been told.
        with suppress(OSError):
            self._stream.close()

    def _schema(self, schema: Schema) -> int:
        name: str = schema["title"]
        if name not in self._schemas:
            self._schemas[name] = self._writer.register_schema(
                name=name, encoding="jsonschema", data=schema_bytes(schema)
            )
        return self._schemas[name]

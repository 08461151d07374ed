"""`McapRecorder`: everything about a live run in one MCAP file, or in files of a size that may be chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from molmo2_ground import __version__
from molmo2_ground.integrations.mcap.file import McapFile
from molmo2_ground.integrations.mcap.foxglove import (
    COMPRESSED_VIDEO,
    IMAGE_ANNOTATIONS,
    annotations_of,
    video_of,
)
from molmo2_ground.integrations.mcap.plain_schema import Schema, plain_json, plain_schema
from molmo2_ground.live.filming import Filming
from molmo2_ground.live.recording import Contents, Entry, Recorder, WhenFull
from molmo2_ground.live.saying import Numbering, frame_name, messages_of
from molmo2_ground.live.trails import Trails
from molmo2_ground.live.update import Look
from molmo2_ground.messages import HealthMessage
from molmo2_ground.messages.kinds import spelt, topic_name
from molmo2_ground.messages.part import Part

_BYTES_PER_MB = 1_000_000


class McapRecorder(Recorder):
    """Records to `path`, `run.mcap` for example; see `Recorder` for what all recorders do.

    Topics, for a camera called `door`: `/molmo2/door/video` (`foxglove.CompressedVideo`, H.264),
    `/molmo2/door/annotations` (`foxglove.ImageAnnotations`), `/molmo2/door/tracks`, `points`, `count`,
    `masks`, `events` and `health` (our messages), `looks` (what the model was asked and answered) and
    `ledger`.
    All of a picture has the log time at which the picture arrived, by this machine's clock; `timestamp` and
    `stamp_ns` inside are when it was taken. Publish time is when the update was handed over.

    max_mb  after so many megabytes the file is finished and another is begun: `run.mcap`, `run-002.mcap`, …;
            numbers that are taken are passed over.
    Raises `FileExistsError` when there is a file of that name, `FileNotFoundError` when there is no folder
    for it, `ValueError` for a size of 0 or less, `MissingExtraError` without the library.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        contents: Contents | None = None,
        max_mb: float | None = None,
        when_full: WhenFull = "skip",
    ) -> None:
        target, inside = Path(path), contents or Contents()
        if max_mb is not None and not max_mb > 0:
            raise ValueError(f"a file's largest size is above 0 megabytes; got {max_mb}")
        super().__init__(
            target, lambda: _McapTape(target, inside, max_mb=max_mb), contents=inside, when_full=when_full
        )


class LookMessage(Part):
    """What the model was asked about which picture, why, and what it said; topic `looks`."""

    question: str
    query: str
    stamp_ns: int
    source_index: int
    reasons: tuple[str, ...]
    asked_ns: int
    answered_ns: int
    error: str
    result: dict[str, Any] | None


class _McapTape:
    """See `Tape`; each of its files can be read without the others."""

    def __init__(self, path: Path, contents: Contents, *, max_mb: float | None) -> None:
        self._path, self._contents = path, contents
        self._most_bytes = None if max_mb is None else max_mb * _BYTES_PER_MB
        self._numbering, self._filming, self._trails = Numbering(), Filming(), Trails()
        self._files = 1
        self._file = self._open(path)

    @property
    def left(self) -> Path:
        return self._file.left

    def write(self, entry: Entry) -> None:
        if self._most_bytes is not None and self._file.size_bytes >= self._most_bytes:
            self._next()
        update, capture = entry.update, entry.update.capture
        source = topic_name(update.source)
        frame_id = frame_name(source, self._contents.frame_id)
        times = {"log_ns": capture.recv_ns, "publish_ns": entry.pub_ns}
        self._file.see_source(source, self._contents.told())
        if self._contents.wants(update):
            topic = f"/molmo2/{source}/video"
            coded = self._filming.take(update, fresh=not self._file.holds(topic))
            video = video_of(coded, stamp_ns=capture.stamp_ns, frame_id=frame_id)
            self._file.add(topic, COMPRESSED_VIDEO, _json(video), **times)
        annotations = annotations_of(update, self._trails.take(update))
        self._file.add(f"/molmo2/{source}/annotations", IMAGE_ANNOTATIONS, _json(annotations), **times)
        for said in messages_of(
            update, questions=entry.questions, numbering=self._numbering, frame_id=self._contents.frame_id
        ):
            message = said.handed_over(entry.pub_ns).message
            times["log_ns"] = message.header.recv_ns
            self._add(f"/molmo2/{source}/{said.kind}", message.SCHEMA, message, **times)
        for look in update.looks:
            query = entry.questions.get(look.question)
            said_look = _look_message(look, "" if query is None else query.phrase)
            times["log_ns"] = look.answered_ns
            self._add(f"/molmo2/{source}/looks", "molmo2-ground/live-look/1", said_look, **times)
        times["log_ns"] = capture.recv_ns
        for change in update.ledger:
            self._add(f"/molmo2/{source}/ledger", "molmo2-ground/live-ledger/1", change, **times)
        self._file.seal_by_time(entry.pub_ns)

    def write_health(self, message: HealthMessage) -> None:
        message = spelt(message)
        topic = f"/molmo2/{message.source}/health"
        self._add(topic, HealthMessage.SCHEMA, message, log_ns=message.pub_ns, publish_ns=message.pub_ns)

    def end(self) -> None:
        self._file.finish()

    def let_go(self) -> None:
        self._file.let_go()

    def _next(self) -> None:
        self._file.finish()
        while (path := self._numbered(self._files + 1)).exists() or path.is_symlink():
            self._files += 1  # of an earlier recording: a run that goes on for weeks must not stop at it
        self._files += 1
        self._file = self._open(path)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.stem}-{number:03d}{self._path.suffix}")

    def _open(self, path: Path) -> McapFile:
        return McapFile(path, manifest={"molmo2_ground": __version__, "file": str(self._files)})

    def _add(self, topic: str, name: str, message: BaseModel, *, log_ns: int, publish_ns: int) -> None:
        schema = _schema_of(type(message), name)
        self._file.add(topic, schema, plain_json(message), log_ns=log_ns, publish_ns=publish_ns)


_SCHEMAS: dict[type[BaseModel], Schema] = {}


def _schema_of(model: type[BaseModel], name: str) -> Schema:
    if model not in _SCHEMAS:
        _SCHEMAS[model] = plain_schema(model, title=name)
    return _SCHEMAS[model]


def _json(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _look_message(look: Look, query: str) -> LookMessage:
    return LookMessage(
        question=look.question,
        query=query,
        stamp_ns=look.stamp_ns,
        source_index=look.source_index,
        reasons=look.reasons,
        asked_ns=look.asked_ns,
        answered_ns=look.answered_ns,
        error=look.error,
        result=None if look.result is None else look.result.model_dump(mode="json"),
    )

"""A message on the wire: one part, `topic`, a space, and JSON in UTF-8."""

from __future__ import annotations

from pydantic import ValidationError

from molmo2_ground.integrations.zeromq.fault import first_fault
from molmo2_ground.messages.kinds import MODEL_OF, Kind, Message, read_topic, topic_of


def to_wire(stream_name: str, kind: Kind, message: Message) -> bytes:
    """The bytes to send."""
    return f"{topic_of(stream_name, kind)} {message.model_dump_json(by_alias=True)}".encode()


def from_wire(data: bytes) -> tuple[str, Kind, Message]:
    """(stream name, kind, message). Raises `ValueError`, one line, for bytes that are no message of ours."""
    topic, _, body = data.partition(b" ")
    stream_name, kind = read_topic(topic[:300].decode("utf-8", "replace"))
    try:
        return stream_name, kind, MODEL_OF[kind].model_validate_json(body)
    except ValidationError as error:
        raise ValueError(f"no message of kind {kind}: {first_fault(error)}") from None

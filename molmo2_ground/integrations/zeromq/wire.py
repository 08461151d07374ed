"""A message on the wire: one part, `topic`, a space, and JSON in UTF-8."""

from __future__ import annotations

from pydantic import ValidationError

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


def first_fault(error: ValidationError) -> str:
    """Where and what the first thing wrong is, without what was sent: that may be long, and anybody's."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part)[:40] for part in fault["loc"][:8])
    return f"{where or 'the whole'}: {fault['msg'][:200]}"

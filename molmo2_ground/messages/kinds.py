"""`Kind`: what a topic carries, which model its messages are of, and how both are spelt on the wire."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote, unquote

from molmo2_ground._wanted import WORDS
from molmo2_ground.messages.health import HealthMessage
from molmo2_ground.messages.places import (
    CountMessage,
    EventMessage,
    MasksMessage,
    PointsMessage,
    TracksMessage,
)

Kind = Literal["tracks", "points", "count", "masks", "events", "health"]
PlaceMessage = TracksMessage | PointsMessage | CountMessage | MasksMessage | EventMessage
Message = PlaceMessage | HealthMessage

MODEL_OF: dict[Kind, type[Message]] = {
    "tracks": TracksMessage,
    "points": PointsMessage,
    "count": CountMessage,
    "masks": MasksMessage,
    "events": EventMessage,
    "health": HealthMessage,
}

ROOT = "molmo2/"
_LONGEST_NAME = 200


def topic_name(stream_name: str) -> str:
    """The stream's name as topics and headers spell it.

    Letters, digits and `_.-~` stay, all others become %XX of their UTF-8, so no two names are spelt alike.
    Raises `ValueError` for an empty name and for one that is spelt with more than 200 characters.
    """
    WORDS.check("a stream's name", stream_name)
    spelt = quote(stream_name, safe="")
    if not 0 < len(spelt) <= _LONGEST_NAME:
        raise ValueError(
            f"a stream's name has 1 to {_LONGEST_NAME} characters in its topic; got {len(spelt)} "
            f"({stream_name[:40]!r}). Give it another name."
        )
    return spelt


def spelt(message: HealthMessage) -> HealthMessage:
    """The message with its source as topics and the headers of all others spell it."""
    return message.model_copy(update={"source": topic_name(message.source)})


def topic_of(stream_name: str, kind: Kind) -> str:
    """`molmo2/<stream name>/<kind>/`; its last slash keeps it from matching a longer kind."""
    return f"{ROOT}{topic_name(stream_name)}/{kind}/"


def read_topic(topic: str) -> tuple[str, Kind]:
    """The stream's name and the kind that a topic is made of. Raises `ValueError` for any other text."""
    parts = topic.split("/")
    if len(parts) == 4 and parts[0] == "molmo2" and parts[1] and parts[2] in MODEL_OF and not parts[3]:
        return unquote(parts[1]), parts[2]
    raise ValueError(f"a topic is molmo2/<stream name>/<{'|'.join(MODEL_OF)}>/; got {topic[:80]!r}")

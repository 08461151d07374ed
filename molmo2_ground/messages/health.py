"""Messages about the publisher itself: how the camera is, how long each step takes, what was left out."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from molmo2_ground.messages.part import Part

FeedState = Literal["connecting", "connected", "stalled", "reconnecting", "ended", "failed"]
"""`stalled`: connected and no picture for longer than the read timeout. `ended`: the source is over and is
not opened again (a file). `failed`: given up."""


class StatusEvent(Part):
    """The camera's state changed.

    at_ns    unix nanoseconds.   attempt  of reconnecting, from 1; 0 when it is none.
    reason   why, in words fit for a log: no passwords.
    """

    state: FeedState
    at_ns: int
    epoch: int | None = None
    attempt: int = 0
    reason: str = ""


class HealthMessage(Part):
    """How the whole is, once a second whether or not pictures come; topic `health`.

    state         of the camera.   seq  rises by one with each health message.
    uptime_s      since the publisher started, seconds.
    frame_age_ms  since the newest picture arrived; None before the first.
    received, taken  pictures since the start: arrived, and used. dropped  the others, by reason.
    looks         times that the model was asked, by reason. tokens: read and written by it so far.
    latency_ms    by stage: quantiles `p50`, `p99` and `max` of the last minute, milliseconds.
    connections   times that the camera was connected.
    events        changes of the camera's state since the health message before.
    """

    SCHEMA: ClassVar[str] = "molmo2-ground/live-health/1"

    schema_: str = Field(default="molmo2-ground/live-health/1", alias="schema")
    source: str
    seq: int
    epoch: int | None
    pub_ns: int
    state: FeedState
    uptime_s: float
    frame_age_ms: float | None
    received: int
    taken: int
    dropped: dict[str, int] = Field(default_factory=dict)
    looks: dict[str, int] = Field(default_factory=dict)
    tokens: int = 0
    questions: dict[str, str] = Field(default_factory=dict)
    latency_ms: dict[str, dict[str, float]] = Field(default_factory=dict)
    connections: int = 0
    events: tuple[StatusEvent, ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict)

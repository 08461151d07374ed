"""`Header`: what every message says of the picture that it is about, and of itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from molmo2_ground.messages.part import Part

StampClock = Literal["unix", "monotonic", "ros"]
"""The clock of `stamp_ns`: nanoseconds since 1970; since an unknown moment; ROS time."""

StampedBy = Literal["camera", "arrival"]
"""Whose time `stamp_ns` is: the camera's own, or that of arriving here."""

MessageStatus = Literal["ok", "stale"]

NotNegative = Annotated[int, Field(ge=0)]


class Header(Part):
    """Where a message comes from, when its picture was taken, and until when it may be used.

    schema_        name and version of the message, `molmo2-ground/live-tracks/1`; in JSON `schema`.
    source         the stream's name, as in the topic; never a password.
    seq            rises by one with each message of one topic; a gap is a message that was lost.
    epoch          unix milliseconds at which the connection to the camera was opened: another value is
                   another connection or another run of the publisher, and rises.
    stamp_ns       when the picture was taken, by `clock`; the camera's own time where it sends one.
    stamped_by     `camera` when the time is the camera's, `arrival` when it is that of arriving here.
    recv_ns        unix nanoseconds at which the picture arrived here.
    infer_ns       unix nanoseconds at which what is said of it was known.
    pub_ns         unix nanoseconds at which the message was handed to its socket or file.
    frame_id       the optical frame, as in ROS: x to the right, y down, z forward.
    source_index   number of the picture since the stream was opened, over reconnects, from 0.
    size_px        (width, height) of the picture; all coordinates refer to it.
    age_ms         how old the picture was when the message was made, milliseconds.
    dropped_since_last  pictures that were left out since the message before of this topic, by reason.
    query          what was asked for, in the user's words; question: under which name. Several questions of
                   one kind share a topic and its `seq`; this tells their messages apart.
    status         `ok`, or `stale` when it was published after `valid_until_ns`.
    valid_until_ns unix nanoseconds by this machine's clock until which a place in it may be acted on.
    """

    schema_: str = Field(alias="schema")
    source: str
    seq: NotNegative
    epoch: int
    stamp_ns: int
    clock: StampClock = "unix"
    stamped_by: StampedBy = "arrival"
    recv_ns: int
    infer_ns: int
    pub_ns: int
    frame_id: str
    source_index: NotNegative
    size_px: tuple[int, int]
    age_ms: float
    dropped_since_last: dict[str, int] = Field(default_factory=dict)
    query: str = ""
    question: str = ""
    status: MessageStatus = "ok"
    valid_until_ns: int

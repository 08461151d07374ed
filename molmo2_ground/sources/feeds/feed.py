"""`Feed`: something that can be connected to, and gives pictures until it ends or breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Protocol, runtime_checkable

from molmo2_ground._wanted import Wanted
from molmo2_ground.clip import RgbArray
from molmo2_ground.messages.header import StampClock

OPTIONS = Wanted("a dict of FFmpeg's options", (Mapping,), or_none=True)
"""What a feed takes for a stream or a device, by FFmpeg's own names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a source may keep us waiting, seconds: for being opened, and for its next picture.

    Raises `ValueError` for what is no finite number above 0.
    """

    open_s: float = 10.0
    read_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("open_s", "read_s"):
            value: float = getattr(self, name)
            if not (isinstance(value, Real) and 0 < value < float("inf")):
                raise ValueError(f"{name} is a finite number of seconds above 0; got {value!r}")


class Arrival(Protocol):
    """A picture as a connection gives it: decoded, not yet RGB.

    stamp_ns   the camera's own time by `clock`, None when the stream carries none.
    recv_ns    unix nanoseconds when it arrived, before decoding; monotonic_ns: the same by the monotonic one.
    """

    stamp_ns: int | None
    clock: StampClock
    recv_ns: int
    monotonic_ns: int
    width_px: int
    height_px: int

    def paint(self) -> RgbArray:
        """The pixels, uint8[height, width, 3] RGB, upright."""
        ...


class Connection(Protocol):
    """One open connection; used by one thread, but `close` may come from any."""

    def arrivals(self) -> Iterator[Arrival]:
        """Pictures as they come; ends when the other side ends.

        Raises `SourceError` when it breaks, or when no picture came within the read timeout.
        """
        ...

    def close(self) -> None:
        """Let go of it, also while another thread waits for a picture; closing again does nothing."""
        ...


class Feed(Protocol):
    """A live source.

    name      what logs, messages and errors call it: the address without user, password and query.
    paced     True when pictures come at their own pace whether or not they are taken (a camera); False when
              the source waits until the next is wanted (an iterator).
    reopens   True when an end means that the connection was lost (a camera); False when it means that there
              is no more (a file played once, an iterator).
    """

    name: str
    paced: bool
    reopens: bool

    def connect(self, timeouts: Timeouts) -> Connection:
        """Open it. Raises `SourceError`, one line without credentials, when that fails or takes too long."""
        ...


@runtime_checkable
class CountsLosses(Protocol):
    """A connection that also tells what came and was no picture, so far, by reason.

    Reasons: `damaged` (could not be decoded, or built on one that could not), `repeated` (the picture before
    once more), `malformed` (a message that holds no picture), `late` (too old to be passed on).
    """

    losses: Mapping[str, int]


@runtime_checkable
class CanBeHeld(Protocol):
    """An arrival of a source that goes on from where it was when it is held up (a film).

    held_ns  for how long it has been, since it was connected: its stamps are later by that, its own times
             are not.
    """

    held_ns: int


@runtime_checkable
class WaitsIfBlocked(Protocol):
    """A feed with a pace of its own that loses nothing by waiting, under the policy `block`: see `CanBeHeld`.

    What waited was not filmed long ago, so no picture of it is too old.
    """

    waits_if_blocked: bool


@runtime_checkable
class Interruptible(Protocol):
    """A feed whose `connect` another thread can make give up at once."""

    def interrupt(self) -> None:
        """Make a running `connect`, and every later one, raise `SourceError` soon."""
        ...

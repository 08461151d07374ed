"""A feed by script: what each connection gives, and how it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event

import numpy as np

from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds.feed import Timeouts
from molmo2_ground.sources.feeds.picture_arrival import PictureArrival

MILLISECOND = 1_000_000


def arrival(stamp_ns: int | None, *, recv_ns: int | None = None) -> PictureArrival:
    at_ns = recv_ns if recv_ns is not None else (stamp_ns or 0)
    return PictureArrival(
        stamp_ns=stamp_ns,
        recv_ns=at_ns,
        monotonic_ns=at_ns,
        width_px=4,
        height_px=2,
        paint=lambda: np.zeros((2, 4, 3), np.uint8),
    )


@dataclass
class Life:
    """One connection: its pictures, and then an error, the end (None), or waiting until it is closed."""

    pictures: Sequence[PictureArrival | int] = ()  # a number: so many damaged ones come here
    ends_with: SourceError | None = None
    waits: bool = False


class FakeConnection:
    def __init__(self, life: Life) -> None:
        self._life, self.losses, self.closed = life, Counter[str](), Event()

    def arrivals(self) -> Iterator[PictureArrival]:
        for picture in self._life.pictures:
            if isinstance(picture, int):
                self.losses["damaged"] += picture
            else:
                yield picture
        if self._life.waits:
            self.closed.wait()
        if self._life.ends_with is not None:
            raise self._life.ends_with

    def close(self) -> None:
        self.closed.set()


@dataclass
class FakeFeed:
    """Each `connect` takes the next of `lives`, and raises it when it is an error; then nobody is there."""

    lives: list[Life | SourceError] = field(default_factory=list)
    name: str = "fake"
    paced: bool = True
    reopens: bool = True
    connections: list[FakeConnection] = field(default_factory=list)

    def connect(self, timeouts: Timeouts) -> FakeConnection:
        if not self.lives:
            raise SourceError("fake: nobody there")
        life = self.lives.pop(0)
        if isinstance(life, SourceError):
            raise life
        self.connections.append(FakeConnection(life))
        return self.connections[-1]


class HangingFeed:
    """Its `connect` hangs until it is interrupted."""

    name, paced, reopens = "hanging", True, True

    def __init__(self) -> None:
        self.reached, self._interrupted = Event(), Event()

    def connect(self, timeouts: Timeouts) -> FakeConnection:
        self.reached.set()
        self._interrupted.wait()
        raise SourceError("hanging: interrupted")

    def interrupt(self) -> None:
        self._interrupted.set()

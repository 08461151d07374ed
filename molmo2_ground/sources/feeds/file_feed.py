"""`FileFeed`: a film in a file as if a camera sent it, at the pace of its own times."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Lock

from molmo2_ground._wanted import NUMBER, YES_OR_NO
from molmo2_ground.clip import RgbArray
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds.failures import RefusedError
from molmo2_ground.sources.feeds.feed import Timeouts
from molmo2_ground.sources.feeds.pace import Pace
from molmo2_ground.sources.feeds.picture_arrival import PictureArrival
from molmo2_ground.sources.media import FilmFile, recognise

_LOG = logging.getLogger(__name__)


class FileFeed:
    """A video or an animated picture, once or again and again.

    speed  how many times faster than filmed it is shown; None: as fast as it is taken.
    loop   begin again at the end, for ever; times go on.

    A picture's stamp is the unix time at which the showing began plus the picture's own time, divided by the
    speed: whoever looks at the stamps sees a camera whose scene happens faster. When nobody takes a picture
    for more than a second, or the whole process is stopped, the film goes on from where it was: its stamps
    are later by that from there on, and `held_ns` tells by how much.
    """

    waits_if_blocked = True
    reopens = False

    def __init__(
        self,
        path: Path,
        *,
        speed: float | None = 1.0,
        loop: bool = False,
        name: str | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        NUMBER.or_nothing().check("speed", speed)
        YES_OR_NO.check("loop", loop)
        if speed is not None and not speed > 0:
            raise ValueError(f"speed must be above 0, or None for as fast as possible; got {speed}")
        self.name, self.paced = name or path.name, speed is not None
        self._path, self._speed, self._loop = path, speed, loop
        self._clocks = clocks or Clocks()

    def connect(self, timeouts: Timeouts) -> FileConnection:
        """Open the file; raises `SourceError` when it holds no film."""
        film = recognise(self._path)
        if not isinstance(film, FilmFile):
            raise RefusedError(f"{self.name} holds still pictures; expected a video or a camera")
        with film.opened(measured=False):  # what is wrong with it is told now
            return FileConnection(
                film, name=self.name, speed=self._speed, loop=self._loop, clocks=self._clocks
            )


class FileConnection:
    """One showing of the film, or one endless loop of it.

    losses  `damaged`: frames that cannot be decoded, are hurt, or build on one that is.
    """

    def __init__(self, film: FilmFile, *, name: str, speed: float | None, loop: bool, clocks: Clocks) -> None:
        self._film, self._name, self._loop, self._clocks = film, name, loop, clocks
        self.losses: Counter[str] = Counter()
        self._closed = Event()
        self._rate = 1.0 if speed is None else speed
        self._pace = None if speed is None else Pace(speed=speed, clocks=clocks)
        self._began_ns: int | None = None

    def arrivals(self) -> Iterator[PictureArrival]:
        """Pictures when they are due; ends with the film."""
        offset_s = 0.0
        while not self._closed.is_set():
            ended_s = offset_s
            for arrival, end_s in self._showing(offset_s):
                ended_s = end_s
                yield arrival
            if not self._loop or self._closed.is_set():
                return
            if ended_s <= offset_s:
                raise SourceError(f"{self._name}: has no length, so it cannot be shown in a loop")
            offset_s = ended_s

    def close(self) -> None:
        """Show no more."""
        self._closed.set()

    def _showing(self, offset_s: float) -> Iterator[tuple[PictureArrival, float]]:
        """The film once, beginning at `offset_s` of the showing; with each picture, when it is over."""
        with self._film.opened(measured=False) as film:
            lock, expected = Lock(), 0
            for shot in film.shots():
                time_s = offset_s + shot.time_s
                if self._pace is not None and self._closed.wait(max(0.0, self._pace.wait_s(time_s))):
                    return
                if self._closed.is_set():
                    return
                # A gap in the numbers is frames that could not be decoded; those in front have no numbers.
                ahead = 0 if expected else film.lost_at_start
                self.losses["damaged"] += ahead + shot.index - expected + shot.damaged
                expected = shot.index + 1
                if shot.damaged:
                    continue
                held_ns = 0 if self._pace is None else self._pace.held_ns
                arrival = PictureArrival(
                    stamp_ns=self._began() + round(time_s / self._rate * 1e9) + held_ns,
                    held_ns=held_ns,
                    recv_ns=self._clocks.unix_ns(),
                    monotonic_ns=self._clocks.monotonic_ns(),
                    width_px=film.width_px,
                    height_px=film.height_px,
                    paint=_alone(shot.paint, lock),
                )
                yield arrival, offset_s + shot.end_s
            self.losses["damaged"] += film.lost_at_end
            for line in film.losses.take(damaged="left out"):
                _LOG.warning("%s: %s", self._name, line)

    def _began(self) -> int:
        # By the first picture and not by the call: opening a file may take its time, and nothing that follows
        # would make up for it.
        if self._began_ns is None:
            self._began_ns = self._clocks.unix_ns()
        return self._began_ns


def _alone(paint: Callable[[], RgbArray], lock: Lock) -> Callable[[], RgbArray]:
    """The same, one at a time: a film has one painter, and pictures are used in several threads."""

    def painted() -> RgbArray:
        with lock:
            return paint()

    return painted

"""`GivenFeed`: pictures that the caller's own code gives, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from numbers import Real
from typing import Any, TypeAlias

from molmo2_ground.clip import Frame, RgbArray
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.messages.header import StampClock
from molmo2_ground.sources.arrays import array_frame, is_array
from molmo2_ground.sources.feeds.feed import Timeouts
from molmo2_ground.sources.feeds.picture_arrival import PictureArrival, is_time, nanoseconds

GivenPicture: TypeAlias = "RgbArray | tuple[float, RgbArray] | Frame"
"""uint8[height, width, 3] RGB; or with the moment it was taken, seconds; or a `Frame`, whose times count
from the moment the source is opened."""

GivenPictures: TypeAlias = "Iterable[GivenPicture] | Callable[[], GivenPicture | None]"
"""An iterator of pictures, or a function that gives the next one, and None when there is no more."""

_EXPECTED = "expected uint8[height, width, 3], (seconds, array) or a Frame"


class GivenFeed:
    """Pictures from an iterator or a function; each next one is asked for when the one before was taken.

    clock  what the seconds of (seconds, array) count: since 1970 (`unix`), by another clock, or ROS time.
    paced  True when the caller's code waits for a camera itself: then pictures that nobody takes in time are
           left out by the policy instead of being waited for.
    """

    reopens = False

    def __init__(
        self,
        pictures: GivenPictures,
        *,
        name: str = "frames",
        clock: StampClock = "unix",
        paced: bool = False,
        clocks: Clocks | None = None,
    ) -> None:
        self.name, self.paced = name, paced
        self._pictures, self._clock, self._clocks = pictures, clock, clocks or Clocks()

    def connect(self, timeouts: Timeouts) -> GivenConnection:
        """Begin; the caller's code waits as long as it likes."""
        try:
            pictures = iter(_calls(self._pictures)) if callable(self._pictures) else iter(self._pictures)
        except Exception as error:
            raise _theirs(self.name, error) from error
        return GivenConnection(pictures, name=self.name, clock=self._clock, clocks=self._clocks)


class GivenConnection:
    """One walk through the caller's pictures."""

    def __init__(
        self, pictures: Iterator[GivenPicture], *, name: str, clock: StampClock, clocks: Clocks
    ) -> None:
        self._pictures, self._name, self._clock, self._clocks = pictures, name, clock, clocks
        self._started_ns = clocks.unix_ns()
        self._closed = False

    def arrivals(self) -> Iterator[PictureArrival]:
        """Pictures as they are given; what the caller's code raises comes out as `SourceError`, with it."""
        number = 0
        while not self._closed:
            try:
                given = next(self._pictures)
            except StopIteration:
                return
            except Exception as error:
                raise _theirs(self._name, error) from error
            yield self._arrival(given, number)
            number += 1

    def close(self) -> None:
        """Ask for no more."""
        self._closed = True

    def _arrival(self, given: Any, number: int) -> PictureArrival:
        recv_ns, monotonic_ns = self._clocks.unix_ns(), self._clocks.monotonic_ns()
        stamp_ns: int | None = None
        clock: StampClock = "unix"
        if isinstance(given, Frame):
            rgb = given.rgb
            if given.time_s is not None:
                self._check_time(given.time_s, number)
                stamp_ns = self._started_ns + round(given.time_s * 1e9)
        else:
            if isinstance(given, tuple):
                if len(given) != 2 or not isinstance(given[0], Real):
                    raise SourceError(
                        f"{self._name}: picture {number}: {_EXPECTED}; got a tuple of something else"
                    )
                self._check_time(float(given[0]), number)
                stamp_ns, clock, given = nanoseconds(float(given[0])), self._clock, given[1]
            if not is_array(given):
                raise SourceError(f"{self._name}: picture {number}: {_EXPECTED}; got {type(given).__name__}")
            try:
                # A copy: callers fill one array again and again, and the picture is looked at later.
                rgb = array_frame(given, number=number).rgb.copy()
            except SourceError as error:
                raise SourceError(f"{self._name}: picture {number}: {error}") from error
        return PictureArrival(
            stamp_ns=stamp_ns,
            clock=clock,
            recv_ns=recv_ns,
            monotonic_ns=monotonic_ns,
            width_px=rgb.shape[1],
            height_px=rgb.shape[0],
            paint=lambda: rgb,
        )

    def _check_time(self, time_s: float, number: int) -> None:
        if not is_time(time_s):
            raise SourceError(
                f"{self._name}: picture {number}: expected its time in seconds, from 0 to 9e9; got {time_s:g}"
                + ("; divide milliseconds by 1e3, nanoseconds by 1e9" if time_s >= 9e9 else "")
            )


def _calls(give: Callable[[], GivenPicture | None]) -> Iterator[GivenPicture]:
    while (given := give()) is not None:
        yield given


def _theirs(name: str, error: Exception) -> SourceError:
    return SourceError(f"{name}: the code that gives its pictures raised {type(error).__name__}: {error}")

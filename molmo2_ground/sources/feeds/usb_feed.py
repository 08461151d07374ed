"""Cameras that are plugged in: video4linux by FFmpeg, and by OpenCV where FFmpeg cannot."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Protocol

import av
import numpy as np

from molmo2_ground.clip import RgbArray
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds.address import Address
from molmo2_ground.sources.feeds.av_feed import AvFeed
from molmo2_ground.sources.feeds.camera_clock import grabbed_ns
from molmo2_ground.sources.feeds.failures import RefusedError, StalledError
from molmo2_ground.sources.feeds.feed import OPTIONS, Feed, Timeouts
from molmo2_ground.sources.feeds.handover import Handover
from molmo2_ground.sources.feeds.picture_arrival import PictureArrival

_FORMAT = "v4l2"


def device_feed(
    address: Address, *, options: Mapping[str, str] | None = None, clocks: Clocks | None = None
) -> Feed:
    """The feed of a device: by FFmpeg where its build knows video4linux, else by OpenCV.

    options  FFmpeg's for the device: `video_size` (`1280x720`), `framerate`, `input_format` (`mjpeg`).
    """
    # A format of several names is listed as `video4linux2,v4l2`.
    if not any(_FORMAT in names.split(",") for names in av.formats_available):
        return CvFeed(address, options=options, clocks=clocks)
    return DeviceFeed(address, options=options, format=_FORMAT, clocks=clocks)


class DeviceFeed(AvFeed):
    """A video4linux device by FFmpeg; says what is wrong with it before FFmpeg is asked."""

    def __init__(
        self,
        address: Address,
        *,
        format: str,
        options: Mapping[str, str] | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        name = address.name
        super().__init__(
            address,
            # Times of the wall clock, whichever the driver counts by.
            options={"timestamps": "abs"} | dict(options or {}),
            format=format,
            explain=lambda error: explained(error, name),
            told=grabbed_ns,
            clocks=clocks,
        )

    def connect(self, timeouts: Timeouts) -> Any:
        """Open the device; raises `SourceError` that says whether it is missing, busy or not ours."""
        check_device(Path(self.address.location.reveal()), name=self.name)
        return super().connect(timeouts)


def check_device(path: Path, *, name: str) -> None:
    """Raise `SourceError` when there is no camera under this path, or it is not ours to open."""
    try:
        mode = path.stat().st_mode
    except OSError:
        others = sorted(str(p) for p in Path("/dev").glob("video*"))
        there = f"there are {', '.join(others)}" if others else "no camera is plugged in"
        raise SourceError(f"{name}: there is no such camera; {there}") from None
    if not stat.S_ISCHR(mode):
        raise RefusedError(f"{name} is no device; expected a camera such as /dev/video0")
    if not os.access(path, os.R_OK | os.W_OK):
        raise RefusedError(
            f"{name}: permission denied; add yourself to the group video: sudo usermod -aG video $USER"
        )


def explained(error: Exception, name: str) -> SourceError | None:
    """Words for what devices do and streams do not; None for anything else."""
    number = getattr(error, "errno", None)
    if number == errno.EBUSY:
        return SourceError(f"{name} is in use by another program")
    if number == errno.ENODEV:
        return SourceError(f"{name} was unplugged")
    if number == errno.ENOTTY:
        return RefusedError(f"{name} is a device, but no camera")
    return None


class Grabber(Protocol):
    """What is used of OpenCV's VideoCapture."""

    def isOpened(self) -> bool:
        """Whether it is open."""
        ...

    def read(self) -> tuple[bool, Any]:
        """Whether there was a picture, and uint8[height, width, 3] BGR."""
        ...

    def set(self, what: int, value: float) -> bool:
        """Ask for a size or rate."""
        ...

    def release(self) -> None:
        """Let go."""
        ...


class CvFeed:
    """A device by OpenCV; pictures are stamped by their arrival."""

    paced = True
    reopens = True

    def __init__(
        self,
        address: Address,
        *,
        options: Mapping[str, str] | None = None,
        clocks: Clocks | None = None,
        grab: Callable[[str], Grabber] | None = None,
        check: Callable[..., None] = check_device,
    ) -> None:
        self.name, self._address, self._clocks = address.name, address, clocks or Clocks()
        OPTIONS.check("options", options)
        self._wanted = _wanted(options or {}, self.name)
        self._grab, self._check = grab or _opencv, check

    def connect(self, timeouts: Timeouts) -> CvConnection:
        """Open the device; raises `SourceError`."""
        path = self._address.location.reveal()
        self._check(Path(path), name=self.name)
        connection = CvConnection(
            lambda: self._grab(path), self._wanted, name=self.name, timeouts=timeouts, clocks=self._clocks
        )
        connection.open()
        return connection


class CvConnection:
    """One open device, read in a thread of its own because OpenCV waits as long as it likes."""

    def __init__(
        self,
        grab: Callable[[], Grabber],
        wanted: Mapping[int, float],
        *,
        name: str,
        timeouts: Timeouts,
        clocks: Clocks,
    ) -> None:
        self._grab, self._wanted, self._name = grab, wanted, name
        self._timeouts, self._clocks = timeouts, clocks
        self.losses: Counter[str] = Counter()
        self._handover: Handover[PictureArrival] = Handover()

    def open(self) -> None:
        """Start reading; raises `SourceError` when the device cannot be opened."""
        Thread(target=self._run, name=f"opencv {self._name}", daemon=True).start()
        late = SourceError(f"{self._name}: did not answer within {self._timeouts.open_s:g} s")
        try:
            self._handover.wait_opened(self._timeouts.open_s, late=lambda: late)
        except SourceError:
            self.close()
            raise

    def arrivals(self) -> Iterator[PictureArrival]:
        """Pictures as they come; raises `StalledError` when none comes in time."""
        late = StalledError(f"{self._name}: no picture for {self._timeouts.read_s:g} s")
        while (arrival := self._handover.take(self._timeouts.read_s, late=lambda: late)) is not None:
            yield arrival

    def close(self) -> None:
        """Want no more."""
        self._handover.close()

    def _run(self) -> None:
        failure: SourceError | None = None
        try:
            device = self._grab()
            try:
                failure = self._read(device)
            finally:
                device.release()
        except Exception as error:
            failure = SourceError(f"{self._name}: OpenCV failed ({type(error).__name__})")
        self._handover.end(failure)

    def _read(self, device: Grabber) -> SourceError | None:
        if not device.isOpened():
            return SourceError(f"{self._name} cannot be opened; it may be in use by another program")
        for what, value in self._wanted.items():
            device.set(what, value)
        if not self._handover.opened():
            return None
        while True:
            there, bgr = device.read()
            recv_ns, monotonic_ns = self._clocks.unix_ns(), self._clocks.monotonic_ns()
            if not there:
                return SourceError(f"{self._name} gives no more pictures; it may have been unplugged")
            arrival = PictureArrival(
                stamp_ns=None,
                recv_ns=recv_ns,
                monotonic_ns=monotonic_ns,
                width_px=int(bgr.shape[1]),
                height_px=int(bgr.shape[0]),
                paint=_turned(bgr),
            )
            if not self._handover.give(arrival):
                return None


def _turned(bgr: Any) -> Callable[[], RgbArray]:
    lock = Lock()

    def paint() -> RgbArray:
        with lock:
            return np.ascontiguousarray(bgr[:, :, ::-1])

    return paint


def _opencv(path: str) -> Grabber:
    import cv2  # here, because it takes a quarter of a second and few need it

    return cv2.VideoCapture(path, cv2.CAP_V4L2)


def _wanted(options: Mapping[str, str], name: str) -> dict[int, float]:
    """FFmpeg's options in OpenCV's numbers (CAP_PROP_FRAME_WIDTH, _HEIGHT, _FPS)."""
    wanted: dict[int, float] = {}
    try:
        if "video_size" in options:
            width, height = options["video_size"].lower().split("x")
            wanted |= {3: float(int(width)), 4: float(int(height))}
        if "framerate" in options:
            wanted[5] = float(options["framerate"])
    except ValueError:
        raise RefusedError(f"{name}: expected video_size=1280x720 and framerate=30") from None
    if unknown := sorted(set(options) - {"video_size", "framerate"}):
        raise RefusedError(f"{name}: OpenCV knows video_size and framerate only; got {', '.join(unknown)}")
    return wanted

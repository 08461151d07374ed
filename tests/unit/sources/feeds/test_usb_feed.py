from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds import Ingest, Timeouts
from molmo2_ground.sources.feeds.address import Address, Secret
from molmo2_ground.sources.feeds.av_feed import AvFeed
from molmo2_ground.sources.feeds.backoff import Backoff
from molmo2_ground.sources.feeds.failures import RefusedError
from molmo2_ground.sources.feeds.usb_feed import CvFeed, DeviceFeed, check_device, device_feed, explained

CAMERA = Address.of("/dev/video77")


class FakeGrabber:
    """OpenCV's VideoCapture: three pictures, then unplugged."""

    def __init__(self, *, opens: bool = True) -> None:
        self.opens, self.left, self.released = opens, 3, False
        self.asked: dict[int, float] = {}

    def isOpened(self) -> bool:
        return self.opens

    def read(self) -> tuple[bool, Any]:
        self.left -= 1
        blue_first = np.zeros((2, 4, 3), np.uint8)
        blue_first[..., 0] = 200
        return self.left >= 0, blue_first if self.left >= 0 else None

    def set(self, what: int, value: float) -> bool:
        self.asked[what] = value
        return True

    def release(self) -> None:
        self.released = True


def by_opencv(grabber: FakeGrabber, **options: str) -> CvFeed:
    return CvFeed(CAMERA, options=options, grab=lambda path: grabber, check=lambda *a, **k: None)


def test_ffmpeg_reads_a_device_where_it_can_and_opencv_where_it_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(av, "formats_available", {"video4linux2,v4l2", "mp4"})
    chosen = device_feed(CAMERA)
    assert isinstance(chosen, DeviceFeed)
    assert chosen.format == "v4l2"
    monkeypatch.setattr(av, "formats_available", {"mp4"})
    assert isinstance(device_feed(CAMERA), CvFeed)


def test_this_ffmpeg_knows_devices() -> None:
    assert isinstance(device_feed(CAMERA), DeviceFeed)


def test_a_camera_that_is_not_there_is_told_so_and_waited_for() -> None:
    with pytest.raises(SourceError, match="no such camera") as caught:
        device_feed(CAMERA).connect(Timeouts())
    assert not isinstance(caught.value, RefusedError)


def test_what_is_no_device_and_what_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "video0"
    file.write_bytes(b"")
    with pytest.raises(RefusedError, match="no device"):
        check_device(file, name="video0")
    monkeypatch.setattr(os, "access", lambda *a: False)
    with pytest.raises(RefusedError, match=r"permission denied.*group video"):
        check_device(Path("/dev/null"), name="video0")


def test_a_device_that_is_no_camera_is_an_error() -> None:
    feed = DeviceFeed(
        Address(kind="device", name="/dev/null", location=Secret("/dev/null")), format="video4linux2"
    )
    with pytest.raises(RefusedError, match="no camera"):
        feed.connect(Timeouts())


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EBUSY, "in use"), (errno.ENODEV, "unplugged"), (errno.ENOTTY, "no camera"), (errno.EIO, None)],
)
def test_errors_of_devices_in_words(number: int, words: str | None) -> None:
    told = explained(OSError(number, "x"), "/dev/video0")
    assert (told is None) == (words is None)
    assert words is None or words in str(told)


def test_opencv_gives_pictures_until_it_is_unplugged() -> None:
    grabber = FakeGrabber()
    feed = by_opencv(grabber, video_size="640x480", framerate="15")
    with Ingest(feed, policy="block", backoff=Backoff(attempts=0)) as ingest:
        captures = [ingest.take(10) for _ in range(3)]
        assert ingest.take(10) is None
    assert "unplugged" in str(ingest.failure)
    assert grabber.released
    assert grabber.asked == {3: 640, 4: 480, 5: 15}
    for capture in captures:
        assert capture is not None
        assert capture.stamped_by == "arrival"
        assert capture.paint()[0, 0].tolist() == [0, 0, 200]


def test_opencv_cannot_open_what_is_in_use() -> None:
    with pytest.raises(SourceError, match="in use"):
        by_opencv(FakeGrabber(opens=False)).connect(Timeouts())


@pytest.mark.parametrize(
    "options", [{"video_size": "big"}, {"framerate": "fast"}, {"input_format": "mjpeg"}], ids=str
)
def test_options_that_opencv_does_not_know_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match=r"expected|knows"):
        CvFeed(CAMERA, options=options)


@pytest.mark.slow
def test_ffmpegs_fake_camera_goes_the_way_of_a_real_one() -> None:
    fake = Address(kind="device", name="fake", location=Secret("testsrc=size=64x48:rate=50"))
    with Ingest(AvFeed(fake, format="lavfi"), policy="block") as ingest:
        captures = [ingest.take(10) for _ in range(5)]
    for capture in captures:
        assert capture is not None
        assert capture.paint().shape == (48, 64, 3)
    assert ingest.failure is None

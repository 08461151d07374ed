from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds import Timeouts, open_feed
from molmo2_ground.sources.feeds.av_feed import AvFeed
from molmo2_ground.sources.feeds.file_feed import FileFeed
from molmo2_ground.sources.feeds.given_feed import GivenFeed
from molmo2_ground.sources.feeds.usb_feed import DeviceFeed
from molmo2_ground.sources.feeds.zmq_feed import ZmqFeed
from tests.unit.sources.feeds.fake_feed import FakeFeed


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        pytest.param(0, DeviceFeed, "/dev/video0", id="number"),
        pytest.param("rtsp://u:p@cam/s?x=1", AvFeed, "rtsp://cam/s", id="rtsp"),
        pytest.param("udp://239.0.0.1:5000", AvFeed, "udp://239.0.0.1:5000", id="udp"),
        pytest.param("zmq+tcp://pi:5555", ZmqFeed, "zmq+tcp://pi:5555", id="zmq"),
        pytest.param("clips/a.mp4", FileFeed, "a.mp4", id="file"),
        pytest.param([np.zeros((2, 2, 3), np.uint8)], GivenFeed, "frames", id="list"),
        pytest.param(lambda: None, GivenFeed, "frames", id="function"),
    ],
)
def test_each_source_finds_its_feed(source: Any, kind: type, name: str) -> None:
    feed = open_feed(source)
    assert isinstance(feed, kind)
    assert feed.name == name
    assert open_feed(source, name="front door").name == "front door"


def test_a_feed_is_taken_as_it_is() -> None:
    feed = FakeFeed()
    assert open_feed(feed) is feed


@pytest.mark.parametrize("source", [1.5, None, pytest.param(object(), id="object")], ids=str)
def test_anything_else_is_refused(source: Any) -> None:
    with pytest.raises(SourceError, match="expected a camera"):
        open_feed(source)


@pytest.mark.slow
def test_the_door_loads_neither_ffmpeg_nor_zeromq() -> None:
    code = (
        "import sys; from molmo2_ground.sources.feeds import open_feed, Ingest\n"
        "assert not {'av', 'zmq', 'cv2', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("seconds", ["5", None, 0, -1.0, float("inf"), float("nan")])
def test_a_timeout_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ValueError, match="read_s is a finite number of seconds above 0; got"):
        Timeouts(read_s=seconds)

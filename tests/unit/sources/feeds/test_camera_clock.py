from __future__ import annotations

import logging
import struct
from fractions import Fraction
from types import SimpleNamespace

import pytest

from molmo2_ground.sources.feeds.camera_clock import CameraClock, grabbed_ns, told_ns
from molmo2_ground.sources.feeds.failures import StalledError

SECOND = 1_000_000_000
NOW = 1_790_000_000 * SECOND


class Packet:
    def __init__(self, data: bytes | None) -> None:
        self._data = data

    def has_sidedata(self, kind: str) -> bool:
        return kind == "prft" and self._data is not None

    def get_sidedata(self, kind: str) -> bytes:
        return self._data or b""


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        pytest.param(Packet(struct.pack("=qi", 1_790_000_000_000_000, 24)), NOW, id="told"),
        pytest.param(Packet(None), None, id="silent"),
        pytest.param(Packet(b"123"), None, id="cut-off"),
        pytest.param(object(), None, id="older-PyAV"),
    ],
)
def test_the_cameras_time_beside_a_packet(packet: object, expected: int | None) -> None:
    assert told_ns(packet) == expected


def test_a_device_tells_when_the_system_took_its_picture() -> None:
    packet = SimpleNamespace(pts=1_790_000_000_000_000, time_base=Fraction(1, 1_000_000))
    assert grabbed_ns(packet) == NOW
    assert grabbed_ns(SimpleNamespace(pts=None, time_base=None)) is None


def test_before_the_first_report_and_for_the_report_itself_the_arrival_counts() -> None:
    clock = CameraClock("cam")
    stamps = [clock.stamp_ns(told, recv_ns=NOW) for told in (None, None, NOW - 5, NOW - 4, NOW - 3)]
    assert stamps == [None, None, None, NOW - 4, NOW - 3]


def test_where_each_picture_tells_its_time_the_first_counts() -> None:
    clock = CameraClock("cam", each_tells=True)
    assert [clock.stamp_ns(NOW - n, recv_ns=NOW) for n in (5, 4)] == [NOW - 5, NOW - 4]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        pytest.param(NOW - SECOND, "", id="a-second-behind"),
        pytest.param(NOW + SECOND, "", id="a-second-ahead"),
        pytest.param(NOW - 3600 * SECOND, "3600.0 s behind ours", id="an-hour-behind"),
        pytest.param(NOW + 3600 * SECOND, "3600.0 s ahead of ours", id="an-hour-ahead"),
        pytest.param(50 * SECOND, "behind ours", id="never-set"),
    ],
)
@pytest.mark.parametrize("told_from_the_start", [True, False])
def test_a_clock_is_followed_when_it_is_near_ours(
    told: int, words: str, told_from_the_start: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock = CameraClock("cam")
    if not told_from_the_start:
        assert clock.stamp_ns(None, recv_ns=NOW) is None
    with caplog.at_level(logging.WARNING):
        stamps = [clock.stamp_ns(told + i, recv_ns=NOW + i) for i in range(3)]
    assert stamps == [None, *((None, None) if words else (told + 1, told + 2))]
    assert words in caplog.text
    assert len(caplog.records) == bool(words)


def test_a_clock_that_leaps_ahead_is_a_reason_to_connect_anew() -> None:
    clock = CameraClock("cam")
    assert [clock.stamp_ns(NOW, recv_ns=NOW) for _ in range(2)] == [None, NOW]
    with pytest.raises(StalledError, match=r"leapt ahead by 60.0 s"):
        clock.stamp_ns(NOW + 60 * SECOND, recv_ns=NOW)

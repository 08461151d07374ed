from __future__ import annotations

import logging
import struct

import pytest

from molmo2_ground.sources.feeds.camera_clock import CameraClock, told_ns

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


def test_before_the_first_report_and_for_the_report_itself_the_arrival_counts() -> None:
    clock = CameraClock("cam")
    stamps = [clock.stamp_ns(told, recv_ns=NOW) for told in (None, None, NOW - 5, NOW - 4, NOW - 3)]
    assert stamps == [None, None, None, NOW - 4, NOW - 3]


@pytest.mark.parametrize(
    ("told", "trusted"),
    [
        pytest.param(NOW - SECOND, True, id="a-second-behind"),
        pytest.param(NOW + 3600 * SECOND, True, id="an-hour-ahead"),
        pytest.param(NOW - 3600 * SECOND, False, id="an-hour-behind"),
        pytest.param(50 * SECOND, False, id="never-set"),
    ],
)
def test_a_clock_is_followed_unless_stamps_would_leap_back(
    told: int, trusted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock = CameraClock("cam")
    with caplog.at_level(logging.WARNING):
        stamps = [clock.stamp_ns(t, recv_ns=NOW + i) for i, t in enumerate((None, told, told + 1, told + 2))]
    assert stamps == [None, None, *((told + 1, told + 2) if trusted else (None, None))]
    assert ("3600.0 s behind" in caplog.text) == (told == NOW - 3600 * SECOND)


def test_a_clock_told_from_the_start_is_followed_however_wrong() -> None:
    clock = CameraClock("cam")
    told = NOW - 3600 * SECOND
    first = clock.stamp_ns(told, recv_ns=NOW)
    assert first is None

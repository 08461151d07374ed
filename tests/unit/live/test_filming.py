from __future__ import annotations

import io
from dataclasses import replace

import av
import av.logging
import pytest

from molmo2_ground.live.filming import Filming
from molmo2_ground.live.update import Update
from molmo2_ground.render.h264 import CodedPicture
from tests.live_updates import toy_updates


def at(update: Update, recv_ns: int) -> Update:
    return replace(update, capture=replace(update.capture, recv_ns=recv_ns, epoch=1))


def key_numbers(row: list[CodedPicture]) -> list[int]:
    """`idr_pic_id` of each key frame, as FFmpeg reads it from the bytes."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.TRACE)
    try:
        with (
            av.logging.Capture(local=False) as lines,
            av.open(io.BytesIO(b"".join(coded.data for coded in row)), mode="r", format="h264") as container,
        ):
            stream = container.streams.video[0]
            tracer = av.BitStreamFilterContext("trace_headers", stream)
            for packet in container.demux(stream):
                tracer.filter(packet)
    finally:
        av.logging.set_level(level)
    return [int(text.split("=")[-1]) for _, _, text in lines if "idr_pic_id" in text]


@pytest.mark.parametrize(
    ("arrivals_s", "keys"),
    [
        pytest.param([0, 1, 1.9, 2, 3, 4.1], [0, 3, 5], id="every-two-seconds"),
        pytest.param([10, 10.5, 3, 3.5, 5], [0, 2, 4], id="a-clock-set-back"),
        pytest.param([0, 9, 18], [0, 1, 2], id="a-slow-camera"),
    ],
)
def test_key_frames_come_by_the_time_of_arrival(arrivals_s: list[float], keys: list[int]) -> None:
    filming, update = Filming(), next(iter(toy_updates(1)))
    row = [filming.take(at(update, 10**18 + round(second * 1e9))) for second in arrivals_s]
    assert [number for number, coded in enumerate(row) if coded.is_key] == keys


def test_another_connection_and_the_first_of_a_file_begin_with_a_key_frame() -> None:
    filming, updates = Filming(), [*toy_updates(6)]  # the epoch changes at the fourth
    row = [filming.take(update, fresh=update.seq == 1) for update in updates]
    assert [coded.is_key for coded in row] == [True, True, False, True, False, False]


@pytest.mark.slow
def test_two_key_frames_in_a_row_never_have_one_number() -> None:
    large, small = [*toy_updates(8)], [*toy_updates(8, cropped=True)]
    filming = Filming()
    updates = (large[0], small[1], large[2], large[3], large[4], small[5], large[6])
    row = [filming.take(update) for update in updates]
    assert [coded.is_key for coded in row] == [True, True, True, False, True, True, True]
    numbers = key_numbers(row)
    assert len(numbers) == 6
    # The fourth follows a picture that is none, so it may have any number.
    for one, next_one in ((0, 1), (1, 2), (3, 4), (4, 5)):
        assert numbers[one] != numbers[next_one]

from __future__ import annotations

import re

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext

from molmo2_ground.clip import RgbArray
from molmo2_ground.render.h264 import CodedPicture, H264Encoder

_SPS, _PPS, _IDR, _SLICE = 7, 8, 5, 1


def picture(number: int, *, width_px: int = 64, height_px: int = 48) -> RgbArray:
    rows = np.arange(height_px)[:, None, None] * 2 + np.arange(width_px)[None, :, None] + 5 * number
    return np.broadcast_to((rows % 200 + 20), (height_px, width_px, 3)).astype(np.uint8)


def units(coded: CodedPicture) -> list[int]:
    """Kinds of the NAL units, by their start codes."""
    return [coded.data[found.end()] & 31 for found in re.finditer(b"\0\0\1", coded.data)]


def decoded(row: list[CodedPicture]) -> list[RgbArray]:
    reader = av.CodecContext.create("h264", "r")
    assert isinstance(reader, VideoCodecContext)
    frames = [frame for coded in row for frame in reader.decode(av.Packet(coded.data))]
    frames += reader.decode(None)
    return [np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8) for frame in frames]


def test_each_picture_comes_out_at_once_and_is_decoded_in_order() -> None:
    encoder = H264Encoder(width_px=64, height_px=48)
    back = decoded([encoder.encode(picture(number)) for number in range(12)])
    assert len(back) == 12
    for number, rgb in enumerate(back):
        near = [np.abs(rgb.astype(int) - picture(other)).mean() for other in range(12)]
        assert int(np.argmin(near)) == number
        assert near[number] < 6


def test_a_key_frame_carries_its_parameter_sets_and_can_be_read_without_what_was_before() -> None:
    encoder = H264Encoder(width_px=64, height_px=48)
    row = [encoder.encode(picture(number), key=number == 5) for number in range(8)]
    assert [coded.is_key for coded in row] == [number in (0, 5) for number in range(8)]
    for coded in row:
        kinds = units(coded)
        assert coded.data.startswith(b"\0\0\0\1")
        assert ({_SPS, _PPS, _IDR} <= set(kinds)) == coded.is_key
        assert (_SLICE in kinds) != coded.is_key
    assert len(decoded(row[5:])) == 3


@pytest.mark.parametrize(("width_px", "height_px"), [(63, 48), (64, 47), (63, 47)])
def test_an_odd_size_gets_one_more_row_or_column(width_px: int, height_px: int) -> None:
    encoder = H264Encoder(width_px=width_px, height_px=height_px)
    rgb = picture(1, width_px=width_px, height_px=height_px)
    (back,) = decoded([encoder.encode(rgb)])
    assert back.shape == (48, 64, 3)
    assert np.abs(back[:height_px, :width_px].astype(int) - rgb).mean() < 6


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        H264Encoder(width_px=64, height_px=48).encode(picture(0, width_px=32))

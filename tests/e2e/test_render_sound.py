"""Sound beside the drawn pictures: there, in step, and copied where that is possible."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.audio.stream import AudioStream

from molmo2_ground.render import render
from tests import media as shelf
from tests.found import tracks
from tests.media import Shelf

RATE_HZ = 48000


def _write(
    path: Path, *, codec: str, layout: str = "mono", picture_s: float = 0.0, sound_s: float = 0.0
) -> Path:
    """Three seconds of grey from `picture_s` on, and of sound with a click a second from `sound_s` on."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream(codec, rate=RATE_HZ, layout=layout)
        container.start_encoding()
        assert isinstance(audio, AudioStream)
        packets: list[av.Packet[Any]] = []
        for i in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = round((picture_s + i / 10) * 1000), Fraction(1, 1000)
            packets += video.encode(frame)
        packets += video.encode(None)
        resampler = av.AudioResampler(
            format=audio.format.name,
            layout=layout,
            rate=RATE_HZ,
            frame_size=audio.codec_context.frame_size or None,
        )
        for block in [*resampler.resample(_clicks(sound_s)), *resampler.resample(None)]:
            packets += audio.encode(block)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * (p.time_base or 0))):
            container.mux(packet)
    return path


def _clicks(sound_s: float) -> av.AudioFrame:
    samples = np.zeros(3 * RATE_HZ, dtype=np.int16)
    burst = (12000 * np.sign(np.sin(np.arange(600) * 0.4))).astype(np.int16)
    for second in range(3):
        samples[second * RATE_HZ : second * RATE_HZ + 600] = burst
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, round(sound_s * RATE_HZ), Fraction(1, RATE_HZ)
    return frame


def _click_times_s(path: Path) -> list[float]:
    found: list[float] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud: npt.NDArray[np.intp] = np.flatnonzero(_loudness(frame) > 0.12)
            for at in loud:
                time_s = float(frame.time or 0.0) + int(at) / frame.sample_rate
                if not found or time_s > found[-1] + 0.5:
                    found.append(time_s)
    return found


def _loudness(frame: av.AudioFrame) -> npt.NDArray[np.float64]:
    samples = frame.to_ndarray()
    scale = 1.0 if samples.dtype.kind == "f" else float(np.iinfo(samples.dtype.name).max)
    channels = samples if frame.format.is_planar else samples.reshape(-1, len(frame.layout.channels)).T
    return np.asarray(np.abs(channels.astype(np.float64) / scale).max(axis=0))


def _codec(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.audio[0].codec_context.codec.canonical_name


def _packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize(
    ("name", "codec", "expected"),
    [
        pytest.param("a.mp4", "aac", "aac", id="aac is copied"),
        pytest.param("a.mp4", "libmp3lame", "mp3", id="mp3 is copied"),
        pytest.param("a.mkv", "libopus", "opus", id="opus is copied"),
        pytest.param("a.mov", "pcm_s16le", "aac", id="pcm becomes aac"),
        pytest.param("a.mkv", "flac", "aac", id="flac becomes aac"),
        pytest.param("a.ts", "mp2", "aac", id="mp2 becomes aac"),
    ],
)
def test_sound_is_kept_and_in_step(name: str, codec: str, expected: str, tmp_path: Path) -> None:
    source = _write(tmp_path / name, codec=codec)
    out = render(source, tracks(), tmp_path / "out.mp4")
    assert _codec(out) == expected
    assert _click_times_s(out) == pytest.approx([0.0, 1.0, 2.0], abs=0.02)
    if codec != "aac" and expected != "aac":
        assert _packets(out) == _packets(source)


def test_copied_aac_is_the_same_bytes(tmp_path: Path) -> None:
    source = _write(tmp_path / "a.mp4", codec="aac", layout="stereo")
    assert _packets(render(source, tracks(), tmp_path / "out.mp4")) == _packets(source)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
@pytest.mark.parametrize(
    ("picture_s", "sound_s", "clicks_s"),
    [
        pytest.param(2.0, 1.0, [0.0, 1.0], id="sound began before the first picture"),
        pytest.param(0.0, 0.7, [0.7, 1.7, 2.7], id="sound begins later"),
        pytest.param(1.5, 1.5, [0.0, 1.0, 2.0], id="both begin late"),
    ],
)
def test_time_zero_is_the_first_picture(
    codec: str, picture_s: float, sound_s: float, clicks_s: list[float], tmp_path: Path
) -> None:
    source = _write(tmp_path / "a.mkv", codec=codec, picture_s=picture_s, sound_s=sound_s)
    assert _click_times_s(render(source, tracks(), tmp_path / "out.mp4")) == pytest.approx(clicks_s, abs=0.03)


def test_a_silent_source_stays_without_a_sound_track(media: Shelf, tmp_path: Path) -> None:
    with av.open(str(render(media(shelf.constant_rate), tracks(), tmp_path / "out.mp4"))) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.slow
def test_damaged_sound_does_not_cost_the_pictures(tmp_path: Path) -> None:
    source = _write(tmp_path / "a.mkv", codec="flac")
    data = bytearray(source.read_bytes())
    for packet in _packets(source)[8:16]:
        at = data.index(packet)
        data[at : at + len(packet)] = bytes(len(packet))
    source.write_bytes(data)
    out = render(source, tracks(), tmp_path / "out.mp4")
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30
    assert _click_times_s(out)[-1] == pytest.approx(2.0, abs=0.02)

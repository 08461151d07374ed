"""Whole videos drawn on, read again with an independent reader, and looked at."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.video.stream
import numpy as np
import numpy.typing as npt
import pytest

from molmo2_ground.clip import Clip
from molmo2_ground.errors import SourceError
from molmo2_ground.render import colour_of, render
from molmo2_ground.results import Tracks
from tests import media as shelf
from tests.found import track, tracks
from tests.media import Shelf

Rgb8 = npt.NDArray[np.uint8]

SIZE_PX = (320, 180)
FPS = 20
LOOKED_S = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
# Seen at 0, 0.5 and 1 s, hidden at 1.5 and 2 s, seen again at 2.5 and 3 s; 80 px a second to the right.
SEEN = {t: (40.0 + 80 * t, 90.0) for t in LOOKED_S if t not in (1.5, 2.0)}


def _car(size_px: tuple[int, int] = SIZE_PX) -> Tracks:
    return tracks(track(SEEN, size_px=SIZE_PX), looked_s=LOOKED_S, size_px=size_px, fps=float(FPS))


def _grey_video(
    path: Path, *, size_px: tuple[int, int] = SIZE_PX, frame_count: int = 65, **options: Any
) -> Path:
    grey = np.full((size_px[1], size_px[0], 3), 128, dtype=np.uint8)
    shelf.write_video(path, frame_count=frame_count, fps=FPS, size_px=size_px, draw=lambda _: grey, **options)
    return path


def _shown(path: Path) -> list[tuple[float, Rgb8]]:
    with av.open(str(path)) as container:
        return [
            (float(frame.time or 0.0), np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8))
            for frame in container.decode(video=0)
        ]


def _times_s(path: Path) -> list[float]:
    return [round(time_s, 4) for time_s, _ in _shown(path)]


def _is_near(pixel: Rgb8, colour: tuple[int, int, int]) -> bool:
    # H.264 stores colour at half the resolution and rounds it.
    return bool(np.abs(pixel.astype(int) - colour).max() <= 40)


@pytest.mark.slow
def test_the_file_is_what_every_browser_plays(tmp_path: Path) -> None:
    source = _grey_video(tmp_path / "street.mp4")
    out = render(source, _car(), tmp_path / "out.mp4")
    assert out == tmp_path / "out.mp4"
    with av.open(str(out)) as container:
        (stream,) = container.streams
        assert isinstance(stream, av.video.stream.VideoStream)
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == SIZE_PX
        assert stream.average_rate == FPS
        assert stream.duration is not None
        assert stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(65 / FPS, abs=1e-3)
    data = out.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.slow
def test_dots_sit_on_the_object_and_hide_while_it_is_hidden(tmp_path: Path) -> None:
    source = _grey_video(tmp_path / "street.mp4", size_px=(640, 360))
    out = render(source, _car(), tmp_path / "out.mp4", trail_s=0)
    shown = _shown(out)
    assert len(shown) == 65
    for time_s, rgb in shown:
        column = int(2 * (40 + 80 * time_s))
        if any(abs(time_s - t) < 1e-6 for t in SEEN):
            assert _is_near(rgb[180, column], colour_of(1)), time_s
        elif time_s < 1.0 or 2.5 < time_s < 3.0:
            assert _is_near(rgb[180, column], (128, 128, 128)), time_s
            ring = rgb[170:191, column - 10 : column + 11].reshape(-1, 3)
            assert any(_is_near(pixel, colour_of(1)) for pixel in ring), time_s
        else:
            assert np.abs(rgb[40:300].astype(int) - 128).max() <= 12, time_s


@pytest.mark.parametrize(
    ("write", "times_s"),
    [
        pytest.param(shelf.constant_rate, [i / 10 for i in range(12)], id="constant rate"),
        pytest.param(shelf.variable_rate, shelf.VARIABLE_TIMES_S, id="variable rate"),
        pytest.param(shelf.variable_rate_b_frames, shelf.VARIABLE_TIMES_S, id="variable rate with B-frames"),
        pytest.param(shelf.edit_list, [i / 10 for i in range(7)], id="edit list"),
        pytest.param(shelf.late_start, [i / 10 for i in range(12)], id="late start"),
        pytest.param(shelf.transport_stream, [i / 10 for i in range(12)], id="transport stream"),
        pytest.param(shelf.no_duration, [i / 10 for i in range(12)], id="no duration in the header"),
        pytest.param(shelf.raw_h264, [i / 25 for i in range(12)], id="raw stream"),
        pytest.param(shelf.one_frame, [0.0], id="one frame"),
        pytest.param(shelf.animated_gif, [0.0, 0.1, 0.3, 0.6], id="animated picture"),
    ],
)
def test_frames_keep_their_times(
    write: Callable[..., None], times_s: list[float], media: Shelf, tmp_path: Path
) -> None:
    out = render(media(write), tracks(), tmp_path / "out.mp4")
    assert _times_s(out) == pytest.approx(times_s, abs=1e-4)


@pytest.mark.parametrize(
    "fps", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60), Fraction(7)], ids=str
)
def test_broadcast_rates_are_kept_exactly(fps: Fraction, tmp_path: Path) -> None:
    frames = np.zeros((20, 32, 32, 3), dtype=np.uint8)
    clip = Clip.from_arrays(frames, fps=float(fps))
    out = render(clip, tracks(), tmp_path / "out.mp4")
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        times = [Fraction(frame.pts) * frame.time_base for frame in container.decode(stream)]  # type: ignore[arg-type, operator]
    assert max(abs(time_s - i / fps) for i, time_s in enumerate(times)) < Fraction(1, 300_000)


@pytest.mark.parametrize(
    ("write", "size_px", "shown_px"),
    [
        pytest.param(shelf.rotated, (64, 96), (64, 96), id="a phone held upright"),
        pytest.param(shelf.anamorphic, (128, 64), (128, 64), id="wide pixels"),
        pytest.param(shelf.odd_size, (97, 63), (98, 64), id="odd sizes get one more pixel"),
        pytest.param(shelf.ten_bit, (96, 64), (96, 64), id="ten bit"),
        pytest.param(shelf.size_change, (96, 64), (96, 64), id="size changes midway"),
    ],
)
def test_the_size_is_that_which_a_player_shows(
    write: Callable[..., None],
    size_px: tuple[int, int],
    shown_px: tuple[int, int],
    media: Shelf,
    tmp_path: Path,
) -> None:
    spot_px = (size_px[0] * 0.75, size_px[1] * 0.4)
    result = tracks(track({0.0: spot_px}, size_px=size_px), looked_s=[0.0], size_px=size_px)
    shown = _shown(render(media(write), result, tmp_path / "out.mp4"))
    first = shown[0][1]
    assert first.shape[1::-1] == shown_px
    assert _is_near(first[int(spot_px[1]), int(spot_px[0])], colour_of(1))
    assert shelf.is_upright(shown[-1][1])


def test_the_column_added_to_an_odd_size_repeats_the_last_one(tmp_path: Path) -> None:
    stripes = np.zeros((1, 63, 97, 3), dtype=np.uint8)
    stripes[:, :, 96], stripes[:, 62, :] = 255, 255
    (shown,) = _shown(render(Clip.from_arrays(stripes, fps=1), tracks(query=""), tmp_path / "out.mp4"))
    assert (shown[1][20:62, 97] > 220).all()
    assert (shown[1][63, 20:] > 220).all()


def test_frames_of_a_clip_are_drawn_at_their_own_size(tmp_path: Path) -> None:
    small = Clip.from_arrays(np.full((4, 36, 64, 3), 128, dtype=np.uint8), times_s=[0.0, 0.5, 1.0, 1.5])
    shown = _shown(render(small, _car(), tmp_path / "out.mov"))
    assert [time_s for time_s, _ in shown] == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert _is_near(shown[1][1][18, 16], colour_of(1))


# ---------------------------------------------------------------- nothing half done


class _StopError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("reason", [KeyboardInterrupt, _StopError, MemoryError])
@pytest.mark.parametrize("before", [None, b"an older result"], ids=["new file", "older file"])
def test_stopped_in_the_middle_leaves_what_was_there(
    reason: type[BaseException], before: bytes | None, tmp_path: Path
) -> None:
    source, out = _grey_video(tmp_path / "street.mp4", sound=True), tmp_path / "out" / "out.mp4"
    out.parent.mkdir()
    if before is not None:
        out.write_bytes(before)

    def stop(share: float) -> None:
        if share > 0.4:
            raise reason

    with pytest.raises(reason):
        render(source, _car(), out, on_progress=stop)
    assert [path.read_bytes() for path in out.parent.iterdir()] == ([] if before is None else [before])


@pytest.mark.slow
def test_progress_rises_to_one(tmp_path: Path) -> None:
    heard: list[float] = []
    render(_grey_video(tmp_path / "street.mp4"), _car(), tmp_path / "out.mp4", on_progress=heard.append)
    assert heard == sorted(set(heard))
    assert heard[-1] == 1.0
    assert len(heard) > 20


@pytest.mark.parametrize(
    "write", [shelf.empty, shelf.renamed_text, shelf.zero_frames, shelf.audio_only, shelf.truncated_no_header]
)
def test_what_is_no_video_leaves_no_file(write: Callable[..., None], media: Shelf, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        render(media(write), _car(), tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_video_gives_the_frames_it_has(media: Shelf, tmp_path: Path) -> None:
    shown = _shown(render(media(shelf.truncated_tail), tracks(), tmp_path / "out.mp4"))
    assert 20 < len(shown) < 60


def test_a_video_is_not_written_over_itself(tmp_path: Path) -> None:
    source = _grey_video(tmp_path / "street.mp4", frame_count=3)
    before = source.read_bytes()
    link = tmp_path / "link.mp4"
    link.symlink_to(source)
    for target in (source, link):
        with pytest.raises(ValueError, match="source itself"):
            render(source, _car(), target)
    assert source.read_bytes() == before


@pytest.mark.parametrize("name", ["out.avi", "out", "out.gif", "out.mp4.txt"])
def test_other_suffixes_are_refused_before_any_work(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.mp4.*got"):
        render(tmp_path / "missing.mp4", _car(), tmp_path / name)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    source = _grey_video(tmp_path / "street.mp4", frame_count=3)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        render(source, tracks(), tmp_path / "nowhere" / "out.mp4")

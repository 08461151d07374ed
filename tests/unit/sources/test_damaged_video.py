"""Files that cannot be read, or only in part."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import av
import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.sources import iter_frames, open_clip, open_windows, probe
from tests import media as files
from tests.media import Shelf, Writer, picture_number

UNREADABLE = [
    pytest.param(files.empty, "is empty", id="empty"),
    pytest.param(files.renamed_text, "its content is none of these", id="renamed-text"),
    pytest.param(files.text, "its content is none of these", id="text"),
    pytest.param(files.playlist, "its content is none of these", id="playlist-that-opens-other-files"),
    pytest.param(files.truncated_no_header, "was cut short", id="no-moov"),
    pytest.param(files.audio_only, "sound but no picture", id="audio-only"),
    pytest.param(files.cover_art, "sound but no picture", id="cover-art"),
    pytest.param(files.zero_frames, "no frame in it", id="zero-frames"),
    pytest.param(files.gigantic, "60000×50000", id="gigantic-mp4"),
    pytest.param(files.gigantic_avi, "larger than can be read", id="gigantic-avi"),
    pytest.param(files.gigantic_gif, "gigantic", id="gigantic-gif"),
]


@pytest.mark.parametrize(("write", "message"), UNREADABLE)
def test_what_cannot_be_read_is_one_clear_line(
    media: Shelf, write: Writer, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = media(write)
    for read in (open_clip, probe, lambda p: list(iter_frames(p))):
        with pytest.raises(SourceError, match=re.escape(message)) as caught:
            read(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "FFmpeg is to keep quiet"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no file .*nowhere\.mp4"):
        open_clip(tmp_path / "nowhere.mp4")


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(SourceError, match="no regular file"):
        open_clip(pipe)


@pytest.mark.parametrize("address", ["rtsp://camera/1", "https://host/clip.mp4"])
def test_an_address_is_told_from_a_file(address: str) -> None:
    with pytest.raises(SourceError, match="got an address"):
        open_clip(address)


def test_a_heic_photo_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(400))
    with pytest.raises(SourceError, match=r"photo\.heic is a HEIC photo.*JPEG"):
        open_clip(path)


def test_a_name_outside_any_alphabet_is_read(media: Shelf, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"clip \xff \xe8\xbb\x8a.mp4")
    path.write_bytes(media(files.constant_rate).read_bytes())
    assert [picture_number(frame.rgb) for frame in open_clip(path).frames] == [0, 5, 10, 11]


def test_a_file_cut_anywhere_is_an_error_or_gives_true_frames(tmp_path: Path, media: Shelf) -> None:
    healthy = media(files.b_frames).read_bytes()
    errors = 0
    for cut in range(0, len(healthy), 97):
        path = tmp_path / "cut.mp4"
        path.write_bytes(healthy[:cut])
        try:
            assert [picture_number(frame.rgb) for frame in open_clip(path).frames] == [0, 5, 10, 11]
        except SourceError:
            errors += 1
    assert errors > len(healthy) // 97 // 2


@pytest.mark.parametrize("step", [101, 211])
def test_single_wrong_bytes_are_an_error_or_frames(tmp_path: Path, media: Shelf, step: int) -> None:
    healthy = media(files.b_frames).read_bytes()
    opened = 0
    for place in range(0, len(healthy), step):
        data = bytearray(healthy)
        data[place] ^= 0xA5
        path = tmp_path / "bent.mp4"
        path.write_bytes(data)
        with contextlib.suppress(SourceError):
            opened += len(open_clip(path)) > 0
    assert opened > 0


def test_damage_in_the_middle_gives_what_is_there_and_says_what_is_lost(media: Shelf) -> None:
    path = media(files.damaged_middle)
    clip = open_clip(path)
    assert clip.duration_s == pytest.approx(6.0)
    told = "; ".join(clip.lost)
    lost = re.search(r"(\d+) frames between (2\.\d+) s and (3\.\d+) s could not be decoded", told)
    assert lost is not None, told
    assert "wanted times left out" in told
    assert "damaged and shown as far as readable" in told
    # No time inside the hole is answered with a frame from before it, and frames keep their numbers.
    hole = (float(lost[2]), float(lost[3]))
    assert not [t for t in clip.shown_times_s if hole[0] <= t <= hole[1]]
    sound = [f for f in clip.frames if f.time_s is not None and not 1.9 < f.time_s < 4.0]
    assert len(sound) >= 8
    for frame in sound:
        assert picture_number(frame.rgb) == frame.source_index == round((frame.time_s or 0) * 10)


def test_every_frame_of_a_damaged_file_has_the_number_that_sampling_gives_it(media: Shelf) -> None:
    path = media(files.damaged_middle)
    lost: list[str] = []
    frames = {frame.source_index: frame.time_s for frame in iter_frames(path, on_lost=lost.append)}
    for frame in open_clip(path).frames:
        assert frames[frame.source_index] == frame.time_s
    assert any("could not be decoded" in line for line in lost)
    assert 60 - len(frames) == 13


def test_a_hole_that_hides_its_frames_is_told_by_its_times(media: Shelf) -> None:
    clip = open_clip(media(files.damaged_middle_mkv))
    assert any(line.startswith("nothing could be read between 2.") for line in clip.lost), clip.lost
    assert not [t for t in clip.shown_times_s if 2.2 < t < 3.9]
    assert [picture_number(f.rgb) for f in clip.frames if (f.time_s or 0) >= 4] == [40, 45, 50, 55, 59]


def test_frames_lost_from_an_avi_shift_nothing_behind_the_next_key_frame(
    tmp_path: Path, media: Shelf
) -> None:
    path = media(files.avi_b_frames, frame_count=30)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[8:11]:  # of the second group of pictures, which begins with number 6
        assert packet.pos is not None
        # Not the chunk's name and size: without them the reader loses count of chunks.
        data[packet.pos + 8 : packet.pos + packet.size] = bytes(packet.size - 8)
    hurt = tmp_path / "hurt.avi"
    hurt.write_bytes(data)
    lost: list[str] = []
    frames = list(iter_frames(hurt, on_lost=lost.append))
    sound = [f for f in frames if not 0.6 < (f.time_s or 0) < 1.2]
    assert [picture_number(f.rgb) for f in sound] == [*range(7), *range(12, 30)]
    for frame in sound:
        assert picture_number(frame.rgb) == frame.source_index == round((frame.time_s or 0) * 10)
    assert any("could not be decoded" in line for line in lost), lost


def test_a_file_without_its_tail_ends_where_its_frames_end(media: Shelf) -> None:
    clip = open_clip(media(files.truncated_tail))
    held = re.search(r"cut short: it holds (\d+) of 60 frames", clip.lost[0])
    assert held is not None, clip.lost
    assert clip.duration_s == pytest.approx(int(held[1]) / 10)
    assert [picture_number(frame.rgb) for frame in clip.frames] == [0, 5, 10, 15, 20, 25]
    assert probe(media(files.truncated_tail)).lost == (clip.lost[0],)


def test_a_matroska_file_without_its_tail_is_compared_with_its_header(tmp_path: Path) -> None:
    longer = tmp_path / "longer.mkv"
    files.write_video(longer, frame_count=60, b_frames=2)
    data = longer.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    clip = open_clip(cut)
    assert re.match(r"the file ends at \d\.\d+ s; its header promises 6\.00 s", clip.lost[0]), clip.lost
    assert clip.duration_s is not None
    assert clip.duration_s < 5.0


def test_an_animation_without_its_tail_gives_the_frames_it_has(media: Shelf, tmp_path: Path) -> None:
    data = media(files.animated_gif).read_bytes()
    cut = tmp_path / "cut.gif"
    cut.write_bytes(data[: len(data) - 30])
    clip = open_clip(cut)
    assert len(clip) >= 1
    assert picture_number(clip.frames[0].rgb) == 0


def test_damage_is_told_in_the_window_where_it_lies(media: Shelf) -> None:
    windows = list(open_windows(media(files.damaged_middle), rate=2, window_frames=3, overlap_frames=0))
    assert windows[0].lost == ()
    assert any("could not be decoded" in line for window in windows[1:3] for line in window.lost)
    assert windows[-1].lost == ()

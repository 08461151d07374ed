from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from molmo2_ground.analytics import Zone
from molmo2_ground.clip import RgbArray
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.live.clip_file import write_clip
from molmo2_ground.live.clip_ring import ClipRing
from molmo2_ground.live.kept_pictures import KeptPicture, KeptPictures, from_jpeg, to_jpeg
from molmo2_ground.live.update import Update, WatchEvent
from molmo2_ground.live.watch import Watch
from molmo2_ground.live.watching import Watching
from tests.hand_updates import START_NS, capture, update

RED = Zone(name="red", polygon=((50, 0), (100, 0), (100, 100), (50, 100)))
IN, OUT = (80.0, 50.0), (20.0, 50.0)
TIMES_S = [0.0, 0.1, 0.2, 0.35, 0.4, 0.5, 0.65, 0.7, 0.8, 0.9, 1.0]


def gray(time_s: float) -> RgbArray:
    """A picture whose shade tells its time."""
    return np.full((100, 160, 3), round(time_s * 200) + 20, dtype=np.uint8)


def updates(*, enters_s: float = 0.5, epoch: int = 1) -> Iterator[Update]:
    for time_s in TIMES_S:
        place = IN if time_s >= enters_s else OUT
        taken = capture(time_s, epoch=epoch, picture=gray(time_s))
        yield update(time_s, {7: place}, looks=time_s == 0.0, capture=taken)


def run(ring: ClipRing, made: Iterator[Update]) -> list[WatchEvent]:
    watching = Watching([Watch.enters(RED, name="Red zone!")])
    return [event for one in made for event in ring.take(one, watching.take(one))]


def test_a_clip_holds_what_came_before_and_after_at_its_true_times(tmp_path: Path) -> None:
    with ClipRing(tmp_path, before_s=0.3, after_s=0.2, fps=30, waits=True) as ring:
        (event,) = run(ring, updates())
    assert event.clip == "20231114T221320.500Z_red-zone_7.mp4"
    stem = event.clip.removesuffix(".mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{stem}.json", f"{stem}.mp4"]
    at_s = event.event.time_s  # between 0.4 and 0.5 s, half way in space
    assert at_s == pytest.approx(0.45)
    with av.open(str(tmp_path / event.clip)) as file:
        frames = list(file.decode(video=0))
    times = [frame.time for frame in frames]
    assert times == pytest.approx([0.0, 0.15, 0.2, 0.3, 0.45], abs=1e-4)
    shades = [frame.to_ndarray(format="rgb24").mean() for frame in frames]
    assert shades == pytest.approx([60, 90, 100, 120, 150], abs=4)
    receipt = json.loads((tmp_path / event.clip).with_suffix(".json").read_text(encoding="utf-8"))
    assert receipt["event"]["kind"] == "zone_entered"
    assert receipt["look"]["stamp_ns"] == START_NS == event.receipt_of
    assert receipt["look"]["receipt"]["query"] == "the red car"
    assert receipt["event_at_s"] == pytest.approx(at_s - 0.2)
    assert [p["stamp_ns"] for p in receipt["pictures"]][:2] == [
        START_NS + 200_000_000,
        START_NS + 350_000_000,
    ]
    assert (receipt["clip"], ring.written, ring.failed, ring.missed) == (event.clip, 1, 0, 0)


def test_a_clip_is_written_as_soon_as_its_time_is_full(tmp_path: Path) -> None:
    with ClipRing(tmp_path, before_s=0.3, after_s=0.2, fps=30, waits=True) as ring:
        (event,) = run(ring, updates())
        with ring._lock:
            assert ring._lock.wait_for(lambda: ring.written == 1, timeout=20)
        assert event.clip is not None
        assert (tmp_path / event.clip).exists()


@pytest.mark.parametrize(
    ("waits", "pictures"), [pytest.param(True, 6, id="a-film"), pytest.param(False, 5, id="a-camera")]
)
def test_a_clip_of_what_waits_for_us_waits_for_its_last_picture(
    tmp_path: Path, waits: bool, pictures: int
) -> None:
    passed_s = 0.0
    clocks = Clocks(monotonic_ns=lambda: round(passed_s * 1e9))
    with ClipRing(tmp_path, before_s=0.3, after_s=0.3, fps=30, waits=waits, clocks=clocks) as ring:
        watching = Watching([Watch.enters(RED, name="red")])
        for one in updates():
            if one.time_s > 0.65:  # so slow is the model, or the camera is gone for so long
                with ring._lock:
                    passed_s += 100.0
                    ring._lock.notify_all()
                    ring._lock.wait_for(lambda: ring.written == 1, timeout=0.05 if waits else 20)
            ring.take(one, watching.take(one))
            with ring._lock:  # or a camera that is faster than the encoder misses some
                assert ring._lock.wait_for(lambda: not (ring._raw or ring._making), timeout=20)
    (receipt,) = tmp_path.glob("*.json")
    assert len(json.loads(receipt.read_text(encoding="utf-8"))["pictures"]) == pictures


def test_pictures_are_thinned_to_the_rate(tmp_path: Path) -> None:
    with ClipRing(tmp_path, before_s=5, after_s=5, fps=5, waits=True) as ring:
        (event,) = run(ring, updates())
    assert event.clip is not None
    receipt = json.loads((tmp_path / event.clip).with_suffix(".json").read_text(encoding="utf-8"))
    assert [p["at_s"] for p in receipt["pictures"]] == [0.0, 0.2, 0.4, 0.65, 0.9]


def test_an_event_that_is_told_late_has_its_clip_around_the_telling(tmp_path: Path) -> None:
    watching = Watching([Watch.stays(RED, 20.0)])
    with ClipRing(tmp_path, before_s=1.0, after_s=0.5, fps=10, waits=True) as ring:
        for step in range(60):
            made = update(step / 2, {7: IN}, looks=step == 0)
            ring.take(made, watching.take(made))
    (path,) = tmp_path.glob("*.json")
    receipt = json.loads(path.read_text(encoding="utf-8"))
    assert [p["stamp_ns"] - START_NS for p in receipt["pictures"]] == [
        19_000_000_000, 19_500_000_000, 20_000_000_000, 20_500_000_000,
    ]  # fmt: skip
    assert receipt["event_at_s"] == -19.0


def test_a_folder_that_is_gone_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    with caplog.at_level(logging.WARNING), ClipRing(folder, before_s=0.3, after_s=0.1, waits=True) as ring:
        folder.rmdir()
        for epoch in (1, 2, 3):
            assert len(run(ring, updates(epoch=epoch))) == 1
    assert (ring.failed, ring.written) == (3, 0)
    assert len(caplog.records) == 1
    assert "could not be written" in caplog.text
    assert "does not exist" in caplog.text


def test_a_full_disk_is_told_again_after_it_had_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = write_clip, [True, True, False, True]

    def write(path: Path, pictures: tuple[KeptPicture, ...]) -> None:
        if full.pop(0):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, pictures)

    monkeypatch.setattr("molmo2_ground.live.clip_ring.write_clip", write)
    with caplog.at_level(logging.WARNING), ClipRing(tmp_path, before_s=0.3, after_s=0.1, waits=True) as ring:
        for epoch in range(4):
            run(ring, updates(epoch=epoch))
    assert (ring.failed, ring.written) == (3, 1)
    assert [("No space" in record.getMessage()) for record in caplog.records] == [True, True]


def test_a_picture_that_cannot_be_painted_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> RgbArray:
        raise SourceError("damaged")

    with caplog.at_level(logging.WARNING), ClipRing(tmp_path, before_s=0.3, after_s=0.1, waits=True) as ring:
        ring.take(update(0.0, capture=capture(0.0, paint=broken)))
    assert (ring.failed, ring.missed) == (1, 0)
    assert "a picture could not be kept: damaged" in caplog.text


def test_an_event_at_no_time_has_no_clip_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watching = Watching([Watch.enters(RED)])
    with ClipRing(tmp_path, waits=True) as ring:
        told: list[WatchEvent] = []
        for one in updates():
            odd = replace(one, capture=replace(one.capture, stamp_ns=one.capture.stamp_ns * 1000))
            told += ring.take(odd, watching.take(one))
    assert [event.clip for event in told] == [None]
    assert ring.failed == 1
    assert "no clip of" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_two_events_of_one_picture_have_two_names(tmp_path: Path) -> None:
    with ClipRing(tmp_path, before_s=0.3, after_s=0.1, waits=True) as ring:
        for epoch in (1, 2):
            run(ring, updates(epoch=epoch))
    names = sorted(path.name for path in tmp_path.glob("*.mp4"))
    assert names == ["20231114T221320.500Z_red-zone_7-2.mp4", "20231114T221320.500Z_red-zone_7.mp4"]


def test_a_folder_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ClipRing(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="before_s is from 0 to 300 seconds; got 301"):
        ClipRing(tmp_path, before_s=301)
    with pytest.raises(ValueError, match="fps is above 0"):
        ClipRing(tmp_path, fps=0)


def kept(time_s: float, *, size: int = 10, run: int = 0) -> KeptPicture:
    return KeptPicture(run=run, time_s=time_s, stamp_ns=0, source_index=0, jpeg=bytes(size))


def test_the_ring_is_bounded_in_seconds_and_bytes() -> None:
    ring = KeptPictures(span_s=1.0, max_bytes=55)
    for step in range(100):
        ring.add(kept(step / 4))
        assert ring.size_bytes <= 50
    assert [p.time_s for p in ring.between(0, 99)] == [23.75, 24.0, 24.25, 24.5, 24.75]
    assert ring.shortened == 0
    ring.add(kept(25.0, size=40))
    assert (ring.size_bytes, ring.shortened) == (50, 3)
    ring.add(kept(25.1, size=56))
    assert ring.size_bytes == 0


def test_pictures_of_the_run_before_stay_for_a_while() -> None:
    ring = KeptPictures(span_s=1.0, max_bytes=1000)
    for time_s, number in ((8.0, 0), (8.5, 0), (0.0, 1), (1.0, 1)):
        ring.add(kept(time_s, run=number))
    assert len(ring.between(0, 9)) == 2
    ring.add(kept(1.5, run=1))
    assert ring.between(0, 9) == ()
    assert [p.time_s for p in ring.between(0, 9, run=1)] == [1.0, 1.5]


def test_a_picture_becomes_small_and_stays_what_it_is() -> None:
    picture = np.zeros((300, 400, 3), dtype=np.uint8)
    picture[:, 200:] = (250, 40, 10)
    small = from_jpeg(to_jpeg(picture, side_px=100, quality=90))
    assert small.shape == (75, 100, 3)
    assert small[40, 80].tolist() == pytest.approx([250, 40, 10], abs=12)
    assert from_jpeg(to_jpeg(picture, side_px=1000, quality=50)).shape == (300, 400, 3)

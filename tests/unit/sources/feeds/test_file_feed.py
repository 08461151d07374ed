from __future__ import annotations

import logging
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds import Ingest, Timeouts, open_feed
from molmo2_ground.sources.feeds.capture import Capture
from molmo2_ground.sources.feeds.failures import RefusedError
from molmo2_ground.sources.feeds.file_feed import FileFeed
from molmo2_ground.sources.feeds.picture_arrival import PictureArrival
from tests.media import (
    FRAME_COUNT,
    VARIABLE_TIMES_S,
    Shelf,
    constant_rate,
    damaged_middle,
    picture_number,
    rolling,
    truncated_tail,
    variable_rate,
    without_packets,
)

START_NS = 1_790_000_000_000_000_000
CLOCKS = Clocks(unix_ns=lambda: START_NS)


def until_it_ends(ingest: Ingest) -> list[Capture]:
    captures = []
    while not ingest.ended:
        capture = ingest.take(10)
        captures += [capture] if capture else []
    return captures


def test_pictures_are_stamped_by_the_start_and_their_own_times(media: Shelf) -> None:
    feed = FileFeed(media(variable_rate), speed=None, clocks=CLOCKS)
    arrivals = list(feed.connect(Timeouts()).arrivals())
    times = [((a.stamp_ns or 0) - START_NS) / 1e9 for a in arrivals]
    assert times == pytest.approx(VARIABLE_TIMES_S, abs=1e-6)
    assert [picture_number(a.paint()) for a in arrivals] == list(range(len(VARIABLE_TIMES_S)))
    assert not feed.paced
    assert not feed.reopens


@pytest.mark.slow
@pytest.mark.parametrize("speed", [4.0, 20.0])
def test_at_a_speed_pictures_come_when_they_are_due_and_are_stamped_so(media: Shelf, speed: float) -> None:
    path = media(constant_rate)
    with Ingest(open_feed(path, speed=speed), policy="every") as ingest:
        captures = until_it_ends(ingest)
    assert len(captures) == FRAME_COUNT
    for a, b in pairwise(captures):
        assert (b.stamp_ns - a.stamp_ns) / 1e9 == pytest.approx(0.1 / speed, abs=1e-6)
    for capture in captures:  # never before it is due
        assert capture.recv_ns - captures[0].recv_ns >= capture.stamp_ns - captures[0].stamp_ns - 5_000_000
    assert ingest.state == "ended"


@pytest.mark.parametrize("loop", [False, True])
def test_what_it_was_held_up_for_is_in_the_stamps_from_there_on(media: Shelf, loop: bool) -> None:
    passed_s, held_s = 0.0, []
    clocks = Clocks(
        unix_ns=lambda: START_NS + round(passed_s * 1e9), monotonic_ns=lambda: round(passed_s * 1e9)
    )
    feed = FileFeed(media(constant_rate), speed=100.0, loop=loop, clocks=clocks)
    stamps = []
    for number, arrival in enumerate(islice(feed.connect(Timeouts()).arrivals(), 2 * FRAME_COUNT)):
        assert isinstance(arrival, PictureArrival)
        stamps.append((arrival.stamp_ns or 0) - arrival.held_ns - START_NS)
        held_s.append(arrival.held_ns / 1e9)
        passed_s = (number + 1) * 0.001 + 7.0 * (number >= 3) + 0.9 * (number >= 5) + 5.0 * (number >= 7)
    assert stamps == pytest.approx([n * 1e6 for n in range(len(stamps))], rel=0.02)
    assert held_s[:4] == [0.0] * 4
    assert held_s[4:8] == [pytest.approx(7.0, abs=0.01)] * 4  # 0.9 s are caught up
    assert held_s[8:] == [pytest.approx(12.9, abs=0.01)] * len(held_s[8:])


def test_in_a_loop_times_go_on(media: Shelf) -> None:
    feed = FileFeed(media(constant_rate), speed=None, loop=True, clocks=CLOCKS)
    connection = feed.connect(Timeouts())
    arrivals = list(islice(connection.arrivals(), 30))
    assert [picture_number(a.paint()) for a in arrivals] == [i % FRAME_COUNT for i in range(30)]
    stamps = [a.stamp_ns or 0 for a in arrivals]
    assert [b - a for a, b in pairwise(stamps)] == pytest.approx([1e8] * 29, rel=0.02)


def test_closing_ends_it_while_it_waits_for_a_moment(media: Shelf) -> None:
    feed = open_feed(media(constant_rate), speed=0.001)
    with Ingest(feed) as ingest:
        assert ingest.take(10)
    assert ingest.ended
    assert ingest.failure is None


def test_a_picture_can_be_made_after_the_file_was_closed(media: Shelf) -> None:
    with Ingest(open_feed(media(constant_rate), speed=None), policy="block") as ingest:
        capture = ingest.take(10)
    assert capture is not None
    assert picture_number(capture.paint()) == 0
    assert picture_number(capture.paint()) == 0


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    still = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(still)
    with pytest.raises(RefusedError, match="still pictures"):
        FileFeed(still).connect(Timeouts())
    with pytest.raises(SourceError, match="there is no file"):
        open_feed(str(tmp_path / "b.mp4")).connect(Timeouts())
    with pytest.raises(ValueError, match="above 0"):
        FileFeed(still, speed=0)


def test_a_missing_file_ends_the_ingest_at_once(tmp_path: Path) -> None:
    with Ingest(open_feed(tmp_path / "b.mp4")) as ingest:
        assert ingest.take(10) is None
    assert ingest.state == "failed"


def test_damaged_pictures_are_left_out_and_counted_as_of_a_camera(
    media: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    with Ingest(open_feed(media(damaged_middle), speed=None), policy="block") as ingest:
        captures = until_it_ends(ingest)
    totals = ingest.totals
    assert set(totals.dropped) == {"damaged"}
    assert totals.received == 60 == len(captures) + totals.dropped["damaged"]
    assert captures[-1].index == 59  # what is left out has its number
    assert "damaged and left out" in caplog.text
    assert "shown" not in caplog.text


@pytest.mark.parametrize(
    "hurt",
    [
        pytest.param(range(57, 60), id="the-last-frames"),
        pytest.param(range(50, 60), id="the-last-group-of-pictures"),
        pytest.param(range(2), id="the-first-frames-and-what-builds-on-them"),
        pytest.param(range(10), id="the-first-group-of-pictures"),
    ],
)
def test_what_cannot_be_decoded_at_a_films_ends_is_counted(media: Shelf, tmp_path: Path, hurt: range) -> None:
    path = tmp_path / "hurt.mp4"
    path.write_bytes(without_packets(media(rolling), hurt))
    with Ingest(open_feed(path, speed=None), policy="block") as ingest:
        captures = until_it_ends(ingest)
    totals = ingest.totals
    assert set(totals.dropped) == {"damaged"}
    assert totals.received == 60 == len(captures) + totals.dropped["damaged"]
    assert len(captures) >= 40
    assert [picture_number(capture.paint()) for capture in captures] == [c.index for c in captures]


def test_what_a_cut_file_lacks_is_told(media: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    path = media(truncated_tail)
    with caplog.at_level(logging.WARNING):
        arrivals = list(FileFeed(path, speed=None).connect(Timeouts()).arrivals())
    assert 0 < len(arrivals) < 60
    said = [line for line in caplog.messages if "the file is cut short: it holds" in line]
    assert len(said) == 1
    assert said[0].endswith("of 60 frames")

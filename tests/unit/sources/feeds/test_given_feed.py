from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from molmo2_ground.clip import Frame
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import SourceError
from molmo2_ground.sources.feeds.feed import Timeouts
from molmo2_ground.sources.feeds.given_feed import GivenFeed
from molmo2_ground.sources.feeds.ingest import Ingest
from molmo2_ground.sources.feeds.picture_arrival import PictureArrival

CLOCKS = Clocks(unix_ns=lambda: 1_000_000_000_000, monotonic_ns=lambda: 77)


def gray(value: int, *, height: int = 3, width: int = 5) -> Any:
    return np.full((height, width, 3), value, np.uint8)


def at(time_s: float) -> Frame:
    return Frame(rgb=gray(1), width_px=5, height_px=3, source_index=0, time_s=time_s, shown_time_s=time_s)


def all_of(pictures: Any, **words: Any) -> list[PictureArrival]:
    return list(GivenFeed(pictures, clocks=CLOCKS, **words).connect(Timeouts()).arrivals())


def test_arrays_are_stamped_by_their_arrival() -> None:
    first, second = all_of([gray(1), gray(2, height=4)])
    assert (first.stamp_ns, first.recv_ns, first.monotonic_ns) == (None, 1_000_000_000_000, 77)
    assert (second.width_px, second.height_px) == (5, 4)
    assert second.paint()[0, 0, 0] == 2


def test_seconds_beside_an_array_are_its_stamp() -> None:
    (only,) = all_of([(12.5, gray(1))], clock="ros")
    assert (only.stamp_ns, only.clock) == (12_500_000_000, "ros")


def test_times_of_frames_count_from_the_opening() -> None:
    (only,) = all_of([at(0.5)])
    assert only.stamp_ns == 1_000_500_000_000


def test_a_function_is_called_until_it_gives_none() -> None:
    rest = [gray(1), gray(2)]
    assert [a.paint()[0, 0, 0] for a in all_of(lambda: rest.pop() if rest else None)] == [2, 1]


def test_an_array_that_the_caller_fills_again_stays_as_it_was() -> None:
    array = gray(1)

    def filled() -> Iterator[Any]:
        for value in (1, 2):
            array[:] = value
            yield array

    assert [a.paint()[0, 0, 0] for a in all_of(filled())] == [1, 2]


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        pytest.param("a.png", "got str", id="path"),
        pytest.param((1.0, gray(1), 3), "tuple", id="three"),
        pytest.param((float("nan"), gray(1)), "expected its time in seconds, .* got nan", id="no-time"),
        pytest.param((1.79e12, gray(1)), r"got 1.79e\+12; divide milliseconds by 1e3", id="milliseconds"),
        pytest.param((-3.0, gray(1)), "from 0 to 9e9; got -3", id="before-the-beginning"),
        pytest.param(at(9e12), r"got 9e\+12", id="a-frame-at-no-time"),
        pytest.param(np.zeros((2, 2, 3)), "float64", id="floats"),
        pytest.param((1.0, "x"), "got str", id="stamped-word"),
    ],
)
def test_what_is_no_picture_is_an_error_that_names_it(picture: Any, words: str) -> None:
    with pytest.raises(SourceError, match=f"picture 1: .*{words}"):
        all_of([gray(1), picture])


def test_what_the_callers_code_raises_is_told_with_its_cause() -> None:
    def broken() -> Iterator[Any]:
        yield gray(1)
        raise KeyError("lens")

    with Ingest(GivenFeed(broken())) as ingest:
        assert ingest.take(10)
        assert ingest.take(10) is None
    assert "KeyError: 'lens'" in str(ingest.failure)
    assert ingest.failure is not None
    assert isinstance(ingest.failure.__cause__, KeyError)
    assert ingest.state == "failed"


def test_something_that_cannot_be_walked_through_is_an_error() -> None:
    with pytest.raises(SourceError, match="TypeError"):
        all_of(5)


def test_nothing_is_lost_and_it_ends() -> None:
    with Ingest(GivenFeed(gray(i) for i in range(20))) as ingest:
        got = []
        while not ingest.ended:
            capture = ingest.take(10)
            got += [capture.paint()[0, 0, 0]] if capture else []
    assert got == list(range(20))
    assert ingest.state == "ended"

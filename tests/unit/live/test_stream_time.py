from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.live.stream_time import StreamTime
from molmo2_ground.sources.feeds.capture import Capture
from tests.live_scenes import Street

STREET = Street(lambda time_s: {}, size_px=(64, 36))


def told(captures: list[Capture], *, paced: bool = True) -> list[float]:
    time = StreamTime(paced=paced)
    return [round(time.of(capture), 6) for capture in captures]


def at(arrived_s: float, stamp_s: float, *, epoch: int = 1, held_s: float = 0.0) -> Capture:
    capture = STREET.capture(0, arrived_s, stamp_s=stamp_s, epoch=epoch)
    return replace(capture, held_ns=round(held_s * 1e9))


@pytest.mark.parametrize(
    ("captures", "times_s"),
    [
        pytest.param([at(0, 100), at(0.2, 100.1), at(0.21, 100.2)], [0, 0.1, 0.2], id="stamps-not-arrivals"),
        pytest.param([at(0, 9), at(4, 13.1, epoch=2)], [0, 4.1], id="one-clock-over-a-reconnect"),
        pytest.param([at(0, 9), at(4, 0.5, epoch=2), at(4.1, 0.6, epoch=2)], [0, 4, 4.1], id="begins-anew"),
        pytest.param([at(0, 9), at(4, 3600, epoch=2)], [0, 4], id="another-clock"),
        pytest.param([at(0, 9), at(0.1, 3609), at(0.2, 3609.1)], [0, 0.1, 0.2], id="a-clock-set-forward"),
        pytest.param([at(0, 9), at(40, 48.9, held_s=39.8)], [0, 0.1], id="a-film-that-was-held-up"),
        pytest.param([at(0, 9, held_s=5), at(0.1, 9.1, epoch=2)], [0, 0.1], id="held-up-before-a-reconnect"),
        pytest.param([at(0, 9), at(0.0001, 9.0001)], [0, 0.001], id="always-rises"),
    ],
)
def test_times_of_a_camera(captures: list[Capture], times_s: list[float]) -> None:
    assert told(captures) == times_s


def test_of_pictures_that_come_as_fast_as_they_are_taken_stamps_say_it_all() -> None:
    assert told([at(0, 0), at(0.01, 60), at(0.02, 120)], paced=False) == [0, 60, 120]


def test_a_jump_is_counted() -> None:
    time = StreamTime(paced=True)
    for capture in (at(0, 9), at(0.1, 3609), at(0.2, 3609.1), at(0.3, 9.3)):
        time.of(capture)
    assert time.jumps == 2


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(-1e5, 1e5), st.booleans()), min_size=1, max_size=30),
    st.booleans(),
)
def test_time_never_goes_back(steps: list[tuple[float, float, bool]], paced: bool) -> None:
    arrived_s, stamp_s, epoch, captures = 0.0, 0.0, 1, []
    for passed_s, stamped_s, reconnected in steps:
        arrived_s, stamp_s, epoch = arrived_s + passed_s, stamp_s + stamped_s, epoch + reconnected
        captures.append(at(arrived_s, stamp_s, epoch=epoch))
    times_s = told(captures, paced=paced)
    assert times_s == sorted(set(times_s))
    if paced:
        # Whatever the camera's clock says, the time is never far from what passed here.
        assert abs(times_s[-1]) <= arrived_s + len(steps) * 10.1 + 0.1

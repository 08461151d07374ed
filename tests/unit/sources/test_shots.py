"""Which frame is on screen: against a slow definition, on made-up sources."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.clip import RgbArray
from molmo2_ground.sources.losses import Losses
from molmo2_ground.sources.shots import Shot, on_screen


class Strip:
    """A `MovingSource` of given frame times."""

    name, width_px, height_px, has_audio, codec = "strip", 1, 1, False, "none"
    fps: float | None = None

    def __init__(
        self, times_s: list[float], *, holes: frozenset[int] = frozenset(), end_s: float = 0.1
    ) -> None:
        self.losses, self.duration_s = Losses(), times_s[-1] + end_s
        self.frame_count: int | None = len(times_s)
        self.lost_at_start, self.lost_at_end = 0, int(len(times_s) in holes)
        self.given = 0
        self._times_s, self._holes, self._end_s = times_s, holes, end_s

    def shots(self) -> Iterator[Shot]:
        for index, time_s in enumerate(self._times_s):
            self.given += 1
            hole = index in self._holes
            yield Shot(
                index=index, time_s=time_s, end_s=time_s + self._end_s, hole_before=hole, paint=self._paint
            )

    def _paint(self) -> RgbArray:
        return np.zeros((1, 1, 3), np.uint8)


def _pairs(strip: Strip, wanted_s: list[float]) -> list[tuple[int, float]]:
    return [(shot.index, t) for shot, times in on_screen(strip, iter(wanted_s)) for t in times]


times = st.lists(st.integers(1, 400), min_size=1, max_size=30).map(
    lambda steps: [sum(steps[:i]) / 100 for i in range(len(steps))]
)


@pytest.mark.slow
@given(times, st.lists(st.floats(0, 120), max_size=40).map(sorted))
def test_a_time_gets_the_last_frame_that_begins_no_later(times_s: list[float], wanted_s: list[float]) -> None:
    expected = [(max(i for i, t in enumerate(times_s) if t <= w + 1e-6), w) for w in wanted_s]
    assert _pairs(Strip(times_s), wanted_s) == expected


def test_times_a_rounding_before_a_frame_get_that_frame() -> None:
    assert _pairs(Strip([0.0, 0.5, 1.0]), [0.5 - 5e-7, 1.0 - 2e-6]) == [(1, 0.5 - 5e-7), (1, 1.0 - 2e-6)]


def test_equal_times_show_the_later_frame() -> None:
    assert _pairs(Strip([0.0, 0.5, 0.5, 1.0]), [0.5, 0.7]) == [(2, 0.5), (2, 0.7)]


def test_times_inside_a_hole_get_no_frame_and_are_counted() -> None:
    strip = Strip([0.0, 0.1, 0.9, 1.0], holes=frozenset({2, 4}))
    assert _pairs(strip, [0.1, 0.15, 0.2, 0.8, 0.9, 1.05, 1.2]) == [(1, 0.1), (1, 0.15), (2, 0.9), (3, 1.05)]
    assert strip.losses.take() == ("3 wanted times left out: no picture could be read there",)


def test_reading_stops_soon_after_the_last_wanted_time() -> None:
    strip = Strip([i / 10 for i in range(1000)])
    assert _pairs(strip, [0.0, 0.3]) == [(0, 0.0), (3, 0.3)]
    assert strip.given <= 6

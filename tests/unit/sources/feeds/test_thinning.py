from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.sources.feeds.thinning import Thinning

UNIX_NS = 1_790_000_000_000_000_000


def kept(stamps_ns: list[int], rate_hz: float) -> list[int]:
    thinning = Thinning(rate_hz)
    return [stamp for stamp in stamps_ns if thinning.wants(stamp)]


@pytest.mark.parametrize("camera_fps", [29.97, 30.0, 25.0, 15.0, 7.3, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_faster_camera_is_thinned_to_the_rate_evenly(camera_fps: float, seed: int) -> None:
    rng = random.Random(seed)
    stamps = [UNIX_NS + round((i + rng.uniform(-0.2, 0.2)) / camera_fps * 1e9) for i in range(3000)]
    chosen = kept(stamps, 2.0)
    seconds = (stamps[-1] - stamps[0]) / 1e9
    assert len(chosen) / seconds == pytest.approx(2.0, rel=0.01)
    gaps = [(b - a) / 1e9 for a, b in pairwise(chosen)]
    assert 0.5 - 1.6 / camera_fps <= min(gaps) <= max(gaps) <= 0.5 + 1.6 / camera_fps


@pytest.mark.parametrize("camera_fps", [2.0, 1.9, 1.0, 0.2])
def test_of_a_camera_that_sends_no_more_than_wanted_nothing_is_left_out(camera_fps: float) -> None:
    rng = random.Random(7)
    stamps = [UNIX_NS + round((i + rng.uniform(-0.1, 0.1)) / camera_fps * 1e9) for i in range(500)]
    assert kept(stamps, 2.0) == stamps


@pytest.mark.slow
@given(gaps=st.lists(st.integers(1, 3_000_000_000), min_size=1, max_size=60), rate_hz=st.floats(0.1, 60))
def test_never_more_than_the_rate_in_the_long_run(gaps: list[int], rate_hz: float) -> None:
    stamps = [UNIX_NS]
    for gap in gaps:
        stamps.append(stamps[-1] + gap)
    seconds = (stamps[-1] - stamps[0]) / 1e9
    assert 1 <= len(kept(stamps, rate_hz)) <= seconds * rate_hz + 1.5


def test_after_a_restart_the_next_picture_is_wanted() -> None:
    thinning = Thinning(2.0)
    assert thinning.wants(1_000_000_000)
    assert not thinning.wants(1_010_000_000)
    thinning.restart()
    assert thinning.wants(5)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Thinning(0)

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.sources.sampling import rate_grid, shown_rate, uniform_last_frame


@pytest.mark.parametrize(
    ("duration_s", "max_fps", "max_frames", "expected"),
    [
        pytest.param(3.01, 2.0, 128, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.01], id="steps-and-the-end"),
        pytest.param(2.0, 2.0, 128, [0, 0.5, 1, 1.5, 2.0], id="end-on-the-grid-comes-once"),
        pytest.param(1.0, 3.0, 128, [0, 1 / 3, 2 / 3, 1.0], id="step-that-is-no-binary-fraction"),
        pytest.param(0.04, 2.0, 128, [0, 0.04], id="shorter-than-a-step"),
        pytest.param(0.0, 2.0, 128, [0.0], id="no-duration"),
        pytest.param(2.0, 2.0, 5, [0, 0.5, 1, 1.5, 2], id="cap-exactly-reached-stays-on-the-grid"),
        pytest.param(2.1, 2.0, 5, [0, 0.525, 1.05, 1.575, 2.1], id="cap-binds-spreads-evenly"),
        pytest.param(10.0, 2.0, 1, [0.0], id="one-frame-of-a-long-video"),
        pytest.param(10.0, 0.25, 384, [0, 4, 8, 10], id="slower-than-one-a-second"),
    ],
)
def test_uniform_last_frame(
    duration_s: float, max_fps: float, max_frames: int, expected: list[float]
) -> None:
    times = uniform_last_frame(duration_s, max_fps=max_fps, max_frames=max_frames)
    assert times.dtype == np.float64
    np.testing.assert_allclose(times, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("max_frames", "last_free_s"), [(128, 63.5), (384, 191.5)])
def test_caps_of_the_checkpoints_bind_where_training_says(max_frames: int, last_free_s: float) -> None:
    assert uniform_last_frame(last_free_s, max_frames=max_frames)[1] == 0.5
    assert uniform_last_frame(last_free_s + 0.01, max_frames=max_frames)[1] > 0.5


@pytest.mark.parametrize(
    ("duration_s", "rate", "max_frames", "expected"),
    [
        pytest.param(1.9, 2.0, 100, [0, 0.5, 1, 1.5], id="below-the-end"),
        pytest.param(2.0, 2.0, 100, [0, 0.5, 1, 1.5], id="the-end-itself-is-not-taken"),
        pytest.param(2.01, 2.0, 100, [0, 0.5, 1, 1.5, 2], id="just-past-a-step"),
        pytest.param(9.0, 2.0, 3, [0, 0.5, 1], id="cap-keeps-the-first"),
        pytest.param(0.0, 2.0, 3, [], id="no-duration"),
        pytest.param(0.3, 10.0, 100, [0, 0.1, 0.2], id="thirds-of-tenths"),
        pytest.param(5.0, 0.5, 100, [0, 2, 4], id="slower-than-one-a-second"),
    ],
)
def test_rate_grid(duration_s: float, rate: float, max_frames: int, expected: list[float]) -> None:
    times = rate_grid(duration_s, rate=rate, max_frames=max_frames)
    assert times.dtype == np.float64
    np.testing.assert_allclose(times, expected, rtol=0, atol=1e-12)


@given(
    duration_s=st.floats(0, 500, allow_subnormal=False),
    rate=st.floats(0.05, 60),
    max_frames=st.integers(1, 400),
)
def test_both_rules_equal_their_definition_said_slowly(
    duration_s: float, rate: float, max_frames: int
) -> None:
    grid: list[float] = []
    while len(grid) < max_frames and len(grid) / rate < duration_s:
        grid.append(len(grid) / rate)
    assert rate_grid(duration_s, rate=rate, max_frames=max_frames).tolist() == grid

    times = uniform_last_frame(duration_s, max_fps=rate, max_frames=max_frames)
    if (max_frames - 1) / rate < duration_s:
        assert times.tolist() == np.linspace(0, duration_s, max_frames).tolist()
    else:
        assert times.tolist() == [*grid, duration_s]
    assert len(times) <= max_frames


@pytest.mark.parametrize(
    ("video_fps", "duration_s", "max_frames", "asked", "at_most", "expected"),
    [
        pytest.param(30.0, 20.0, 384, 1.0, 10.0, 10.0, id="a-short-clip-is-shown-densely"),
        pytest.param(30.0, 20.0, 384, 1.0, 8.0, 6.0, id="8-does-not-divide-30"),
        pytest.param(30.0, 38.4, 384, 1.0, 10.0, 10.0, id="the-cap-just-spans-it"),
        pytest.param(30.0, 38.41, 384, 1.0, 10.0, 6.0, id="and-a-hair-more-it-does-not"),
        pytest.param(30.0, 100.0, 384, 1.0, 10.0, 3.0, id="a-longer-clip-more-sparsely"),
        pytest.param(30.0, 384.0, 384, 1.0, 10.0, 1.0, id="as-asked-when-nothing-else-spans-it"),
        pytest.param(30.0, 9999.0, 384, 1.0, 10.0, 1.0, id="not-even-as-asked"),
        pytest.param(6.0, 20.0, 384, 1.0, 10.0, 6.0, id="frame-folders-as-they-are"),
        pytest.param(5.9999, 20.0, 384, 1.0, 10.0, 6.0, id="a-rate-made-of-ticks"),
        pytest.param(24.0, 20.0, 384, 2.0, 10.0, 8.0, id="two-a-second"),
        pytest.param(25.0, 20.0, 384, 1.0, 10.0, 5.0, id="25"),
        pytest.param(29.97, 20.0, 384, 1.0, 10.0, 1.0, id="29.97-counts-as-29-which-is-prime"),
        pytest.param(30.0, 20.0, 384, 4.0, 10.0, 4.0, id="nothing-divides-is-no-error"),
        pytest.param(29.97, 20.0, 384, 2.0, 10.0, 2.0, id="the-released-code-raises-here"),
        pytest.param(1.0, 20.0, 384, 2.0, 10.0, 2.0, id="asked-faster-than-filmed"),
        pytest.param(0.4, 20.0, 384, 0.1, 10.0, 0.1, id="a-slide-show"),
        pytest.param(None, 20.0, 384, 1.0, 10.0, 1.0, id="a-rate-that-nobody-knows"),
        pytest.param(30.0, 20.0, 384, 0.5, 10.0, 10.0, id="one-place-in-two-seconds"),
        pytest.param(30.0, 0.0, 384, 1.0, 10.0, 1.0, id="no-duration"),
        pytest.param(30.0, 20.0, 16, 1.0, 10.0, 1.0, id="a-small-model"),
        pytest.param(30.0, 8.0, 16, 1.0, 10.0, 2.0, id="a-small-model-and-a-short-clip"),
        pytest.param(30.0, 20.0, 384, 10.0, 10.0, 10.0, id="already-asked-for-all"),
        pytest.param(30.0, 4000.0, 384, 1e-9, 10.0, pytest.approx(0.0959, abs=1e-3), id="hardly-ever"),
    ],
)
def test_shown_rate(
    video_fps: float | None,
    duration_s: float,
    max_frames: int,
    asked: float,
    at_most: float,
    expected: float,
) -> None:
    found = shown_rate(duration_s, asked=asked, at_most=at_most, video_fps=video_fps, max_frames=max_frames)
    assert found == expected


@pytest.mark.slow
@given(
    video_fps=st.integers(1, 60),
    duration_s=st.floats(0, 500, allow_subnormal=False),
    asked=st.integers(1, 10),
    at_most=st.integers(1, 10),
    max_frames=st.integers(1, 400),
)
def test_the_shown_times_are_those_of_the_rule_said_slowly(
    video_fps: int, duration_s: float, asked: int, at_most: int, max_frames: int
) -> None:
    rate = asked
    for candidate in range(asked, at_most + 1, asked):
        if video_fps % candidate == 0 and max_frames / candidate >= duration_s:
            rate = candidate
    found = shown_rate(duration_s, asked=asked, at_most=at_most, video_fps=video_fps, max_frames=max_frames)
    shown = rate_grid(duration_s, rate=found, max_frames=max_frames)
    assert shown.tolist() == rate_grid(duration_s, rate=rate, max_frames=max_frames).tolist()
    # What is asked for is always among what is shown.
    wanted = rate_grid(duration_s, rate=asked, max_frames=max_frames)
    assert set(np.round(wanted, 9)) <= set(np.round(shown, 9))


@pytest.mark.parametrize("duration_s", [-1.0, math.nan, math.inf])
def test_impossible_durations_are_refused(duration_s: float) -> None:
    with pytest.raises(ValueError, match="duration_s"):
        uniform_last_frame(duration_s, max_frames=8)
    with pytest.raises(ValueError, match="duration_s"):
        rate_grid(duration_s, rate=2.0, max_frames=8)
    with pytest.raises(ValueError, match="duration_s"):
        shown_rate(duration_s, asked=1.0, at_most=10.0, video_fps=30.0, max_frames=8)


@pytest.mark.parametrize("rate", [0.0, -2.0, math.nan, math.inf])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="max_fps"):
        uniform_last_frame(1.0, max_fps=rate, max_frames=8)
    with pytest.raises(ValueError, match="rate"):
        rate_grid(1.0, rate=rate, max_frames=8)
    with pytest.raises(ValueError, match="asked"):
        shown_rate(1.0, asked=rate, at_most=10.0, video_fps=30.0, max_frames=8)
    with pytest.raises(ValueError, match="video_fps"):
        shown_rate(1.0, asked=1.0, at_most=10.0, video_fps=rate, max_frames=8)


def test_no_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="max_frames"):
        uniform_last_frame(1.0, max_frames=0)
    with pytest.raises(ValueError, match="max_frames"):
        rate_grid(1.0, rate=2.0, max_frames=0)

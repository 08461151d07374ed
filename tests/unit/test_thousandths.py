from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.answer import to_thousandths as of_answer
from molmo2_ground.thousandths import spell_coordinate, spell_seconds, to_pixels, to_thousandths

FIXED = settings(derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("value_px", "size_px", "expected"),
    [
        pytest.param(0, 640, 0, id="left-edge"),
        pytest.param(640, 640, 1000, id="right-edge"),
        pytest.param(64, 640, 100, id="inside"),
        pytest.param(0.5, 1000, 0, id="half-to-even-down"),
        pytest.param(1.5, 1000, 2, id="half-to-even-up"),
        pytest.param(20, 320, 62, id="62.5-goes-to-62"),
        pytest.param(300, 320, 938, id="937.5-goes-to-938"),
        pytest.param(-3, 640, 0, id="left-of-the-picture"),
        pytest.param(700, 640, 1000, id="right-of-the-picture"),
        pytest.param(math.inf, 640, 1000, id="endless"),
        pytest.param(1, 3, 333, id="odd-size"),
    ],
)
def test_pixels_become_thousandths(value_px: float, size_px: float, expected: int) -> None:
    assert to_thousandths(value_px, size_px) == expected
    assert of_answer(value_px, size_px) == expected


@pytest.mark.parametrize(("value_px", "size_px"), [(1.0, 0.0), (1.0, -5.0), (1.0, math.nan), (math.nan, 5.0)])
def test_what_is_no_length_is_refused(value_px: float, size_px: float) -> None:
    with pytest.raises(ValueError, match="pixel"):
        to_thousandths(value_px, size_px)


@FIXED
@given(st.integers(0, 1000), st.integers(1, 20_000))
def test_thousandths_survive_pixels(thousandths: int, size_px: int) -> None:
    assert to_thousandths(to_pixels(thousandths, size_px), size_px) == thousandths


@pytest.mark.slow
@FIXED
@given(st.integers(1, 20_000), st.data())
def test_pixels_survive_within_half_a_thousandth(size_px: int, data: st.DataObject) -> None:
    value_px = data.draw(st.floats(0, size_px))
    back_px = to_pixels(to_thousandths(value_px, size_px), size_px)
    assert abs(back_px - value_px) <= size_px / 2000 * (1 + 1e-9)


def test_numbers_are_spelled_as_in_training() -> None:
    assert [spell_coordinate(n) for n in (0, 8, 62, 999, 1000)] == ["000", "008", "062", "999", "1000"]
    assert [spell_seconds(t) for t in (0, 0.25, 0.35, 12, 63.04)] == ["0.0", "0.2", "0.3", "12.0", "63.0"]

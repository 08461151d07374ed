from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.masks.doubts import LARGEST_STEP, SMALLEST_AREA_PX, Doubts
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.results import MaskFlag

_SIDE = 40


def mask_of(area_px: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    mask = np.zeros((_SIDE, _SIDE), dtype=bool)
    mask.ravel()[:area_px] = True
    return mask


def point(x_px: float, y_px: float) -> PointPrompt:
    return PointPrompt(object_id=1, source_index=0, x_px=x_px, y_px=y_px)


def told(doubts: Doubts, area_px: int, at: PointPrompt | None = None) -> tuple[MaskFlag, ...]:
    return doubts.about(1, mask_of(area_px), at, area_px=area_px)


@pytest.mark.parametrize(
    ("before", "after", "flags"),
    [
        pytest.param(100, int(100 * LARGEST_STEP), (), id="three-times-as-large"),
        pytest.param(100, int(100 * LARGEST_STEP) + 1, ("area_jump",), id="more-than-that"),
        pytest.param(300, 99, ("area_jump",), id="less-than-a-third"),
        pytest.param(3, SMALLEST_AREA_PX * 3, (), id="small-things-may-grow-quickly"),
        pytest.param(3, SMALLEST_AREA_PX * 3 + 1, ("area_jump",), id="but-not-at-any-rate"),
        pytest.param(500, 0, (), id="to-vanish-is-no-jump"),
        pytest.param(0, 900, (), id="nothing-is-no-measure-for-what-comes-after"),
        pytest.param(1300, 1281, ("covers_frame",), id="most-of-the-picture"),
        pytest.param(1200, 1280, (), id="four-fifths-are-allowed"),
    ],
)  # fmt: skip
def test_an_area_after_another(before: int, after: int, flags: tuple[MaskFlag, ...]) -> None:
    doubts = Doubts()
    told(doubts, before)
    assert told(doubts, after) == flags


@pytest.mark.parametrize(
    ("x_px", "y_px", "flags"),
    [
        pytest.param(3.5, 0.5, (), id="inside"),
        pytest.param(3.5, 1.5, (), id="the-pixel-beside-it"),
        pytest.param(3.5, 2.5, ("point_outside",), id="two-pixels-off"),
        pytest.param(39.9, 39.9, ("point_outside",), id="at-the-other-corner"),
        pytest.param(40.0, 0.0, (), id="on-the-outer-edge-of-the-picture"),
    ],
)  # fmt: skip
def test_a_point_and_a_mask_of_the_first_row(x_px: float, y_px: float, flags: tuple[MaskFlag, ...]) -> None:
    assert told(Doubts(), _SIDE, point(x_px, y_px)) == flags


def test_a_mask_made_anew_at_a_point_may_differ_in_area() -> None:
    doubts = Doubts()
    told(doubts, 10)
    assert told(doubts, 1000, point(0.5, 0.5)) == ()
    assert told(doubts, 100) == ("area_jump",)


def test_a_forgotten_object_starts_over() -> None:
    doubts = Doubts()
    told(doubts, 100)
    doubts.forget(1)
    doubts.forget(1)
    assert told(doubts, 1000) == ()

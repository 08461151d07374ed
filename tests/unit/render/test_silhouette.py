from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from molmo2_ground.render.labels import Box
from molmo2_ground.render.silhouette import FILL_SHARE, Silhouette, trace, trace_dashed
from molmo2_ground.render.style import colour_of
from tests.found import mask_of

Rgb8 = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

ANY_MASK = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def _silhouette(dense: Bools, **fields: object) -> Silhouette:
    made = Silhouette.of(mask_of(dense, **fields), width_px=dense.shape[1], height_px=dense.shape[0])
    assert made is not None
    return made


def _disc(size_px: tuple[int, int], x_px: float, y_px: float, radius_px: float) -> Bools:
    y, x = np.mgrid[: size_px[1], : size_px[0]] + 0.5
    return np.asarray((x - x_px) ** 2 + (y - y_px) ** 2 <= radius_px**2)


@pytest.mark.slow
@given(ANY_MASK)
def test_it_holds_the_pixels_of_the_mask_and_no_others(dense: Bools) -> None:
    height, width = dense.shape
    made = Silhouette.of(mask_of(dense), width_px=width, height_px=height)
    whole = np.zeros((height, width), dtype=np.uint8)
    if made is not None:
        box = made.box
        whole[box.top_px : box.bottom_px, box.left_px : box.right_px] = made.inside
    assert np.array_equal(whole, 255 * dense.astype(np.uint8))
    assert (made is None) == (not dense.any())


@pytest.mark.slow
@given(ANY_MASK, st.integers(1, 40), st.integers(1, 40))
def test_in_a_picture_of_another_size_each_pixel_is_the_nearest_of_the_mask(
    dense: Bools, width_px: int, height_px: int
) -> None:
    height, width = dense.shape
    rows = [int((row + Fraction(1, 2)) * Fraction(height, height_px)) for row in range(height_px)]
    columns = [int((column + Fraction(1, 2)) * Fraction(width, width_px)) for column in range(width_px)]
    wanted = dense[rows][:, columns]
    made = Silhouette.of(mask_of(dense), width_px=width_px, height_px=height_px)
    whole = np.zeros((height_px, width_px), dtype=bool)
    if made is not None:
        box = made.box
        assert box.within(width_px, height_px)
        whole[box.top_px : box.bottom_px, box.left_px : box.right_px] = made.inside > 0
    assert np.array_equal(whole, wanted)


@pytest.mark.slow
@given(ANY_MASK, st.integers(0, 2**32 - 1))
def test_a_veil_changes_the_object_s_pixels_alone_and_by_its_share(dense: Bools, seed: int) -> None:
    before = np.random.default_rng(seed).integers(0, 256, (*dense.shape, 3), dtype=np.uint8)
    after = before.copy()
    made = Silhouette.of(mask_of(dense), width_px=dense.shape[1], height_px=dense.shape[0])
    if made is not None:
        made.fill(after, (200, 10, 90))
    assert np.array_equal(after[~dense], before[~dense])
    wanted = before[dense] * (1 - FILL_SHARE) + np.array((200, 10, 90)) * FILL_SHARE
    assert np.abs(after[dense] - wanted).max(initial=0) <= 0.51


@pytest.mark.parametrize(
    ("drawn", "count"),
    [
        pytest.param([], 0, id="empty"),
        pytest.param([(slice(3, 4), slice(5, 6))], 1, id="one pixel"),
        pytest.param([(slice(2, 8), slice(2, 8))], 1, id="block"),
        pytest.param([(slice(0, 20), slice(0, 20))], 1, id="everything"),
        pytest.param([(slice(2, 5), slice(2, 5)), (slice(10, 15), slice(10, 15))], 2, id="two pieces"),
    ],
)
def test_each_piece_has_an_outline_inside_its_box(drawn: list[tuple[slice, slice]], count: int) -> None:
    dense = np.zeros((20, 20), dtype=bool)
    for place in drawn:
        dense[place] = True
    made = Silhouette.of(mask_of(dense), width_px=20, height_px=20)
    outlines = [] if made is None else made.outlines()
    assert len(outlines) == count
    for outline in outlines:
        for x_px, y_px in outline[:, 0]:
            assert dense[y_px, x_px]


def test_a_hole_has_an_outline_of_its_own() -> None:
    ring = _disc((60, 60), 30, 30, 25) & ~_disc((60, 60), 30, 30, 10)
    assert len(_silhouette(ring).outlines()) == 2


def test_an_outline_keeps_to_the_edge_of_the_object() -> None:
    disc = _disc((200, 120), 90, 60, 40)
    made, picture = _silhouette(disc), np.full((120, 200, 3), 128, dtype=np.uint8)
    trace(picture, made.outlines(), colour_of(1), width_px=2, edge_px=1)
    changed = (picture != 128).any(axis=2)
    assert not changed[_disc((200, 120), 90, 60, 35)].any()
    assert not changed[~_disc((200, 120), 90, 60, 45)].any()
    assert (picture == colour_of(1)).all(axis=2).sum() > 150


def test_dashes_leave_about_half_of_the_edge_free() -> None:
    disc = _disc((200, 120), 90, 60, 40)
    whole, dashed = (np.full((120, 200, 3), 128, dtype=np.uint8) for _ in range(2))
    made = _silhouette(disc)
    trace(whole, made.outlines(), colour_of(1), width_px=1, edge_px=0)
    trace_dashed(dashed, made.outlines(), colour_of(1), width_px=1, dash_px=8)
    edge = (whole != 128).any(axis=2)
    covered = (dashed != 128).any(axis=2)[edge].mean()
    assert 0.4 < covered < 0.75


@pytest.mark.parametrize(
    ("x_px", "y_px", "nearest"),
    [
        pytest.param(12.3, 14.9, (12.3, 14.9), id="on the object"),
        pytest.param(2.0, 14.9, (10.5, 14.5), id="left of it"),
        pytest.param(80.0, 90.0, (19.5, 19.5), id="beyond its corner"),
        pytest.param(-5.0, 12.0, (10.5, 12.5), id="outside the picture"),
    ],
)
def test_the_nearest_place_on_the_object(x_px: float, y_px: float, nearest: tuple[float, float]) -> None:
    dense = np.zeros((40, 50), dtype=bool)
    dense[10:20, 10:20] = True
    assert _silhouette(dense).nearest_inside(x_px, y_px) == nearest


def test_a_flag_takes_the_trust() -> None:
    dense = np.ones((4, 4), dtype=bool)
    assert _silhouette(dense).trusted
    assert not _silhouette(dense, flags=("area_jump",)).trusted
    assert _silhouette(dense).box == Box(left_px=0, top_px=0, right_px=4, bottom_px=4)

"""Masks, zones and what is hidden, drawn on pictures."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.render import Overlay, Painter, draw
from molmo2_ground.render.canvas import Canvas
from molmo2_ground.render.silhouette import FILL_SHARE, Silhouette
from molmo2_ground.render.style import Style, colour_of
from molmo2_ground.results import MaskFlag, Masks
from tests.found import masks, points, track, tracks

Rgb8 = npt.NDArray[np.uint8]

GRID_S = [i / 2 for i in range(13)]
CAR = {t: (100.0 + 60 * t, 180.0) for t in GRID_S if t not in (2.0, 2.5)}
BOX_PX = (130, 160, 200, 210)  # around the car at 1 and 1.25 s


def _grey(width_px: int = 640, height_px: int = 360) -> Rgb8:
    return np.full((height_px, width_px, 3), 128, dtype=np.uint8)


def _changed(before: Rgb8, after: Rgb8) -> npt.NDArray[np.bool_]:
    return np.asarray((before != after).any(axis=2))


def _veiled(colour: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    return np.rint(128 * (1 - FILL_SHARE) + np.array(colour) * FILL_SHARE).astype(np.int64)


def _is_veiled(pixel: Rgb8, object_id: int) -> bool:
    return bool(np.abs(pixel.astype(int) - _veiled(colour_of(object_id))).max() <= 1)


def _drawn(made: Masks | None, *, time_s: float = 1.0, **options: object) -> Rgb8:
    result = tracks(track(CAR), looked_s=GRID_S)
    painter = Painter(result, masks=made, trail_s=0, **options)  # type: ignore[arg-type]
    return painter.paint(_grey(), time_s=time_s, source_index=round(time_s * 30), caption=False)


def test_a_mask_is_a_veil_in_the_object_s_colour_with_an_outline() -> None:
    drawn = _drawn(masks([(1, 30, BOX_PX)]))
    assert _is_veiled(drawn[165, 140], 1)
    edge = drawn[185, 130].astype(int)
    assert np.abs(edge - colour_of(1)).max() < 32


def test_a_mask_changes_only_its_box_and_the_width_of_its_outline() -> None:
    with_mask, without = _drawn(masks([(1, 30, BOX_PX)])), _drawn(None)
    reach_px = 3
    near = np.zeros((360, 640), dtype=bool)
    near[160 - reach_px : 210 + reach_px, 130 - reach_px : 200 + reach_px] = True
    # The label moves out of the mask: where it stood and where it stands may differ.
    label = (with_mask == colour_of(1)).all(axis=2) | (without == colour_of(1)).all(axis=2)
    rows, columns = np.nonzero(label)
    near[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    assert not _changed(with_mask, without)[~near].any()


def test_without_a_mask_in_this_frame_the_picture_is_as_without_masks() -> None:
    assert np.array_equal(_drawn(masks([(1, 31, BOX_PX)])), _drawn(None))


def test_the_dot_lies_over_the_mask() -> None:
    assert tuple(_drawn(masks([(1, 30, BOX_PX)]))[180, 160]) == colour_of(1)


@pytest.mark.parametrize("flag", ["area_jump", "point_outside"])
def test_a_doubtful_mask_is_an_outline_of_dashes_without_the_veil(flag: MaskFlag) -> None:
    drawn = _drawn(masks([(1, 30, BOX_PX)], flags={1: (flag,)}))
    assert (drawn[192:206, 172:194] == 128).all()
    edge = _changed(_grey(), drawn)[160, 130:200]
    assert 0.2 < edge.mean() < 0.9
    assert tuple(drawn[180, 160]) == colour_of(1)


def test_a_mask_that_covers_the_picture_is_not_drawn() -> None:
    everything = masks([(1, 30, (0, 0, 640, 360))], flags={1: ("covers_frame",)})
    assert np.array_equal(_drawn(everything), _drawn(None))


def test_a_carried_mask_without_a_sample_is_labelled_and_has_no_dot() -> None:
    # At 1.75 s the car is on its way out of sight: nothing says where it is but the mask.
    assert np.array_equal(_drawn(None, time_s=1.75), _grey())
    drawn = _drawn(masks([(1, 52, BOX_PX)]), time_s=52 / 30)
    label = (drawn == colour_of(1)).all(axis=2)
    label[157:213, 127:203] = False
    assert label.sum() > 100
    assert _is_veiled(drawn[185, 165], 1)


@pytest.mark.parametrize(
    ("box_px", "spot_px"),
    [
        pytest.param((150, 170, 200, 190), (175, 180), id="on the line between the sightings"),
        pytest.param((150, 100, 200, 121), (175, 120), id="above it"),
    ],
)
def test_between_sightings_the_hollow_dot_moves_onto_the_mask(
    box_px: tuple[int, int, int, int], spot_px: tuple[int, int]
) -> None:
    drawn = _drawn(masks([(1, 38, box_px)]), time_s=1.25)
    x_px, y_px = spot_px
    ring_px = round(Style.of_size(640, 360).dot_radius_px)
    assert tuple(drawn[y_px, x_px - ring_px - 1]) == colour_of(1)
    assert _is_veiled(drawn[y_px - 3, x_px], 1)


def test_a_doubtful_mask_does_not_move_the_dot() -> None:
    above = masks([(1, 38, (150, 100, 200, 121))], flags={1: ("area_jump",)})
    ring_px = round(Style.of_size(640, 360).dot_radius_px)
    assert tuple(_drawn(above, time_s=1.25)[180, 175 - ring_px - 1]) == colour_of(1)


def test_a_sighting_stays_where_the_model_said_even_off_its_mask() -> None:
    drawn = _drawn(masks([(1, 30, (300, 20, 340, 60))]))
    assert tuple(drawn[180, 160]) == colour_of(1)
    assert _is_veiled(drawn[40, 320], 1)


@pytest.mark.parametrize(
    "size_px", [(64, 48), (360, 640), (641, 361), (97, 63), (16, 16), (3, 5), (1, 1)], ids=str
)
def test_masks_fit_a_picture_of_any_size(size_px: tuple[int, int]) -> None:
    frame = _grey(*size_px)
    half = masks([(1, 0, (0, 0, 640, 200))])
    drawn = draw(frame, tracks(looked_s=[0.0], query=""), masks=half, time_s=0.0)
    assert drawn.shape == frame.shape
    assert _changed(frame, drawn).any()


def test_empty_masks_change_nothing() -> None:
    assert np.array_equal(_drawn(masks([(1, 30, (5, 5, 5, 5))])), _drawn(None))
    assert np.array_equal(_drawn(masks([])), _drawn(None))


def test_masks_are_found_by_time_when_the_frame_has_no_number() -> None:
    result = tracks(track(CAR), looked_s=GRID_S)
    made = masks([(1, 30, BOX_PX)])
    by_time, later = (
        Painter(result, masks=made, trail_s=0).paint(_grey(), time_s=time_s, caption=False)
        for time_s in (1.0001, 1.0333)
    )
    assert np.array_equal(by_time, _drawn(made))
    assert np.array_equal(later, _drawn(None, time_s=1.0333))


def test_images_have_their_own_masks() -> None:
    result = points([(100.0, 100.0), (300.0, 200.0)], source_indices=[0, 1])
    made = masks([(1, 0, (80, 80, 120, 120)), (2, 1, (280, 180, 320, 220))], fps=None)
    second = draw(_grey(), result, masks=made, source_index=1)
    assert (second[85, 85] == 128).all()
    assert _is_veiled(second[185, 285], 2)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 150), st.integers(0, 90), st.integers(1, 60), st.integers(1, 60)),
        min_size=1,
        max_size=6,
    )
)
def test_each_pixel_has_the_veil_of_the_objects_that_cover_it(boxes: list[tuple[int, int, int, int]]) -> None:
    entries = [(i + 1, 0, (x, y, x + w, y + h)) for i, (x, y, w, h) in enumerate(boxes)]
    made = masks(entries, size_px=(160, 100))
    canvas = Canvas(_grey(160, 100))
    canvas.masks([s for m in made if (s := Silhouette.of(m, width_px=160, height_px=100)) is not None])
    wanted = np.full((100, 160, 3), 128.0)
    rims = np.zeros((100, 160), dtype=bool)
    for mask in made:
        dense = mask.dense()
        wanted[dense] += (np.array(colour_of(mask.object_id)) - wanted[dense]) * FILL_SHARE
        edge = mask.boundary().astype(np.uint8)
        rims |= cv2.dilate(edge, np.ones((5, 5), np.uint8)) > 0
    assert np.abs(canvas.rgb[~rims] - wanted[~rims]).max(initial=0) <= 1.01 * len(made)


def test_drawing_over_a_picture_gives_what_a_copy_gives() -> None:
    made = masks([(1, 38, BOX_PX)])
    painter = Painter(tracks(track(CAR), looked_s=GRID_S), masks=made, hidden=True)
    frame = _grey()
    copy = painter.paint(frame, time_s=38 / 30, source_index=38)
    painter.paint_over(frame, time_s=38 / 30, source_index=38)
    assert np.array_equal(frame, copy)


@pytest.mark.parametrize(
    "frame", [pytest.param(_grey()[:, ::2], id="not in one piece"), pytest.param(_grey(), id="read only")]
)
def test_what_cannot_be_drawn_over_is_refused(frame: Rgb8) -> None:
    frame.flags.writeable = False
    with pytest.raises(ValueError, match="`paint` makes a copy"):
        Painter(points([])).paint_over(frame)


# ---------------------------------------------------------------- hidden


@pytest.mark.parametrize(
    ("time_s", "shown"),
    [
        pytest.param(1.5, False, id="last sighting"),
        pytest.param(1.75, False, id="nobody has looked yet"),
        pytest.param(2.0, True, id="first look that misses it"),
        pytest.param(2.9, True, id="until it is seen again"),
        pytest.param(3.0, False, id="seen again"),
        pytest.param(3.25, False, id="between two sightings"),
    ],
)
def test_a_hidden_marker_stands_in_gaps_only(time_s: float, shown: bool) -> None:
    with_it, without = _drawn(None, time_s=time_s, hidden=True), _drawn(None, time_s=time_s)
    assert np.array_equal(with_it, without) != shown


def test_a_hidden_marker_is_empty_in_the_middle_and_broken_around_the_place_last_seen() -> None:
    drawn = _drawn(None, time_s=2.2, hidden=True)
    x_px, y_px = 190, 180  # at 1.5 s
    assert (drawn[y_px - 4 : y_px + 4, x_px - 4 : x_px + 4] == 128).all()
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    radius_px = Style.of_size(640, 360).dot_radius_px * 1.9
    rows = np.rint(y_px - 0.5 + radius_px * np.sin(angles)).astype(int)
    columns = np.rint(x_px - 0.5 + radius_px * np.cos(angles)).astype(int)
    on_ring = _changed(_grey(), drawn)[rows, columns]
    assert 0.4 < on_ring.mean() < 0.9
    assert int(np.count_nonzero(on_ring != np.roll(on_ring, 1))) >= 8  # four gaps or more


def test_nothing_is_marked_as_hidden_where_a_mask_shows_it() -> None:
    made = masks([(1, 66, BOX_PX)])
    assert np.array_equal(_drawn(made, time_s=2.2, hidden=True), _drawn(made, time_s=2.2))


def test_by_default_nothing_is_drawn_of_what_is_hidden() -> None:
    assert np.array_equal(_drawn(None, time_s=2.2), _grey())


# ---------------------------------------------------------------- counts and zones


def _caption_width_px(drawn: Rgb8) -> int:
    return int(np.flatnonzero(_changed(_grey(), drawn)[8])[-1])


def test_the_number_in_view_is_told_when_several_are_followed() -> None:
    one = tracks(track(CAR), looked_s=GRID_S)
    two = tracks(track(CAR), track({0.0: (9.0, 300.0)}, object_id=2), looked_s=GRID_S)
    widths = [_caption_width_px(draw(_grey(), result, time_s=1.0, trail_s=0)) for result in (one, two)]
    assert widths[1] > widths[0] + 40


CROSSING = Overlay(name="crossing", corners_px=((140, 100), (300, 100), (300, 260), (140, 260)))


def test_a_zone_is_drawn_with_its_name_and_the_number_inside() -> None:
    result = tracks(track(CAR), looked_s=GRID_S, query="")
    inside, outside = (
        draw(_grey(), result, time_s=time_s, trail_s=0, zones=[CROSSING]) for time_s in (1.0, 5.0)
    )
    for drawn in (inside, outside):
        assert (drawn[200, 140] > 170).all()
        assert (drawn[250, 250] == 128).all()
    # Only the last digit of the name differs between one inside and none.
    differing = _changed(inside, outside)[102:116, 141:230]
    assert 0 < differing.any(axis=0).sum() < 20


def test_zones_are_given_in_pixels_of_the_source() -> None:
    result = tracks(track(CAR), looked_s=GRID_S, query="")
    drawn = draw(_grey(320, 180), result, time_s=5.0, trail_s=0, zones=[CROSSING])
    assert (drawn[100, 70] > 170).all()


def test_a_note_stands_in_place_of_the_number() -> None:
    result = tracks(looked_s=GRID_S, query="")
    noted = Overlay(name=CROSSING.name, corners_px=CROSSING.corners_px, note="0")
    plain, same = (draw(_grey(), result, time_s=0.0, zones=[zone]) for zone in (CROSSING, noted))
    assert np.array_equal(plain, same)
    line = Overlay(name="line", corners_px=((10, 100), (90, 100)), closed=False)
    assert _changed(_grey(), draw(_grey(), result, time_s=0.0, zones=[line])).any()

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.eval.example import Truth, TruthFrame, TruthObject
from molmo2_ground.eval.metrics import (
    Matched,
    Placed,
    image_point_scores,
    point_bench,
    point_scores,
    pooled_matched,
)
from molmo2_ground.eval.metrics.pointing import time_reach_s
from molmo2_ground.rle import Rle
from molmo2_ground.sources.sampling import uniform_last_frame
from tests.truths import SIZE_PX, Box, box_mask, frame_of, perfect, place, video_truth

FIXED = settings(derandomize=True, deadline=None, max_examples=40)
LEFT: Box = (2, 2, 12, 12)
RIGHT: Box = (24, 10, 36, 26)


def image_truth(*boxes: Box, images: tuple[int, ...] = ()) -> Truth:
    return Truth(
        size_px=SIZE_PX,
        count=len(boxes),
        objects=tuple(
            TruthObject(
                object_id=i + 1, frames=(frame_of(box, None, source_index=images[i] if images else 0),)
            )
            for i, box in enumerate(boxes)
        ),
    )


def as_tuple(found: Matched) -> tuple[float, float, float]:
    return found.precision, found.recall, found.f1


@pytest.mark.parametrize(
    ("boxes", "points", "expected"),
    [
        pytest.param((LEFT, RIGHT), ((7, 7), (30, 18)), (1, 1, 1), id="both"),
        pytest.param((LEFT, RIGHT), ((30, 18), (7, 7)), (1, 1, 1), id="in-any-order"),
        pytest.param((LEFT, RIGHT), ((7, 7),), (1, 0.5, 2 / 3), id="one-missed"),
        pytest.param((LEFT,), ((7, 7), (30, 18)), (0.5, 1, 2 / 3), id="one-invented"),
        pytest.param((LEFT,), ((7, 7), (8, 8)), (0.5, 1, 2 / 3), id="one-object-twice"),
        pytest.param((LEFT,), ((13, 7),), (0, 0, 0), id="beside-it"),
        pytest.param((LEFT,), (), (0, 0, 0), id="nothing-said"),
        pytest.param((), (), (1, 1, 1), id="nothing-there-nothing-said"),
        pytest.param((), ((7, 7),), (0, 0, 0), id="nothing-there"),
        # The nearer object takes the place, and its mask is the one that counts.
        pytest.param(
            ((0, 0, 40, 4), (0, 4, 40, 30)), ((1, 3.4), (2, 2)), (0.5, 0.5, 0.5), id="distance-decides"
        ),
    ],
)
@pytest.mark.parametrize("compat", [False, True])
def test_pointing_in_an_image(
    boxes: tuple[Box, ...],
    points: tuple[tuple[float, float], ...],
    expected: tuple[float, float, float],
    compat: bool,
) -> None:
    placed = [place(i, None, x, y) for i, (x, y) in enumerate(points)]
    found = image_point_scores(image_truth(*boxes), placed, reference_compat=compat)
    assert as_tuple(found) == pytest.approx(expected)


def test_a_place_in_another_image_is_no_hit() -> None:
    truth = image_truth(LEFT, LEFT, images=(0, 1))
    both = [place(1, None, 7, 7, image=0), place(2, None, 7, 7, image=1)]
    assert as_tuple(image_point_scores(truth, both)) == (1, 1, 1)
    same = [both[0], replace(both[1], source_index=0)]
    assert as_tuple(image_point_scores(truth, same)) == (0.5, 0.5, 0.5)
    nowhere = [replace(both[0], source_index=7)]
    assert as_tuple(image_point_scores(truth, nowhere)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("x_px", "ours", "theirs"),
    [
        pytest.param(2.0, True, True, id="first-pixel-begins"),
        pytest.param(1.99, False, True, id="just-before"),
        pytest.param(11.99, True, False, id="last-pixel-ends"),
        pytest.param(12.0, False, False, id="just-behind"),
    ],
)
def test_a_coordinate_lies_in_the_pixel_of_its_whole_part(x_px: float, ours: bool, theirs: bool) -> None:
    mask = Rle.encode(box_mask(LEFT))
    assert place(1, None, x_px, 5).lies_in(mask) is ours
    assert place(1, None, x_px, 5).lies_in(mask, reference_compat=True) is theirs


def test_the_far_edge_belongs_to_the_last_pixel() -> None:
    mask = Rle.encode(np.ones((30, 40), dtype=bool))
    corner = place(1, None, 40, 30)
    assert corner.lies_in(mask)
    assert not corner.lies_in(mask, reference_compat=True)
    for outside in (place(1, None, 40.01, 5), place(1, None, -0.01, 5), place(1, None, 5, 30.01)):
        assert not outside.lies_in(mask)
    assert not corner.lies_in(None)


EVENTS = video_truth({1: {2.0: LEFT, 2.5: LEFT}, 2: {6.0: RIGHT}})


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        pytest.param((place(1, 2.0, 7, 7), place(2, 6.0, 30, 18)), (1, 1, 1), id="both"),
        pytest.param((place(1, 2.5, 7, 7), place(2, 6.0, 30, 18)), (1, 1, 1), id="another-frame-with-a-mask"),
        pytest.param((place(1, 2.0, 7, 7),), (1, 0.5, 2 / 3), id="one-missed"),
        pytest.param((place(1, 3.0, 7, 7),), (0, 0, 0), id="when-it-has-no-mask"),
        pytest.param((place(1, 2.0, 7, 7), place(1, 2.5, 7, 7)), (0.5, 0.5, 0.5), id="one-object-twice"),
        pytest.param((), (0, 0, 0), id="nothing-said"),
    ],
)
@pytest.mark.parametrize("compat", [False, True])
def test_pointing_in_a_video(
    places: tuple[Placed, ...], expected: tuple[float, float, float], compat: bool
) -> None:
    assert as_tuple(point_scores(EVENTS, places, reference_compat=compat)) == pytest.approx(expected)


# Annotated every half second, as Molmo2-VideoPointEval is.
HALVES = video_truth({1: {2.0: LEFT, 2.5: RIGHT, 3.5: LEFT}}, fps=2.0, duration_s=300.0)


@pytest.mark.parametrize(
    ("own_s", "told_s", "x_px", "y_px", "ours", "theirs"),
    [
        pytest.param(2.0, 2.0, 7, 7, True, True, id="on-the-grid"),
        pytest.param(1.98, 2.0, 7, 7, True, True, id="a-frame-that-began-a-little-earlier"),
        pytest.param(2.0, 2.04, 7, 7, True, True, id="told-in-tenths-as-2.0"),
        pytest.param(2.0, 2.06, 7, 7, True, False, id="told-in-tenths-as-2.1"),
        pytest.param(2.0, 2.4, 7, 7, True, False, id="the-frame-on-screen-is-still-that-of-2.0"),
        pytest.param(2.4, 2.4, 30, 18, True, False, id="nearest-to-2.5"),
        pytest.param(2.4, 2.4, 7, 7, False, False, id="where-it-was-at-2.0-and-is-no-more"),
        pytest.param(2.7, 2.7, 30, 18, True, False, id="0.2-after-2.5"),
        pytest.param(2.75, 2.75, 30, 18, True, False, id="half-a-step-is-near-enough"),
        pytest.param(2.8, 2.8, 30, 18, False, False, id="nearest-to-3.0-without-a-mask"),
        pytest.param(3.2, 3.2, 7, 7, False, False, id="more-than-half-a-step-before-3.5"),
        pytest.param(3.3, 3.3, 7, 7, True, False, id="less-than-half-a-step-before-3.5"),
        pytest.param(9.0, 9.0, 7, 7, False, False, id="nowhere-near"),
        pytest.param(1.0, 2.0, 7, 7, False, True, id="a-frame-of-another-moment"),
    ],
)
def test_a_frame_is_judged_by_the_annotated_moment_that_is_nearest(
    own_s: float, told_s: float, x_px: float, y_px: float, ours: bool, theirs: bool
) -> None:
    there = Placed(object_id=1, x_px=x_px, y_px=y_px, time_s=own_s, shown_time_s=told_s)
    assert point_scores(HALVES, (there,)).hits == ours
    assert point_scores(HALVES, (there,), reference_compat=True).hits == theirs


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        pytest.param(2.0, 0.25, id="half-seconds"),
        pytest.param(1.0, 0.5, id="seconds"),
        pytest.param(30.0, 0.05, id="every-frame"),
        pytest.param(None, 0.05, id="unknown"),
    ],
)
def test_how_far_an_annotated_moment_reaches(fps: float | None, expected: float) -> None:
    truth = video_truth({1: {2.0: LEFT}}, fps=fps, duration_s=300.0)
    assert time_reach_s(truth) == expected
    for off_s, hit in ((expected - 0.01, True), (expected + 0.01, False)):
        assert point_scores(truth, (place(1, 2.0 + off_s, 7, 7),)).hits == hit
        assert point_scores(truth, (place(1, 2.0 + off_s, 7, 7),), tolerance_s=1.0).hits == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("duration_s", "theirs"),
    [
        pytest.param(190.0, 1.0, id="below-the-cap-every-half-second-is-shown"),
        pytest.param(200.0, 0.2, id="a-little-above-it-by-chance"),
        pytest.param(600.0, 0.2, id="ten-minutes"),
    ],
)
@pytest.mark.parametrize("file_fps", [2.0, 30.0])
def test_an_honest_point_in_any_frame_of_a_long_video_is_a_hit(
    duration_s: float, theirs: float, file_fps: float
) -> None:
    told_s = uniform_last_frame(duration_s, max_frames=384)[:-1]
    hits = released = 0
    for time_s in told_s:
        own_s = math.floor(time_s * file_fps + 1e-9) / file_fps  # the frame that is on screen then
        moment_s = round(own_s * 2) / 2
        # It stays where it is for a while, as the masks around an annotated point do.
        around = {moment_s + step: LEFT for step in (-0.5, 0.0, 0.5)}
        truth = video_truth({1: around}, fps=2.0, duration_s=duration_s)
        there = Placed(object_id=1, x_px=7, y_px=7, time_s=own_s, shown_time_s=float(time_s))
        hits += point_scores(truth, (there,)).hits
        released += point_scores(truth, (there,), reference_compat=True).hits
    assert hits == len(told_s)
    assert released / len(told_s) == pytest.approx(theirs, abs=0.03)


def test_time_weighs_like_place_when_objects_are_matched() -> None:
    # One spot at two times, a second apart of two: time alone tells the two objects apart.
    truth = video_truth({1: {0.0: LEFT}, 2: {1.0: LEFT}}, duration_s=2.0)
    assert point_scores(truth, (place(1, 1.0, 7, 7), place(2, 0.0, 7, 7))).f1 == 1.0


def test_distance_is_read_to_a_thousandth_of_the_whole() -> None:
    truth = video_truth({1: {10.0: LEFT}, 2: {10.4: LEFT}}, duration_s=100.0)
    assert point_scores(truth, (place(1, 10.4, 7, 7), place(2, 10.0, 7, 7))).f1 == 1.0


def test_an_instance_without_an_annotated_point_is_met_in_its_first_mask() -> None:
    mask = Rle.encode(box_mask(LEFT))
    frames = tuple(TruthFrame(time_s=t, source_index=0, mask=mask) for t in (1.0, 1.5))
    truth = replace(EVENTS, objects=(TruthObject(object_id=1, frames=frames),))
    assert point_scores(truth, (place(1, 1.5, 7, 7),)).f1 == 1.0


def test_a_video_needs_its_duration() -> None:
    with pytest.raises(ValueError, match="duration"):
        point_scores(replace(EVENTS, duration_s=None), (place(1, 2.0, 7, 7),))


@pytest.mark.slow
@FIXED
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=5, unique=True))
def test_perfect_points_are_1_wherever_the_objects_are(cells: list[tuple[int, int]]) -> None:
    boxes = [(2 * column, row, 2 * column + 2, row + 1) for column, row in cells]
    truth = image_truth(*boxes)
    assert as_tuple(image_point_scores(truth, perfect(truth))) == (1, 1, 1)
    video = video_truth({i: {i / 2: box} for i, box in enumerate(boxes)})
    assert as_tuple(point_scores(video, perfect(video))) == (1, 1, 1)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param(((7, 7),), 1.0, id="one-inside"),
        pytest.param(((7, 7), (11.9, 11.9)), 1.0, id="all-inside"),
        pytest.param(((7, 7), (30, 18)), 0.0, id="one-outside"),
        pytest.param((), 0.0, id="none"),
        pytest.param(((40, 30),), 0.0, id="beyond-the-mask"),
    ],
)
def test_point_bench_wants_every_point_inside(
    points: tuple[tuple[float, float], ...], expected: float
) -> None:
    mask = Rle.encode(box_mask(LEFT))
    assert point_bench(mask, [place(1, None, x, y) for x, y in points]) == expected


def test_pooling_takes_all_places_together() -> None:
    found = [
        image_point_scores(image_truth(LEFT, RIGHT), [place(1, None, 7, 7)]).counts(),
        image_point_scores(image_truth(), [place(1, None, 7, 7)]).counts(),
    ]
    pooled = pooled_matched(found)
    assert (pooled["pooled_precision"], pooled["pooled_recall"], pooled["pooled_f1"]) == (0.5, 0.5, 0.5)

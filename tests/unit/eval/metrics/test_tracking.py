from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.eval.example import Truth, TruthFrame, TruthObject
from molmo2_ground.eval.metrics import (
    Placed,
    hota,
    identity_switches,
    j_and_f,
    pooled_hota,
    pooled_matched,
    track_frames,
    track_scores,
)
from tests.truths import SIZE_PX, Box, box_mask, perfect, place, video_truth

FIXED = settings(derandomize=True, deadline=None, max_examples=40)
LEFT: Box = (2, 2, 12, 12)
RIGHT: Box = (24, 10, 36, 26)


def scores_of(
    truth: Truth, placed: tuple[Placed, ...], *, reference_compat: bool = False
) -> dict[str, float]:
    frames = track_frames(truth, placed, reference_compat=reference_compat)
    found = track_scores(truth, placed, reference_compat=reference_compat).scores()
    return found | hota(frames, reference_compat=reference_compat).at(0.5)


# Which of up to four objects can be seen in which of the frames; each has its own quarter of the picture.
SEEN = st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=0, max_size=4)


def come_and_go(seen: list[list[bool]]) -> Truth:
    objects: dict[int, dict[float, Box]] = {}
    for number, frames in enumerate(seen):
        left, top = 20 * (number % 2), 15 * (number // 2)
        objects[10 + number] = {
            float(time): (left + time, top + 1, left + time + 8, top + 11)
            for time, visible in enumerate(frames)
            if visible
        }
    return video_truth(objects, times_s=[0.0, 1.0, 2.0, 3.0, 4.0])


@pytest.mark.slow
@FIXED
@given(SEEN, st.randoms(use_true_random=False))
def test_perfect_is_1_in_everything_with_objects_that_come_and_go(
    seen: list[list[bool]], rng: object
) -> None:
    truth = come_and_go(seen)
    placed = list(perfect(truth))
    rng.shuffle(placed)  # type: ignore[attr-defined]
    # Another naming of the same objects is just as right.
    placed = [replace(p, object_id=99 - p.object_id) for p in placed]
    frames = track_frames(truth, placed)
    assert track_scores(truth, placed).scores() == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    parts = hota(frames)
    assert set(parts.scores().values()) == {1.0}
    assert (parts.hota == 1.0).all()
    assert identity_switches(frames) == 0
    masks = {
        item.object_id: [
            next((f.mask for f in item.frames if f.time_s == float(time)), None) for time in range(5)
        ]
        for item in truth.objects
    }
    assert set(j_and_f(masks, masks).scores().values()) == {1.0}


@pytest.mark.slow
@FIXED
@given(SEEN)
def test_nothing_said_is_1_where_nothing_is_and_0_where_something_is(seen: list[list[bool]]) -> None:
    truth = come_and_go(seen)
    found = scores_of(truth, ())
    empty = [not any(object_seen[time] for object_seen in seen) for time in range(5)]
    assert found["f1"] == pytest.approx(sum(empty) / 5)
    assert found["hota"] == float(all(empty))


def test_no_truth_and_no_prediction_is_1_and_any_prediction_0() -> None:
    nothing = Truth(size_px=SIZE_PX, fps=10.0, duration_s=5.0)
    assert set(scores_of(nothing, ()).values()) == {1.0}
    invented = (place(1, 0.0, 5, 5), place(1, 1.0, 5, 5))
    for compat in (False, True):
        found = scores_of(nothing, invented, reference_compat=compat)
        assert (found["precision"], found["recall"], found["f1"], found["hota"]) == (0, 0, 0, 0)
    assert set(scores_of(nothing, (), reference_compat=True).values()) == {1.0}


FIRST_LEAVES = video_truth({0: {0.0: LEFT}, 1: {0.0: RIGHT, 1.0: RIGHT}})
SECOND_LEAVES = video_truth({0: {0.0: LEFT, 1.0: LEFT}, 1: {0.0: RIGHT}})


@pytest.mark.parametrize(
    ("truth", "precision", "recall", "f1", "score"),
    [
        pytest.param(FIRST_LEAVES, 0.5, 0.5, 0.5, math.sqrt(1 / 3), id="first-object-leaves"),
        pytest.param(SECOND_LEAVES, 1.0, 0.75, 5 / 6, 1.0, id="second-object-leaves"),
    ],
)
def test_the_released_evaluator_mixes_up_masks_when_an_object_leaves(
    truth: Truth, precision: float, recall: float, f1: float, score: float
) -> None:
    found = scores_of(truth, perfect(truth), reference_compat=True)
    assert found["precision"] == pytest.approx(precision)
    assert found["recall"] == pytest.approx(recall)
    assert found["f1"] == pytest.approx(f1)
    assert found["hota"] == pytest.approx(score)
    assert set(scores_of(truth, perfect(truth)).values()) == {1.0}


def test_a_frame_without_objects_is_right_when_nothing_is_placed_in_it() -> None:
    truth = video_truth({0: {0.0: LEFT}, 1: {0.0: RIGHT}}, times_s=[0.0, 1.0])
    for compat in (False, True):
        found = track_scores(truth, perfect(truth), reference_compat=compat)
        assert found.scores() == pytest.approx({"precision": 1.0, "recall": 1.0, "f1": 1.0})
        invented = (*perfect(truth), place(0, 1.0, 5, 5))
        assert track_scores(truth, invented, reference_compat=compat).f1 == pytest.approx(0.5)


def test_the_released_evaluator_agrees_where_no_object_hides() -> None:
    truth = video_truth({0: {0.0: LEFT, 1.0: LEFT}, 1: {0.0: RIGHT, 1.0: RIGHT}})
    placed = (*perfect(truth)[:3], place(1, 1.0, 20.4, 3.2))
    ours, theirs = scores_of(truth, placed), scores_of(truth, placed, reference_compat=True)
    assert theirs == pytest.approx(ours, abs=1e-9)
    assert ours["f1"] == pytest.approx(0.75)


def test_a_frame_score_is_a_mean_over_frames_and_counts_pool() -> None:
    truth = video_truth({1: {0.0: LEFT, 1.0: LEFT}, 2: {0.0: RIGHT}}, times_s=[0.0, 1.0, 2.0])
    # Both found, then one found with one invented, then one invented where nothing is.
    placed = (*perfect(truth), place(3, 1.0, 20, 29), place(3, 2.0, 20, 29))
    found = track_scores(truth, placed)
    assert found.precision == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.recall == pytest.approx((1 + 1 + 0) / 3)
    assert found.f1 == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found.counts() == {"hits": 3, "predicted": 5, "wanted": 3}
    pooled = pooled_matched([found.counts(), {"hits": 0, "predicted": 0, "wanted": 3}])
    assert pooled["pooled_precision"] == pytest.approx(3 / 5)
    assert pooled["pooled_recall"] == pytest.approx(3 / 6)


def test_places_between_annotated_frames_are_not_judged() -> None:
    truth = video_truth({1: {0.0: LEFT, 1.0: LEFT}})
    placed = (*perfect(truth), place(1, 0.5, 39, 29), place(1, 3.0, 39, 29))
    assert track_scores(truth, placed).f1 == 1.0
    # The released evaluator takes every frame that has either.
    assert track_scores(truth, placed, reference_compat=True).f1 == pytest.approx(0.5)


def test_a_frame_is_found_by_its_own_time_or_the_time_the_model_was_told() -> None:
    truth = video_truth({1: {0.5: LEFT, 1.0: LEFT}}, fps=15.0)
    own = Placed(object_id=1, x_px=5, y_px=5, time_s=7 / 15)
    told = Placed(object_id=1, x_px=5, y_px=5, time_s=0.9, shown_time_s=1.0)
    assert track_scores(truth, (own, told)).f1 == 1.0
    late = replace(told, time_s=0.88, shown_time_s=0.9)
    assert track_scores(truth, (own, late)).f1 == 0.5


def test_of_two_places_of_one_object_the_nearer_in_time_is_taken() -> None:
    truth = video_truth({1: {0.0: LEFT, 1.0: LEFT}}, fps=5.0)
    right, wrong = place(1, 1.05, 5, 5), place(1, 0.9, 39, 29)
    for placed in ((right, wrong), (wrong, right)):
        found = track_scores(truth, (place(1, 0.0, 5, 5), *placed))
        assert (found.f1, found.predicted) == (1.0, 2)


def test_in_dense_annotation_each_place_goes_to_the_nearest_frame() -> None:
    boxes = {time / 20: LEFT for time in range(10)}
    truth = video_truth({1: boxes}, fps=10.0)
    assert track_scores(truth, perfect(truth)).scores() == {"precision": 1.0, "recall": 1.0, "f1": 1.0}


def test_swapped_names_cost_hota_and_not_f1() -> None:
    boxes = {float(time): LEFT for time in range(4)}
    truth = video_truth({1: boxes, 2: {float(time): RIGHT for time in range(4)}})
    swapped = tuple(
        replace(p, object_id=3 - p.object_id) if p.time_s is not None and p.time_s >= 2 else p
        for p in perfect(truth)
    )
    frames = track_frames(truth, swapped)
    parts = hota(frames).at(0.5)
    assert track_scores(truth, swapped).f1 == 1.0
    assert parts["deta"] == 1.0
    assert parts["assa"] == pytest.approx(2 / 6)
    assert parts["hota"] == pytest.approx(math.sqrt(1 / 3))
    assert identity_switches(frames) == 2


def test_a_gap_is_no_switch_and_another_name_after_it_is_one() -> None:
    boxes = {float(time): LEFT for time in range(5)}
    truth = video_truth({1: boxes})
    held = tuple(p for p in perfect(truth) if p.time_s != 2.0)
    assert identity_switches(track_frames(truth, held)) == 0
    renamed = tuple(replace(p, object_id=8) if (p.time_s or 0) > 2 else p for p in held)
    assert identity_switches(track_frames(truth, renamed)) == 1


def test_an_object_without_an_annotated_point_is_met_in_the_middle_of_its_mask() -> None:
    truth = video_truth({1: {0.0: LEFT}, 2: {0.0: RIGHT}})
    bare = Truth(
        size_px=truth.size_px,
        fps=truth.fps,
        objects=tuple(
            TruthObject(
                object_id=item.object_id,
                frames=tuple(
                    TruthFrame(time_s=f.time_s, source_index=f.source_index, mask=f.mask) for f in item.frames
                ),
            )
            for item in truth.objects
        ),
    )
    assert track_scores(bare, perfect(truth)).f1 == 1.0


def test_what_cannot_be_aligned_says_what_is_missing() -> None:
    truth = video_truth({1: {0.0: LEFT}}, fps=None)
    with pytest.raises(ValueError, match="needs the video's fps"):
        track_scores(truth, (), reference_compat=True)
    with pytest.raises(ValueError, match="a place has no time_s"):
        track_scores(truth, (place(1, None, 5, 5),))


def test_pooled_hota_of_rows_leaves_out_rows_without_it() -> None:
    truth = video_truth({1: {0.0: LEFT, 1.0: LEFT}})
    right = hota(track_frames(truth, perfect(truth)))
    wrong = hota(track_frames(truth, ()))
    rows = [right.scores() | right.counts(), wrong.scores() | wrong.counts(), {"correct": 1.0}]
    assert pooled_hota(rows)["pooled_hota"] == pytest.approx(math.sqrt(0.5))
    assert pooled_hota([{"correct": 1.0}]) == {}
    assert box_mask(LEFT).sum() == 100

"""The metrics as a script with arrays calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from molmo2_ground.eval.example import Truth
from molmo2_ground.eval.metrics import (
    FrameSimilarity,
    hota,
    identity_switches,
    image_point_scores,
    j_and_f,
    jaccard,
    placed_at,
    point_scores,
    track_frames,
    track_scores,
)

HERE = np.zeros((3, 30, 40), dtype=bool)
HERE[0, 5:15, 5:15] = HERE[2, 5:15, 20:30] = True
THERE = np.zeros((3, 30, 40), dtype=np.uint8)
THERE[:, 20:28, 2:12] = 1
BARE: Any = [[1, 2]]
TIMES_S = np.arange(3.0)


def test_masks_and_places_of_arrays_are_scored() -> None:
    truth = Truth.from_masks({3: HERE, 9: THERE}, times_s=TIMES_S)
    places = placed_at(
        np.array([[10, 10], [25, 10], [5, 22], [5, 22], [30, 2]]),
        object_ids=np.array([1, 1, 2, 2, 2]),
        times_s=np.array([0.0, 2.0, 0.0, 1.0, 2.0]),
    )
    assert (truth.size_px, truth.duration_s, truth.count) == ((40, 30), 3.0, 2)
    assert [len(item.frames) for item in truth.objects] == [2, 3]  # the first is hidden in between
    assert track_scores(truth, places[:4]).f1 == pytest.approx((1 + 1 + 2 / 3) / 3)
    found = track_scores(truth, places)
    assert (found.hits, found.predicted, found.wanted) == (4, 5, 5)
    assert identity_switches(track_frames(truth, places)) == 0
    assert point_scores(truth, places[:3]).scores() == pytest.approx(
        {"precision": 2 / 3, "recall": 1.0, "f1": 0.8}
    )


def test_a_still_image_needs_one_mask_an_object() -> None:
    truth = Truth.from_masks({1: HERE[0]})
    assert image_point_scores(truth, placed_at([[10, 10]])).f1 == 1.0
    assert image_point_scores(truth, placed_at([])).f1 == 0.0
    assert image_point_scores(truth, None).f1 == 0.0


def test_similarity_takes_lists_and_arrays() -> None:
    # A script without types: lists, arrays, and nothing of any shape.
    seen: list[Any] = [([1, 2], np.array([5]), [[1.0], [0.0]]), ([1], [], [])]
    frames = [
        FrameSimilarity(truth_ids=ids, predicted_ids=predicted_ids, similarity=similarity)
        for ids, predicted_ids, similarity in seen
    ]
    assert hota(frames).at(0.5)["detre"] == pytest.approx(1 / 3)
    assert identity_switches(frames) == 0


def test_masks_of_arrays_are_compared() -> None:
    assert j_and_f({1: HERE, 2: THERE}, {1: HERE, 2: THERE}).j_and_f == 1.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(lambda: j_and_f(HERE[0], HERE[0]), "by object id", id="masks-without-ids"),
        pytest.param(lambda: jaccard(HERE[0] * 0.5, HERE[0]), "threshold", id="chances-for-a-mask"),
        pytest.param(lambda: track_scores(Truth(size_px=(4, 3)), BARE), "placed_at", id="bare-places"),
        pytest.param(
            lambda: j_and_f({1: HERE[:2]}, {1: HERE[:2]}, match=True, drop_ends=True),
            "no frame is left",
            id="two-frames-without-ends",
        ),
        pytest.param(lambda: Truth.from_masks({}), "got none", id="no-masks"),
        pytest.param(lambda: Truth.from_masks({1: HERE, 2: HERE[:2]}), "one shape", id="two-lengths"),
        pytest.param(lambda: Truth.from_masks({1: HERE}, times_s=[0.0]), "3 frames", id="too-few-times"),
        pytest.param(lambda: placed_at([1, 2, 3]), r"float\[n, 2\]", id="flat-places"),
        pytest.param(lambda: placed_at([[1, 2]], times_s=[0.0, 1.0]), "times_s has 2", id="two-times"),
    ],
)
def test_what_cannot_be_meant_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()

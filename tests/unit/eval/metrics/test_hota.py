from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.eval.metrics import ALPHAS, FrameSimilarity, hota, pool_hota


def one_pair(similarity: float) -> FrameSimilarity:
    return FrameSimilarity(truth_ids=(1,), predicted_ids=(5,), similarity=np.array([[similarity]]))


def test_thresholds_go_from_a_twentieth_to_nineteen() -> None:
    assert pytest.approx([k / 20 for k in range(1, 20)]) == ALPHAS


def test_a_pair_is_matched_up_to_its_similarity() -> None:
    parts = hota([one_pair(0.5)])
    assert parts.tp.tolist() == [1.0] * 10 + [0.0] * 9
    assert parts.at(0.5)["hota"] == 1.0
    assert parts.at(0.55)["hota"] == 0.0
    assert parts.scores()["hota"] == pytest.approx(10 / 19)
    assert parts.at(0.5)["loca"] == 0.5
    assert parts.lowest() == {"hota_0": 1.0, "loca_0": 0.5, "hotaloca_0": 0.5}
    with pytest.raises(ValueError, match=r"0\.05, 0\.10"):
        parts.at(0.52)


def test_missing_costs_recall_and_inventing_costs_precision() -> None:
    missed = FrameSimilarity(truth_ids=(1,), predicted_ids=(), similarity=np.zeros((1, 0)))
    invented = FrameSimilarity(truth_ids=(), predicted_ids=(5,), similarity=np.zeros((0, 1)))
    found = hota([one_pair(1.0), missed]).at(0.5)
    assert (found["detre"], found["detpr"], found["assre"], found["asspr"]) == (0.5, 1.0, 0.5, 1.0)
    found = hota([one_pair(1.0), invented]).at(0.5)
    assert (found["detre"], found["detpr"], found["assre"], found["asspr"]) == (1.0, 0.5, 1.0, 0.5)


def test_nothing_at_all_is_1_and_weighs_nothing_in_a_pool() -> None:
    nothing = hota([])
    assert set(nothing.scores().values()) == {1.0}
    half = hota(
        [one_pair(1.0), FrameSimilarity(truth_ids=(1,), predicted_ids=(), similarity=np.zeros((1, 0)))]
    )
    assert pool_hota([nothing, half]).scores() == pytest.approx(half.scores())
    assert set(pool_hota([nothing, nothing]).scores().values()) == {1.0}


def test_the_released_evaluators_epsilon_changes_no_clear_case() -> None:
    frames = [one_pair(1.0), one_pair(0.0)]
    assert hota(frames, reference_compat=True).scores() == pytest.approx(hota(frames).scores(), abs=1e-12)


@pytest.mark.parametrize(
    ("truth", "predicted", "shape", "message"),
    [
        pytest.param((1, 2), (5,), (1, 2), r"\[2, 1\]; got \[1, 2\]", id="turned"),
        pytest.param((1, 1), (5,), (2, 1), "once in a frame", id="twice-in-truth"),
        pytest.param((1,), (5, 5), (1, 2), "once in a frame", id="twice-predicted"),
    ],
)
def test_a_frame_that_makes_no_sense_is_refused(
    truth: tuple[int, ...], predicted: tuple[int, ...], shape: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FrameSimilarity(truth_ids=truth, predicted_ids=predicted, similarity=np.zeros(shape))

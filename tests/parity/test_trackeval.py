"""Our HOTA and identity switches against TrackEval's, on random sequences of objects that come and go."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from molmo2_ground.eval.metrics import FrameSimilarity, Hota, hota, identity_switches, pool_hota, pooled_hota

if importlib.util.find_spec("trackeval") is None:
    pytest.skip("TrackEval is not installed: pip install --no-deps trackeval", allow_module_level=True)

from trackeval.metrics import CLEAR, HOTA

pytestmark = pytest.mark.slow  # TrackEval takes seconds to import

CASES = 200
# Our names and TrackEval's.
FIELDS = {
    "hota": "HOTA",
    "deta": "DetA",
    "assa": "AssA",
    "detre": "DetRe",
    "detpr": "DetPr",
    "assre": "AssRe",
    "asspr": "AssPr",
    "loca": "LocA",
    "owta": "OWTA",
    "tp": "HOTA_TP",
    "fn": "HOTA_FN",
    "fp": "HOTA_FP",
}


def random_frames(seed: int) -> list[FrameSimilarity]:
    """Up to 30 frames of up to 6 objects; every third case has similarities of 0 and 1 only, as points do."""
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(1, 7, size=2)
    truth_ids, predicted_ids = (rng.permutation(50)[:count] for count in (truth, predicted))
    likes = rng.random((truth, predicted)) ** 2
    frames = []
    for _ in range(int(rng.integers(1, 31))):
        here, there = rng.random(truth) < rng.random(), rng.random(predicted) < rng.random()
        similarity = np.clip(likes + rng.normal(scale=0.3, size=likes.shape), 0, 1)
        if seed % 3 == 0:
            similarity = np.round(similarity)
        if seed % 5 == 0:
            similarity = np.round(similarity, 2)  # exactly on a threshold now and then
        frames.append(
            FrameSimilarity(
                truth_ids=tuple(int(i) for i in truth_ids[here]),
                predicted_ids=tuple(int(i) for i in predicted_ids[there]),
                similarity=similarity[np.ix_(here, there)],
            )
        )
    return frames


def as_theirs(frames: list[FrameSimilarity]) -> dict[str, Any]:
    truth = sorted({i for frame in frames for i in frame.truth_ids})
    predicted = sorted({i for frame in frames for i in frame.predicted_ids})
    return {
        "num_timesteps": len(frames),
        "num_gt_ids": len(truth),
        "num_tracker_ids": len(predicted),
        "num_gt_dets": sum(len(frame.truth_ids) for frame in frames),
        "num_tracker_dets": sum(len(frame.predicted_ids) for frame in frames),
        "gt_ids": [np.array([truth.index(i) for i in f.truth_ids], dtype=int) for f in frames],
        "tracker_ids": [np.array([predicted.index(i) for i in f.predicted_ids], dtype=int) for f in frames],
        "similarity_scores": [frame.similarity for frame in frames],
    }


def is_empty(frames: list[FrameSimilarity]) -> bool:
    return not any(frame.truth_ids or frame.predicted_ids for frame in frames)


def assert_same(ours: Hota, theirs: dict[str, Any], *, case: str) -> None:
    for name, field in FIELDS.items():
        np.testing.assert_allclose(
            getattr(ours, name), theirs[field], rtol=0, atol=1e-9, err_msg=f"{case} {name}"
        )
    lowest = ours.lowest()
    for name, field in (("hota_0", "HOTA(0)"), ("loca_0", "LocA(0)")):
        assert lowest[name] == pytest.approx(theirs[field], abs=1e-9), case
    assert lowest["hotaloca_0"] == pytest.approx(theirs["HOTALocA(0)"], abs=1e-9), case


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    frames: list[FrameSimilarity]
    ours: Hota
    theirs: dict[str, Any]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    made = [random_frames(seed) for seed in range(CASES + 20)]
    kept = [frames for frames in made if not is_empty(frames)][:CASES]
    metric = HOTA()
    return [Case(frames=f, ours=hota(f), theirs=metric.eval_sequence(as_theirs(f))) for f in kept]


def test_hota_and_its_parts_are_theirs_at_every_threshold(cases: list[Case]) -> None:
    assert len(cases) == CASES
    for number, case in enumerate(cases):
        assert case.theirs["HOTA"].shape == (19,)
        assert_same(case.ours, case.theirs, case=f"case {number}")
    assert len({round(float(case.ours.hota.mean()), 6) for case in cases}) > CASES / 2


def test_hota_of_one_side_alone_is_theirs() -> None:
    metric = HOTA()
    alone = np.zeros((2, 0))
    missed = [FrameSimilarity(truth_ids=(3, 8), predicted_ids=(), similarity=alone)] * 4
    invented = [FrameSimilarity(truth_ids=(), predicted_ids=(3, 8), similarity=alone.T)] * 4
    for frames in (missed, invented):
        assert_same(hota(frames), metric.eval_sequence(as_theirs(frames)), case="one side")


def test_pooled_hota_is_theirs_over_sequences(cases: list[Case]) -> None:
    for start in range(0, CASES, 10):
        group = cases[start : start + 10]
        theirs = HOTA().combine_sequences({str(n): case.theirs for n, case in enumerate(group)})
        assert_same(pool_hota([case.ours for case in group]), theirs, case=f"from {start}")


def test_hota_pooled_from_rows_is_theirs_for_points_in_masks(cases: list[Case]) -> None:
    points = [case for case in cases if all(np.isin(f.similarity, (0, 1)).all() for f in case.frames)]
    assert len(points) > 50
    theirs = HOTA().combine_sequences({str(n): case.theirs for n, case in enumerate(points)})
    ours = pooled_hota([case.ours.scores() | case.ours.counts() for case in points])
    for name, field in FIELDS.items():
        if name not in ("tp", "fn", "fp"):
            assert ours[f"pooled_{name}"] == pytest.approx(float(np.mean(theirs[field])), abs=1e-9)


def test_identity_switches_are_theirs(cases: list[Case]) -> None:
    metric = CLEAR({"PRINT_CONFIG": False})
    found = []
    for number, case in enumerate(cases):
        theirs = metric.eval_sequence(as_theirs(case.frames))
        found.append(identity_switches(case.frames))
        assert found[-1] == theirs["IDSW"], f"case {number}"
    assert sum(found) > 100

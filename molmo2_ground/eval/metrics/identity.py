"""Identity switches: how often an object comes back under another number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from molmo2_ground.eval.metrics.hota import FrameSimilarity

# A pair that was together in the frame before outweighs every sum of similarities.
_STAY = 1000.0
_EPSILON = float(np.finfo(np.float64).eps)


def identity_switches(frames: Sequence[FrameSimilarity], *, threshold: float = 0.5) -> int:
    """Count matched objects whose predicted id differs from the one at their last match.

    As in the CLEAR metrics (Bernardin and Stiefelhagen, 2008): pairs at least `threshold` alike are matched
    one to one, those of the frame before first. A gap of any length between two matches counts once.
    """
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    switches = 0
    for frame in frames:
        if not frame.truth_ids or not frame.predicted_ids:
            continue
        stays = np.array(
            [[before.get(t) == p for p in frame.predicted_ids] for t in frame.truth_ids], dtype=np.float64
        )
        score = _STAY * stays + frame.similarity
        score[frame.similarity < threshold - _EPSILON] = 0
        rows, columns = linear_sum_assignment(-score)
        before = {
            frame.truth_ids[row]: frame.predicted_ids[column]
            for row, column in zip(rows, columns, strict=True)
            if score[row, column] > _EPSILON
        }
        switches += sum(truth in last and last[truth] != found for truth, found in before.items())
        last |= before
    return switches

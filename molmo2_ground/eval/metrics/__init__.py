"""Every metric, defined once. docs/evaluation.md says where each comes from and which numbers used it."""

from __future__ import annotations

from molmo2_ground.eval.metrics.captions import Judge, caption_f1
from molmo2_ground.eval.metrics.counting import close_accuracy, count_accuracy, count_bins
from molmo2_ground.eval.metrics.hota import ALPHAS, FrameSimilarity, Hota, hota, pool_hota, pooled_hota
from molmo2_ground.eval.metrics.identity import identity_switches
from molmo2_ground.eval.metrics.matched import Matched, pooled_matched
from molmo2_ground.eval.metrics.placed import Placed, counted, placed_at, placed_of
from molmo2_ground.eval.metrics.pointing import (
    POINT_BENCH_CATEGORIES,
    image_point_scores,
    point_bench,
    point_scores,
)
from molmo2_ground.eval.metrics.regions import JAndF, boundary_f, j_and_f, jaccard
from molmo2_ground.eval.metrics.tracking import track_frames, track_scores

__all__ = [
    "ALPHAS",
    "POINT_BENCH_CATEGORIES",
    "FrameSimilarity",
    "Hota",
    "JAndF",
    "Judge",
    "Matched",
    "Placed",
    "boundary_f",
    "caption_f1",
    "close_accuracy",
    "count_accuracy",
    "count_bins",
    "counted",
    "hota",
    "identity_switches",
    "image_point_scores",
    "j_and_f",
    "jaccard",
    "placed_at",
    "placed_of",
    "point_bench",
    "point_scores",
    "pool_hota",
    "pooled_hota",
    "pooled_matched",
    "track_frames",
    "track_scores",
]

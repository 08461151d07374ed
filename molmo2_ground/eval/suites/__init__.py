"""The public evaluation sets, each a suite over a folder that the user has: see docs/suites.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from molmo2_ground.eval.example import Suite
from molmo2_ground.eval.suites.burst_count import BurstCount
from molmo2_ground.eval.suites.mevis import Mevis
from molmo2_ground.eval.suites.pixmo_count import PixmoCount
from molmo2_ground.eval.suites.pixmo_points import PixmoPoints
from molmo2_ground.eval.suites.point_bench import PointBench
from molmo2_ground.eval.suites.reason_vos import ReasonVos
from molmo2_ground.eval.suites.ref_davis import RefDavis
from molmo2_ground.eval.suites.ref_youtube_vos import RefYoutubeVos
from molmo2_ground.eval.suites.video_count import VideoCount
from molmo2_ground.eval.suites.video_point import VideoPoint
from molmo2_ground.eval.suites.video_track import VideoTrack

SUITES: Mapping[str, Callable[[Path], Suite]] = {
    suite.name: suite
    for suite in (
        VideoPoint,
        VideoCount,
        VideoTrack,
        Mevis,
        RefYoutubeVos,
        RefDavis,
        ReasonVos,
        BurstCount,
        PixmoPoints,
        PixmoCount,
        PointBench,
    )
}


def open_suite(name: str, folder: str | Path) -> Suite:
    """The suite of this name over a folder; the toy street, which reads none, is `train.toy_suite.ToySuite`.

    Raises ValueError for a name that there is none of, `SourceError` when the folder is not there.
    """
    if name not in SUITES:
        toy = "; the toy street reads no folder: molmo2_ground.train.toy_suite.ToySuite" * (name == "toy")
        raise ValueError(
            f"there is no suite {name!r} over a folder; expected one of {', '.join(sorted(SUITES))}{toy}"
        )
    return SUITES[name](Path(folder))


__all__ = ["SUITES", "open_suite"]

"""When the model looked, and which sightings of an object follow each other without a look between them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from molmo2_ground.results import Receipt, Track

# Beyond this, two sightings say little about the time between them, however rarely the model looked.
LONGEST_STEP_S = 2.0
SAME_TIME_S = 1e-4  # times survive a JSON file and a change of time base to better than this


def looked_times_s(receipt: Receipt, tracks: Sequence[Track] = ()) -> tuple[float, ...]:
    """Every time at which the model looked, seconds, rising, each once; empty for still images.

    A result made by hand may have an empty receipt: then the model looked wherever an object of `tracks` has
    a sample.
    """
    times = {round(t, 6) for r in (receipt, *receipt.windows) for t in r.frame_times_s}
    return tuple(sorted(times or {sample.time_s for track in tracks for sample in track.samples}))


def adjoin(earlier_s: float, later_s: float, looked_s: Sequence[float]) -> bool:
    """True when the model did not look strictly between two times that are at most `LONGEST_STEP_S` apart.

    looked_s: when the model looked, seconds, rising.
    """
    if later_s - earlier_s > LONGEST_STEP_S:
        return False
    return bisect_right(looked_s, earlier_s + SAME_TIME_S) >= bisect_left(looked_s, later_s - SAME_TIME_S)

"""A `LiveTracker` whose looks take long: what happens meanwhile, and what their answers are good for."""

from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.live.ledger import LedgerEntry
from tests.live_run import LiveRun
from tests.live_scenes import Places, Street, TruthBackend, times

FPS = 15.0
PARTED_S = 4.98
"""A look that is asked at 4 s and takes 1.5 s is under way then."""


def told(run: LiveRun) -> list[tuple[str, int, float]]:
    """The ledger: what became of which thing, and the second of the picture that shows it."""

    def time_s(entry: LedgerEntry) -> float:
        return next(u.time_s for u in run.updates if u.capture.index == entry.source_index)

    return [(entry.kind, entry.object_id, round(time_s(entry), 1)) for entry in run.ledger]


@pytest.mark.slow
@pytest.mark.parametrize("comes_s", [PARTED_S, 9.3], ids=["at-once", "when-the-first-was-gone-for-a-while"])
def test_no_other_thing_gets_an_id_across_a_cut_that_comes_while_the_model_looks(comes_s: float) -> None:
    def places(time_s: float) -> Places:
        if time_s < PARTED_S:
            return {1: (0.5, 0.5)}
        return {2: (0.6, 0.5)} if time_s >= comes_s else {}

    dark, bright = Street(places), Street(places, seed=9)
    bright._ground = np.random.default_rng(1).integers(200, 255, bright._ground.shape, dtype=np.uint8)
    run = LiveRun(TruthBackend(places), latency_s=1.5)
    run.run((dark if t < PARTED_S else bright).capture(n, t) for n, t in enumerate(times(13, FPS)))
    assert run.reasons()["scene_cut"] == 1
    assert [(kind, object_id) for kind, object_id, _ in told(run)] == [("birth", 1), ("birth", 2)]
    after = {track.object_id for u in run.updates if u.time_s >= PARTED_S for track in u.tracks}
    assert after == {2}


@pytest.mark.slow
def test_a_return_is_told_when_the_connection_was_lost_while_the_model_looked() -> None:
    street = Street(lambda time_s: {1: (0.5, 0.5)})
    run = LiveRun(TruthBackend(street.places), latency_s=1.5)
    run.run(street.capture(n, t, epoch=1 + (t > PARTED_S)) for n, t in enumerate(times(9, FPS)))
    (birth, came_back) = told(run)
    assert birth == ("birth", 1, 0.0)
    assert came_back[:2] == ("return", 1)
    assert came_back[2] >= PARTED_S  # not by the look at 4 s, whose answer came at 5.5

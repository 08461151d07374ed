"""A `LiveTracker` whose looks take long: what happens meanwhile, and what their answers are good for."""

from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.live.carrier import HELD_S, LONGEST_LOOK_S, Carrier
from molmo2_ground.live.flow_carrier import FlowCarrier
from molmo2_ground.live.ledger import LedgerEntry
from molmo2_ground.live.mask_carrier import MaskCarrier
from molmo2_ground.live.tracker import LiveRules
from molmo2_ground.masks.region import Region
from molmo2_ground.results import Tracks
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
@pytest.mark.parametrize("carrier", [FlowCarrier(), None], ids=["flow", "none"])
@pytest.mark.parametrize("comes_s", [PARTED_S, 9.3], ids=["at-once", "when-the-first-was-gone-for-a-while"])
def test_no_other_thing_gets_an_id_across_a_cut_that_comes_while_the_model_looks(
    comes_s: float, carrier: Carrier | None
) -> None:
    def places(time_s: float) -> Places:
        if time_s < PARTED_S:
            return {1: (0.5, 0.5)}
        return {2: (0.6, 0.5)} if time_s >= comes_s else {}

    dark, bright = Street(places), Street(places, seed=9)
    bright._ground = np.random.default_rng(1).integers(200, 255, bright._ground.shape, dtype=np.uint8)
    run = LiveRun(TruthBackend(places, track_frames=2), latency_s=1.5, carrier=carrier)
    run.run((dark if t < PARTED_S else bright).capture(n, t) for n, t in enumerate(times(13, FPS)))
    assert run.reasons()["scene_cut"] == 1
    assert [(kind, object_id) for kind, object_id, _ in told(run)] == [("birth", 1), ("birth", 2)]
    after = {track.object_id for u in run.updates if u.time_s >= PARTED_S for track in u.tracks}
    assert after == {2}


@pytest.mark.slow
@pytest.mark.parametrize("carrier", [FlowCarrier(), None], ids=["flow", "none"])
def test_a_return_is_told_when_the_connection_was_lost_while_the_model_looked(
    carrier: Carrier | None,
) -> None:
    street = Street(lambda time_s: {1: (0.5, 0.5)})
    run = LiveRun(TruthBackend(street.places), latency_s=1.5, carrier=carrier)
    run.run(street.capture(n, t, epoch=1 + (t > PARTED_S)) for n, t in enumerate(times(9, FPS)))
    (birth, came_back) = told(run)
    assert birth == ("birth", 1, 0.0)
    assert came_back[:2] == ("return", 1)
    assert came_back[2] >= PARTED_S  # not by the look before, whose answer came after
    if carrier is None:  # an update is about a picture that was looked at, and tells what is in it
        assert all(track.state == "observed" for update in run.updates for track in update.tracks)
        assert all(len(update.tracks) == 1 for update in run.updates)


def at_rest_and_slow(time_s: float) -> Places:
    return {1: (0.5, 0.3), 2: (0.1 + 0.008 * time_s, 0.7)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("carrier", "fps", "latency_s", "seconds", "looks"),
    [
        pytest.param(FlowCarrier(), 8.0, 8.0, 25.0, 3, id="less-than-pictures-are-held-otherwise"),
        pytest.param(FlowCarrier(), 8.0, 11.0, 35.0, 3, id="more"),
        pytest.param(FlowCarrier(), 8.0, 30.25, 64.0, 2, id="more-than-a-window"),
        pytest.param(FlowCarrier(), 15.0, 60.1, 63.0, 1, id="a-large-model-on-a-cpu"),
        pytest.param(MaskCarrier(Region()), 4.0, 11.0, 24.0, 2, id="masks"),
    ],
)
def test_what_a_slow_look_found_is_carried_to_now(
    carrier: Carrier, fps: float, latency_s: float, seconds: float, looks: int
) -> None:
    street = Street(at_rest_and_slow)
    backend = TruthBackend(at_rest_and_slow, track_frames=24)
    run = LiveRun(backend, latency_s=latency_s, carrier=carrier)
    run.run(street.capture(n, t) for n, t in enumerate(times(seconds, fps)))
    assert len(run.looks) == looks
    assert [kind for kind, _, _ in told(run)] == ["birth", "birth"]
    for update in run.updates:
        if update.time_s < latency_s:
            assert update.tracks == ()
            continue
        truth = at_rest_and_slow(update.time_s)
        assert [track.state for track in update.tracks] == ["propagated"] * 2
        for number, track in enumerate(update.tracks, start=1):
            assert (track.x_norm, track.y_norm) == pytest.approx(truth[number], abs=0.01)
            assert track.observed_ns == max(
                look.stamp_ns for u in run.updates if u.seq <= update.seq for look in u.looks
            )


@pytest.mark.slow
def test_what_cannot_be_carried_so_far_is_not_told_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    street = Street(at_rest_and_slow, size_px=(96, 54), side_px=9)
    run = LiveRun(TruthBackend(at_rest_and_slow), latency_s=LONGEST_LOOK_S + 5.0)
    run.run(street.capture(n, t) for n, t in enumerate(times(3 * LONGEST_LOOK_S, 2.0)))
    assert len(run.looks) == 2
    assert [len(look.result) for look in run.looks if isinstance(look.result, Tracks)] == [2, 2]
    assert not [update for update in run.updates if update.tracks]
    (said,) = [record.getMessage() for record in caplog.records]
    assert "a look took 124 s, and pictures are held for it for 120 s at most" in said
    assert all(len(thing.samples) < 60 for thing in run.tracker._identities)


@pytest.mark.slow
def test_a_thing_that_left_its_place_during_a_slow_look_is_not_told_to_be_there() -> None:
    street = Street(lambda time_s: {1: (0.5, 0.5)} if time_s < 5.0 else {})
    run = LiveRun(TruthBackend(street.places), latency_s=20.0)
    run.run(street.capture(n, t) for n, t in enumerate(times(30, 8.0)))
    assert [entry.kind for entry in run.ledger] == ["birth"]
    assert not [update for update in run.updates if update.tracks]


@pytest.mark.slow
def test_when_no_look_is_under_way_pictures_are_held_for_ten_seconds() -> None:
    street = Street(at_rest_and_slow, size_px=(96, 54), side_px=9)
    carrier = FlowCarrier()
    rules = LiveRules(look_every_s=1000.0)
    run = LiveRun(TruthBackend(at_rest_and_slow), rules=rules, latency_s=15.0, carrier=carrier)
    held = [0]
    for n, t in enumerate(times(45, 4.0)):
        run.take(street.capture(n, t))
        held.append(carrier.held_bytes // (96 * 54))
    assert len(run.looks) == 1
    assert held[4 * 15] == 4 * 15
    assert held[-1] == HELD_S * 4 + 1

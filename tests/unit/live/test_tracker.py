from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.clip import RgbArray
from molmo2_ground.errors import BackendError, SourceError
from molmo2_ground.live.carrier import PREDICT_S
from molmo2_ground.live.flow_carrier import FlowCarrier
from molmo2_ground.live.ledger import LedgerEntry
from molmo2_ground.live.mask_carrier import MaskCarrier
from molmo2_ground.live.tracker import LiveRules
from molmo2_ground.live.update import Update
from molmo2_ground.masks.region import Region
from molmo2_ground.query import Query
from molmo2_ground.results import Count, Tracks
from tests.live_run import LiveRun
from tests.live_scenes import BEGIN_NS, Places, Street, TruthBackend, times

FPS = 15.0
WAIT = LiveRules(wait=True)


def one_across(time_s: float) -> Places:
    """One thing goes from left to right at a tenth of the width a second."""
    return {1: (0.1 + 0.1 * time_s, 0.5)}


def two_across(time_s: float) -> Places:
    return {1: (0.1 + 0.08 * time_s, 0.35), 2: (0.85 - 0.06 * time_s, 0.7)}


def crossing(time_s: float) -> Places:
    """Two pass each other, a few hundredths of the height apart, after 4 seconds."""
    return {1: (0.2 + 0.075 * time_s, 0.5), 2: (0.8 - 0.075 * time_s, 0.53)}


def under_a_bridge(time_s: float) -> Places:
    return {} if 3.0 <= time_s < 5.0 else one_across(time_s)


def off(update: Update, truth: Places, number: int) -> float:
    """How far the nearest thing of an update is from a true place, as a share of the width."""
    x_norm, y_norm = truth[number]
    apart = [math.hypot(t.x_norm - x_norm, (t.y_norm - y_norm) * 180 / 320) for t in update.tracks]
    return min(apart, default=1.0)


def check_ledger(ledger: list[LedgerEntry], updates: list[Update]) -> None:
    """Every id begins with its birth, is never born twice, and is not seen after its end."""
    born: set[int] = set()
    ended: set[int] = set()
    for update in updates:
        for entry in update.ledger:
            if entry.kind == "birth":
                assert entry.object_id not in born
                born.add(entry.object_id)
            else:
                assert entry.object_id in born
                assert entry.object_id not in ended
            if entry.kind in ("death", "merge"):
                ended.add(entry.object_id)
            assert entry.reason
        ids = {track.object_id for track in update.tracks}
        assert ids <= born
        assert not ids & ended
    assert len(ledger) == sum(len(update.ledger) for update in updates)


@pytest.mark.slow
@pytest.mark.parametrize(
    "latency_s", [0.0, 1 / FPS, 0.5, 1.5], ids=["none", "a-period", "half", "three-steps"]
)
def test_ids_stay_through_windows_whatever_the_model_takes(latency_s: float) -> None:
    street = Street(two_across)
    run = LiveRun(TruthBackend(two_across), latency_s=latency_s)
    run.run(street.capture(n, t) for n, t in enumerate(times(8, FPS)))
    assert run.ids == [1, 2]
    assert [entry.kind for entry in run.ledger] == ["birth", "birth"]
    check_ledger(run.ledger, run.updates)
    late = [u for u in run.updates if u.time_s > 1.0 + 2 * latency_s]
    errors = [off(u, two_across(u.time_s), n) for u in late for n in (1, 2)]
    assert np.mean(np.array(errors) < 0.03) > 0.97
    for update in late:
        assert all(track.state in ("observed", "propagated") for track in update.tracks)
        assert all(track.observed_ns <= update.stamp_ns for track in update.tracks)


@pytest.mark.slow
def test_a_place_is_observed_only_in_the_picture_that_the_model_saw() -> None:
    run = LiveRun(TruthBackend(one_across), rules=WAIT)
    run.run(Street(one_across).capture(n, t) for n, t in enumerate(times(3, FPS)))
    for update in run.updates:
        (track,) = update.tracks
        assert (track.state == "observed") == update.sampled == (track.observed_ns == update.stamp_ns)
    slow = LiveRun(TruthBackend(one_across), latency_s=0.2)
    slow.run(Street(one_across).capture(n, t) for n, t in enumerate(times(3, FPS)))
    assert {track.state for u in slow.updates if u.time_s > 1 for track in u.tracks} == {"propagated"}
    seen = [update for update in slow.updates if update.looks and update.tracks]
    assert all(u.tracks[0].observed_ns == u.looks[-1].stamp_ns < u.stamp_ns for u in seen)


@pytest.mark.slow
def test_times_that_the_model_is_told_start_at_0_on_the_grid() -> None:
    backend = TruthBackend(one_across, track_frames=4)
    run = LiveRun(backend, rules=WAIT)
    run.run(Street(one_across).capture(n, t) for n, t in enumerate(times(5, FPS)))
    told = [list(clip.shown_times_s) for _, clip in backend.asked]
    assert told[0] == [0.0]
    assert all(one == [0.0, 0.5, 1.0, 1.5] for one in told[3:])
    results = [look.result for look in run.looks]
    assert isinstance(results[-1], Tracks)
    assert results[-1].tracks[0].samples[-1].time_s == pytest.approx(4.5, abs=0.07)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("window", "why"),
    [pytest.param(8, "shared pictures", id="long"), pytest.param(2, "unseen for", id="short")],
)
def test_a_thing_keeps_its_id_behind_a_bridge_and_is_not_reported_there(window: int, why: str) -> None:
    run = LiveRun(TruthBackend(under_a_bridge, track_frames=window), latency_s=0.1)
    run.run(Street(under_a_bridge).capture(n, t) for n, t in enumerate(times(8, FPS)))
    assert run.ids == [1]
    assert [entry.kind for entry in run.ledger] == ["birth", "return"]
    assert why in run.ledger[1].reason
    hidden = [u for u in run.updates if 3.0 + PREDICT_S + 0.2 < u.time_s < 5.0]
    assert hidden
    assert not [u for u in hidden if u.tracks]
    predicted = [u for u in run.updates if any(track.state == "predicted" for track in u.tracks)]
    assert predicted
    assert all(2.9 < u.time_s <= 3.0 + PREDICT_S + 0.2 for u in predicted)
    assert run.reasons()["lost"] >= 1


@pytest.mark.slow
def test_two_that_cross_keep_their_ids() -> None:
    run = LiveRun(TruthBackend(crossing), latency_s=0.2)
    run.run(Street(crossing).capture(n, t) for n, t in enumerate(times(8, FPS)))
    assert run.ids == [1, 2]
    first, last = run.updates[20], run.updates[-1]
    where = {track.object_id: track.x_norm for track in first.tracks}
    now = {track.object_id: track.x_norm for track in last.tracks}
    assert len(now) == 2
    for object_id in where:
        goes_right = where[object_id] < 0.5
        assert (now[object_id] > 0.5) == goes_right
    assert run.reasons()["swap"] >= 1


@pytest.mark.slow
def test_ids_are_taken_up_again_after_a_reconnect() -> None:
    street = Street(two_across)
    run = LiveRun(TruthBackend(two_across), latency_s=0.1)
    run.run(street.capture(n, t) for n, t in enumerate(times(3, FPS)))
    # Four seconds without a picture, and another connection.
    run.run(street.capture(n, t, epoch=2) for n, t in enumerate(times(3, FPS, begin_s=7.0), start=200))
    assert run.ids == [1, 2]
    kinds = Counter(entry.kind for entry in run.ledger)
    assert kinds == {"birth": 2, "return": 2}
    assert run.reasons()["reconnect"] == 1
    after = [u for u in run.updates if u.epoch == 2]
    assert after[0].tracks == ()
    assert after[0].time_s == pytest.approx(7.0)
    first_look = next(look for u in after for look in u.looks)
    assert isinstance(first_look.result, Tracks)
    assert min(first_look.result.receipt.frame_source_indices) >= 200


def test_what_is_gone_for_longer_than_the_grace_time_gets_another_id() -> None:
    street = Street(one_across)

    def away(time_s: float) -> Places:
        return {} if 2.0 <= time_s < 6.0 else {1: (0.5, 0.5)}

    street = Street(away)
    run = LiveRun(TruthBackend(away), rules=LiveRules(grace_s=2.0), latency_s=0.1)
    run.run(street.capture(n, t) for n, t in enumerate(times(9, FPS)))
    assert run.ids == [1, 2]
    assert Counter(entry.kind for entry in run.ledger) == {"birth": 2, "death": 1}
    (death,) = [entry for entry in run.ledger if entry.kind == "death"]
    assert death.object_id == 1
    assert "grace time 2 s" in death.reason
    check_ledger(run.ledger, run.updates)


@pytest.mark.slow
def test_two_ids_on_one_spot_become_one() -> None:
    def joined(time_s: float) -> Places:
        """Two things of which the model, after 2 seconds, says that they are in one place."""
        return {1: (0.4, 0.5), 2: (0.7, 0.5) if time_s < 2.0 else (0.405, 0.5)}

    shown = Street(lambda time_s: {1: (0.4, 0.5), **({2: (0.7, 0.5)} if time_s < 2.0 else {})})
    run = LiveRun(TruthBackend(joined, track_frames=2), rules=WAIT)
    run.run(shown.capture(n, t) for n, t in enumerate(times(8, FPS)))
    merged = [entry for entry in run.ledger if entry.kind == "merge"]
    check_ledger(run.ledger, run.updates)
    assert merged or Counter(entry.kind for entry in run.ledger)["birth"] == 2
    assert [track.object_id for track in run.updates[-1].tracks] == [1]


@pytest.mark.slow
def test_two_questions_have_their_own_things_and_these_never_merge() -> None:
    questions = {"left": Query.track("left"), "both": Query.track("both")}
    backend = TruthBackend(two_across, pick=lambda words: [1] if words == "left" else [1, 2])
    run = LiveRun(backend, rules=WAIT, questions=questions)
    run.run(Street(two_across).capture(n, t) for n, t in enumerate(times(5, FPS)))
    update = run.updates[-1]
    assert len(update.of("left")) == 1
    assert len(update.of("both")) == 2
    assert Counter(entry.kind for entry in run.ledger) == {"birth": 3}


@pytest.mark.slow
def test_questions_come_and_go_while_it_runs() -> None:
    street = Street(two_across)
    run = LiveRun(TruthBackend(two_across), latency_s=0.1, questions={"a": Query.track("a")})
    run.run(street.capture(n, t) for n, t in enumerate(times(2, FPS)))
    run.tracker.set_question("b", Query.track("b"))
    run.run(street.capture(n, t) for n, t in enumerate(times(1, FPS, begin_s=2.0), start=30))
    assert {track.question for track in run.updates[-1].tracks} == {"a", "b"}
    assert run.reasons()["question"] >= 1
    run.tracker.set_question("a", None)
    run.run(street.capture(n, t) for n, t in enumerate(times(1, FPS, begin_s=3.0), start=45))
    assert {track.question for track in run.updates[-1].tracks} == {"b"}
    deaths = [entry for entry in run.ledger if entry.kind == "death"]
    assert {entry.question for entry in deaths} == {"a"}
    assert all("removed" in entry.reason for entry in deaths)
    before = {track.object_id for track in run.updates[-1].tracks}
    run.tracker.set_question("b", Query.track("others"))
    run.run(street.capture(n, t) for n, t in enumerate(times(1, FPS, begin_s=4.0), start=60))
    assert before.isdisjoint(track.object_id for track in run.updates[-1].tracks)
    check_ledger(run.ledger, run.updates)


def test_an_answer_to_a_question_that_was_removed_meanwhile_counts_for_nothing() -> None:
    run = LiveRun(TruthBackend(one_across), latency_s=0.5)
    run.run(Street(one_across).capture(n, t) for n, t in enumerate(times(0.3, FPS)))
    run.tracker.set_question("things", None)
    run.run(Street(one_across).capture(n, t) for n, t in enumerate(times(1, FPS, begin_s=0.3), start=5))
    assert run.ids == []
    assert run.looks == []


def test_what_was_asked_before_a_question_was_changed_is_no_answer_to_the_new_one() -> None:
    street = Street(one_across)
    run = LiveRun(TruthBackend(one_across), latency_s=0.5)
    run.run(street.capture(n, t) for n, t in enumerate(times(0.3, FPS)))
    run.tracker.set_question("things", Query.track("others"))
    run.run(street.capture(n, t) for n, t in enumerate(times(2, FPS, begin_s=0.3), start=5))
    labels = {track.label for update in run.updates for track in update.tracks}
    assert labels == {"others"}
    assert {look.result.receipt.query for look in run.looks if look.result is not None} == {"others"}


def test_a_look_tells_the_times_of_its_own_picture() -> None:
    street = Street(one_across)
    run = LiveRun(TruthBackend(one_across), latency_s=0.5)
    captures = [street.capture(n, t, epoch=7, late_s=0.02) for n, t in enumerate(times(2, FPS))]
    run.run(captures)
    assert run.looks
    for look in run.looks:
        of = captures[look.source_index]
        assert (look.stamp_ns, look.recv_ns, look.epoch) == (of.stamp_ns, of.recv_ns, 7)
        assert (look.clock, look.stamped_by) == ("unix", "camera")


def test_a_slow_answer_says_when_the_model_saw_a_thing() -> None:
    """It takes so long that many more pictures were sampled meanwhile than a window holds."""
    street = Street(one_across)
    backend = TruthBackend(lambda s: {} if s > 1.2 else {1: (0.3, 0.5)}, track_frames=4)
    run = LiveRun(backend, carrier=None, latency_s=9.0)
    captures = [street.capture(n, t) for n, t in enumerate(times(12, 2.0))]
    run.tracker.take(captures[0])  # the first look is asked about the first four
    for capture in captures[1:3]:
        run.tracker.take(capture)
    run.run(captures[3:])
    (thing,) = run.tracker._identities.of("things")
    assert thing.observed_ns == captures[thing.observed_index].stamp_ns
    assert thing.observed_index == 2


def test_a_damaged_picture_is_left_out_and_the_stream_goes_on() -> None:
    def damaged() -> RgbArray:
        raise SourceError("cam: a picture is damaged")

    street = Street(one_across)
    run = LiveRun(TruthBackend(one_across))
    for n, t in enumerate(times(2, FPS)):
        capture = street.capture(n, t)
        run.take(replace(capture, paint=damaged) if n in (3, 4, 20) else capture)
    assert run.dropped == {"damaged": 3} == run.tracker.left_out
    assert len(run.updates) == 27
    assert run.ids == [1]


def test_a_count_is_asked_of_the_newest_picture_alone() -> None:
    backend = TruthBackend(two_across)
    run = LiveRun(backend, rules=WAIT, questions={"n": Query.count("things"), "t": Query.track("things")})
    run.run(Street(two_across).capture(n, t) for n, t in enumerate(times(1.2, FPS)))
    still = [clip for prompt, clip in backend.asked if prompt.task == "count"]
    assert [len(clip) for clip in still] == [1, 1, 1]
    assert still[0].frames[0].rgb.shape == (180, 320, 3)
    counts = [look for look in run.looks if look.question == "n"]
    assert all(isinstance(look.result, Count) and int(look.result) == 2 for look in counts)
    assert [look.source_index for look in counts] == [0, 8, 15]


@pytest.mark.slow
def test_what_is_under_a_point_is_followed_from_window_to_window() -> None:
    backend = TruthBackend(two_across, track_frames=4, pick=lambda words: [2])
    x_norm, y_norm = two_across(1.0)[2]
    query = Query.track("it", at=(1.0, 320 * x_norm, 180 * y_norm))
    run = LiveRun(backend, rules=WAIT, questions={"it": query})
    run.run(Street(two_across).capture(n, t) for n, t in enumerate(times(6, FPS)))
    assert run.looks[0].source_index == 8  # half a second: within a step of the time that was named
    assert all(prompt.template == "track-at/1" for prompt, _ in backend.asked)
    assert run.ids == [1]
    assert not [look.error for look in run.looks if look.error]
    assert off(run.updates[-1], two_across(run.updates[-1].time_s), 2) < 0.03


def test_an_error_of_the_model_is_told_and_the_stream_goes_on() -> None:
    street = Street(one_across)
    backend = TruthBackend(one_across, fails={1: BackendError("out of memory"), 2: "Sorry, what?"})
    run = LiveRun(backend, rules=WAIT)
    run.run(street.capture(n, t) for n, t in enumerate(times(3, FPS)))
    assert [bool(look.error) for look in run.looks] == [False, True, True, False, False, False]
    assert run.looks[1].error == "out of memory"
    assert "no place could be read" in run.looks[2].error
    assert all(look.result is None for look in run.looks[1:3])
    assert run.ids == [1]
    assert all(update.tracks for update in run.updates)


def test_pictures_that_are_too_old_are_left_out_and_counted() -> None:
    street = Street(one_across)
    run = LiveRun(TruthBackend(one_across), rules=LiveRules(max_age_s=1.0))
    for n, t in enumerate(times(4, FPS)):
        capture = street.capture(n, t)
        if n == 30:
            run.clock.to(3.5)  # whoever takes the updates was away for a second and a half
        run.take(capture)
    assert run.dropped == {"late": 8}
    assert len(run.updates) + 8 == 60
    assert max(update.age_ms for update in run.updates) <= 1000.0
    assert all(
        later.stamp_ns > sooner.stamp_ns for sooner, later in zip(run.updates, run.updates[1:], strict=False)
    )


def test_what_is_made_late_says_that_it_is_stale() -> None:
    street = Street(one_across)
    run = LiveRun(TruthBackend(one_across), rules=LiveRules(valid_s=0.3))
    fresh = run.take(street.capture(0, 0.0))
    run.clock.to(1.0)
    old = run.take(street.capture(1, 0.5))
    assert fresh is not None
    assert old is not None
    assert not fresh.stale
    assert old.stale
    assert old.age_ms == pytest.approx(500.0)
    assert old.valid_until_ns == BEGIN_NS + 800_000_000


def test_age_counts_from_the_cameras_own_time_when_its_clock_is_ours() -> None:
    street = Street(one_across)
    run = LiveRun(TruthBackend(one_across))
    honest = run.take(street.capture(0, 0.0, late_s=0.25))
    other_clock = run.take(street.capture(1, 1.0, late_s=0.25, stamp_s=-86_400.0 * 400))
    assert honest is not None
    assert other_clock is not None
    assert honest.age_ms == pytest.approx(250.0)
    assert other_clock.age_ms == pytest.approx(0.0)


@pytest.mark.slow
def test_the_token_budget_holds_and_what_waits_is_told() -> None:
    street = Street(two_across)
    backend = TruthBackend(two_across, tokens_in=100)
    run = LiveRun(backend, rules=LiveRules(tokens_per_minute=660.0, look_every_s=0.5))
    run.run(street.capture(n, t) for n, t in enumerate(times(60, 4.0)))
    # A minute's worth at the start, a minute's worth since, and at most one look beyond.
    assert run.tracker.tokens <= 2 * 660 + 110
    assert run.tracker.tokens == 110 * len(run.looks)
    waiting = [update for update in run.updates if update.waiting]
    assert waiting
    assert all("age" in update.waiting for update in waiting)
    free = LiveRun(TruthBackend(two_across, tokens_in=100), rules=LiveRules(look_every_s=0.5))
    free.run(street.capture(n, t) for n, t in enumerate(times(10, 4.0)))
    assert len(free.looks) == 20
    assert not [update for update in free.updates if update.waiting]


def test_without_a_carrier_there_is_an_update_for_each_look_and_the_rest_is_counted() -> None:
    street = Street(one_across)
    run = LiveRun(TruthBackend(one_across), carrier=None, latency_s=1.2)
    run.run(street.capture(n, t) for n, t in enumerate(times(10, FPS)))
    assert all(len(update.looks) == 1 for update in run.updates)
    assert all(update.looks[0].source_index == update.capture.index for update in run.updates)
    assert {track.state for update in run.updates for track in update.tracks} == {"observed"}
    left_out = run.tracker.left_out
    untold = (run.busy is not None) + (run.tracker._sampled is not run.tracker._asked)
    assert len(run.updates) + sum(left_out.values()) + untold == 150
    assert left_out["unlooked"] >= 8


@pytest.mark.slow
def test_masks_carry_places_and_come_with_the_update() -> None:
    run = LiveRun(TruthBackend(one_across), carrier=MaskCarrier(Region()), latency_s=0.3)
    run.run(Street(one_across).capture(n, t) for n, t in enumerate(times(3, 10.0)))
    assert run.ids == [1]
    late = [update for update in run.updates if update.time_s > 0.7]
    assert all(update.masks for update in late)
    for update in late:
        assert off(update, one_across(update.time_s), 1) < 0.03
        (track,) = update.tracks
        assert track.mask is not None
        assert track.mask.source_index == update.capture.index
        assert track.mask.object_id == track.object_id
        assert track.mask.rle.covers(int(track.x_px), int(track.y_px))


def test_a_cut_is_looked_at_and_nothing_is_followed_across_it() -> None:
    dark, bright = Street(one_across), Street(one_across, seed=4)
    bright._ground = 255 - bright._ground // 4
    run = LiveRun(TruthBackend(one_across), latency_s=0.1)
    run.run((dark if t < 3.0 else bright).capture(n, t) for n, t in enumerate(times(5, FPS)))
    assert run.reasons()["scene_cut"] == 1
    cut = next(n for n, update in enumerate(run.updates) if update.time_s >= 3.0)
    assert run.updates[cut].tracks == ()


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    data=st.lists(
        st.dictionaries(
            st.integers(1, 4), st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)), max_size=4
        ),
        min_size=1,
        max_size=24,
    ),
    latency_s=st.sampled_from([0.0, 0.4, 1.1]),
    gap=st.integers(0, 24),
)
def test_the_ledger_is_complete_whatever_the_model_says(
    data: list[Places], latency_s: float, gap: int
) -> None:
    def says(time_s: float) -> Places:
        return data[min(len(data) - 1, max(0, int(time_s * 2)))]

    backend = TruthBackend(says, track_frames=3)
    run = LiveRun(backend, rules=LiveRules(grace_s=1.0, look_every_s=0.5), latency_s=latency_s)
    street = Street(lambda time_s: {}, size_px=(96, 54))
    for n, t in enumerate(times(len(data) / 2, 6.0)):
        run.take(street.capture(n, t, epoch=1 + (n > gap)))
    check_ledger(run.ledger, run.updates)
    assert [update.seq for update in run.updates] == list(range(len(run.updates)))


@pytest.mark.slow
def test_memory_is_bounded_over_20000_pictures() -> None:
    def coming_and_going(time_s: float) -> Places:
        """A thing comes in every 5 seconds and stays for 8."""
        newest = int(time_s // 5)
        return {
            n + 1: (0.1 + 0.1 * (time_s - 5 * n), 0.2 + 0.15 * (n % 4))
            for n in (newest - 1, newest)
            if n >= 0
        }

    street = Street(coming_and_going, size_px=(96, 54), side_px=9)
    run = LiveRun(
        TruthBackend(coming_and_going),
        rules=LiveRules(grace_s=3.0, look_every_s=2.0),
        latency_s=0.3,
        keep=False,
    )
    held, things = [], []
    for n in range(20_000):
        run.take(street.capture(n, n / 10))
        if n % 1000 == 999:
            held.append(run.tracker.held_bytes)
            things.append(len(run.tracker._identities))
            del run.backend.asked[:]  # type: ignore[attr-defined]
    assert max(held[1:]) <= 1.1 * held[1]
    assert max(things) < 12
    samples = [len(thing.samples) for thing in run.tracker._identities]
    assert max(samples, default=0) < 60
    assert isinstance(run.carrier, FlowCarrier)

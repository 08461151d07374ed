from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.clip import Clip, Frame
from molmo2_ground.errors import GroundError
from molmo2_ground.live.aim import aim
from molmo2_ground.live.carrier import Carrier
from molmo2_ground.live.flow_carrier import FlowCarrier
from molmo2_ground.live.sampled_window import Window
from molmo2_ground.live.tracker import LiveRules
from molmo2_ground.query import Query
from molmo2_ground.results import Sample
from tests.live_run import LiveRun
from tests.live_scenes import SIZE_PX, Places, Street, TruthBackend, times

STREET = Street(lambda time_s: {1: (0.5, 0.5)})


def window(*times_s: float) -> Window:
    """Pictures of these seconds; the number of each is ten times its second."""
    frames = tuple(
        Frame(
            rgb=np.zeros((9, 16, 3), np.uint8),
            width_px=SIZE_PX[0],
            height_px=SIZE_PX[1],
            source_index=round(10 * time_s),
            time_s=time_s,
            shown_time_s=time_s - times_s[0],
        )
        for time_s in times_s
    )
    clip = Clip(frames=frames, fps=None, duration_s=None, source="street")
    return Window(clip=clip, newest=STREET.capture(round(10 * times_s[-1]), times_s[-1]), time_s=times_s[-1])


def place(time_s: float, x_px: float) -> Sample:
    return Sample(
        time_s=time_s,
        source_index=round(10 * time_s),
        x_px=x_px,
        y_px=90.0,
        x_norm=x_px / SIZE_PX[0],
        y_norm=0.5,
    )


AT = Query.track("car", at=(6.0, 160.0, 80.0))


@pytest.mark.parametrize(
    ("times_s", "places", "expected"),
    [
        pytest.param((5.0, 5.5, 6.0), [], (1.0, 160.0, 80.0), id="its-time-is-in-the-window"),
        pytest.param((5.0, 5.6), [], (0.6, 160.0, 80.0), id="within-a-step-of-a-picture"),
        pytest.param((4.0, 5.0), [], None, id="to-come"),
        pytest.param((8.0, 8.5), [place(8.5, 20.0), place(8.0, 10.0)], (0.0, 10.0, 90.0), id="found-since"),
        pytest.param((5.5, 6.0), [place(5.5, 10.0)], (0.0, 10.0, 90.0), id="a-place-goes-before-the-time"),
    ],
)
def test_a_point_is_asked_for_where_the_window_shows_it(
    times_s: tuple[float, ...], places: list[Sample], expected: tuple[float, float, float] | None
) -> None:
    found = aim(AT, window(*times_s), places)
    assert (None if found is None else found.at) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("times_s", "places"),
    [
        pytest.param((7.0, 7.5), [], id="its-time-is-before-the-window"),
        pytest.param((4.0, 9.0), [], id="no-picture-was-taken-then"),
        pytest.param((7.0, 7.5), [place(6.0, 10.0)], id="what-was-found-is-no-longer-in-the-window"),
    ],
)
def test_a_time_that_can_no_longer_be_shown_is_an_error(
    times_s: tuple[float, ...], places: list[Sample]
) -> None:
    with pytest.raises(GroundError, match=r"at \(160, 80\) at 6 s can no longer be asked for.* from \d.0 s"):
        aim(AT, window(*times_s), places)


def test_words_are_asked_as_they_are() -> None:
    query = Query.track("car")
    assert aim(query, window(1.0), [place(0.0, 1.0)]) is query


@pytest.mark.slow
@pytest.mark.parametrize("carrier", [FlowCarrier(), None], ids=["flow", "none"])
@pytest.mark.parametrize("others", [True, False], ids=["beside-another-question", "alone"])
def test_that_a_question_can_no_longer_be_asked_is_told_once(carrier: Carrier | None, others: bool) -> None:
    questions = {"cars": Query.track("cars")} if others else {}
    run = LiveRun(TruthBackend(STREET.places), carrier=carrier, questions=questions, latency_s=0.1)
    late, to_come = (Query.track("car", at=(time_s, 160, 90)) for time_s in (0.0, 9999.0))
    for number, time_s in enumerate(times(20, 10)):
        if number in (60, 120):
            run.tracker.set_question("late", late)
            run.tracker.set_question("to come", to_come)
        run.take(STREET.capture(number, time_s))
    failed = [look for look in run.looks if look.error]
    assert [(look.question, look.source_index) for look in failed] == [("late", 60), ("late", 120)]
    assert failed[0].error.startswith("what is at (160, 90) at 0 s can no longer be asked for")
    assert failed[0].result is None
    assert bool(run.looks[2:]) == others
    indices = [update.capture.index for update in run.updates]
    assert indices == sorted(set(indices))
    assert {look.question for look in run.looks} == {"late"} | ({"cars"} if others else set())


@pytest.mark.slow
def test_that_what_was_under_a_point_is_gone_for_good_is_told() -> None:
    def places(time_s: float) -> Places:
        return {1: (0.5, 0.5)} if time_s < 2.0 else {}

    query = Query.track("car", at=(0.0, 160, 90))
    rules = LiveRules(window_s=3.0)
    run = LiveRun(TruthBackend(places), rules=rules, questions={"car": query}, latency_s=0.1)
    street = Street(places)
    run.run(street.capture(number, time_s) for number, time_s in enumerate(times(9, 10)))
    (failed,) = [look for look in run.looks if look.error]
    assert 45 <= failed.source_index <= 65
    assert run.looks[-1] is failed

from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.live.carrier import (
    HELD_S,
    LONG_STEP_S,
    LONGEST_LOOK_S,
    MOST_HELD,
    MOST_STEPS,
    PREDICT_S,
    Anchor,
    Carried,
)
from molmo2_ground.live.flow_carrier import FlowCarrier
from molmo2_ground.live.held_pictures import Held, HeldPictures
from molmo2_ground.live.live_picture import LivePicture
from tests.live_scenes import Places, Street

FPS = 15


def across(time_s: float) -> Places:
    return {1: (0.2 + 0.1 * time_s, 0.4), 2: (0.8, 0.7), 3: (0.7 - 0.2 * time_s, 0.2)}


STREET = Street(across)


def picture(number: int, *, street: Street = STREET) -> LivePicture:
    time_s = number / FPS
    return LivePicture(capture=street.capture(number, time_s), time_s=time_s, sampled=number % 7 == 0)


def anchor(object_id: int, number: int, *, dx: float = 0.0, speed: bool = True) -> Anchor:
    x_norm, y_norm = across(number / FPS)[object_id]
    velocity = {1: (0.1, 0.0), 2: (0.0, 0.0), 3: (-0.2, 0.0)}[object_id] if speed else None
    return Anchor(
        object_id=object_id, source_index=number, x_norm=x_norm + dx, y_norm=y_norm, velocity_norm_s=velocity
    )


def fed(carrier: FlowCarrier, numbers: range) -> None:
    for number in numbers:
        carrier.take(picture(number))


@pytest.mark.parametrize("speed", [True, False], ids=["speed-known", "seen-once"])
def test_places_are_carried_forward_within_a_few_pixels(speed: bool) -> None:
    carrier = FlowCarrier()
    fed(carrier, range(1))
    seen = carrier.restart([anchor(n, 0, speed=speed) for n in (1, 2, 3)])
    assert [thing.state for thing in seen] == ["observed"] * 3
    for number in range(1, 30):
        told = carrier.take(picture(number))
        assert [thing.object_id for thing in told] == [1, 2, 3]
        assert {thing.state for thing in told} == {"propagated"}
        for thing in told:
            assert thing.x_norm == pytest.approx(across(number / FPS)[thing.object_id][0], abs=0.012)


@pytest.mark.parametrize("behind", [1, 7, 20], ids=["a-period", "half-a-second", "long"])
def test_an_answer_about_an_earlier_picture_is_caught_up_with(behind: int) -> None:
    carrier = FlowCarrier()
    fed(carrier, range(29))
    number = 28 - behind if behind != 7 else 21
    sampled = number - number % 7
    told = carrier.restart([anchor(n, sampled) for n in (1, 2)])
    assert [thing.state for thing in told] == ["propagated"] * 2
    for thing in told:
        assert thing.x_norm == pytest.approx(across(28 / FPS)[thing.object_id][0], abs=0.015)


def test_what_was_put_right_is_not_put_right_again() -> None:
    carrier = FlowCarrier()
    fed(carrier, range(1))
    carrier.restart([anchor(2, 0, dx=0.02)])
    fed(carrier, range(1, 15))
    first = carrier.restart([anchor(2, 7)])
    second = carrier.restart([anchor(2, 14)])
    assert first[0].x_norm == pytest.approx(0.8, abs=0.004)
    assert second[0].x_norm == pytest.approx(0.8, abs=0.004)


def test_what_is_covered_is_moved_straight_on_for_a_while_and_then_not_told() -> None:
    hidden = Street(lambda time_s: {n: p for n, p in across(time_s).items() if n != 1 or time_s < 1.0})
    carrier = FlowCarrier()
    states: dict[float, str] = {}
    for number in range(45):
        told = carrier.take(picture(number, street=hidden))
        if number == 0:
            told = carrier.restart([anchor(1, 0), anchor(2, 0)])
        states[number / FPS] = next((thing.state for thing in told if thing.object_id == 1), "none")
        predicted = [thing for thing in told if thing.state == "predicted"]
        for thing in predicted:
            assert thing.x_norm == pytest.approx(across(number / FPS)[1][0], abs=0.02)
    assert {state for time_s, state in states.items() if 0 < time_s < 0.95} == {"propagated"}
    assert {state for time_s, state in states.items() if 1.05 < time_s < 0.9 + PREDICT_S} == {"predicted"}
    assert {state for time_s, state in states.items() if time_s > 1.1 + PREDICT_S} == {"none"}


def test_what_leaves_the_picture_is_let_go_of() -> None:
    leaving = Street(lambda time_s: {1: (0.9 + 0.2 * time_s, 0.5)})
    carrier = FlowCarrier()
    told: tuple[Carried, ...] = ()
    for number in range(15):
        told = carrier.take(picture(number, street=leaving))
        if number == 0:
            carrier.restart(
                [Anchor(object_id=1, source_index=0, x_norm=0.9, y_norm=0.5, velocity_norm_s=(0.2, 0.0))]
            )
    assert told == ()


def test_an_answer_about_a_picture_that_is_no_longer_held_gives_no_place() -> None:
    carrier = FlowCarrier()
    fed(carrier, range(0, 15 * 12))
    assert carrier.restart([anchor(2, 0)]) == ()
    assert FlowCarrier().restart([anchor(2, 0)]) == ()
    carrier.restart([anchor(2, 15 * 12 - 1)])
    (told,) = carrier.restart([anchor(2, 0)])  # what is followed goes on, whatever was seen long ago
    assert (told.object_id, told.state) == (2, "observed")
    assert told.x_norm == pytest.approx(0.8)


def test_forgetting_and_another_connection() -> None:
    carrier = FlowCarrier()
    fed(carrier, range(1))
    carrier.restart([anchor(1, 0), anchor(2, 0)])
    carrier.forget([1, 99])
    assert [thing.object_id for thing in carrier.take(picture(1))] == [2]
    carrier.restart_pictures()
    assert carrier.held_bytes == 0
    assert carrier.take(picture(2)) == ()
    carrier.close()
    carrier.close()


def test_another_size_of_picture_begins_anew() -> None:
    carrier = FlowCarrier()
    fed(carrier, range(1))
    carrier.restart([anchor(1, 0)])
    assert carrier.take(picture(1, street=Street(across, size_px=(160, 90)))) == ()


@pytest.mark.parametrize(
    ("fps", "seconds"), [pytest.param(2.0, 60, id="slow"), pytest.param(60.0, 30, id="fast")]
)
def test_what_is_held_is_bounded_and_every_sampled_picture_is_in_it(fps: float, seconds: int) -> None:
    held: HeldPictures[int] = HeldPictures()
    step = max(1, round(fps / 2))
    for number in range(round(seconds * fps)):
        held.add(Held(source_index=number, time_s=number / fps, sampled=number % step == 0, kept=number))
        assert len(held) <= min(MOST_HELD, HELD_S * max(fps, 14.5) + 2)
        assert held.newest is not None
        assert held.newest.source_index == number
    now_s = (round(seconds * fps) - 1) / fps
    sampled = [n for n in range(round(seconds * fps)) if n % step == 0 and now_s - n / fps <= HELD_S - 0.1]
    assert all(held.at(number) is not None for number in sampled)
    way = held.way(sampled[0])
    assert way[0].source_index == sampled[0]
    assert way[-1] is held.newest
    assert len(way) <= MOST_STEPS + 2
    assert np.diff([one.source_index for one in way]).min() > 0
    assert held.way(-5) == ()


def held_for_a_look(seconds: float, *, fps: float = 20.0, asked: int = 30) -> HeldPictures[int]:
    """Pictures, every tenth of them sampled; a look about that of `asked` begins when it comes."""
    held: HeldPictures[int] = HeldPictures()
    for number in range(asked + round(seconds * fps) + 1):
        held.add(Held(source_index=number, time_s=number / fps, sampled=number % 10 == 0, kept=number))
        assert len(held) <= MOST_HELD
        if number == asked:
            held.expect([asked - 10, asked])
    return held


@pytest.mark.parametrize("seconds", [5.0, 11.0, 30.0, 60.0, 118.0])
def test_what_a_look_under_way_is_about_stays_held_and_those_since_are_thinned_evenly(seconds: float) -> None:
    held = held_for_a_look(seconds)
    assert held.at(20) is not None
    way = held.way(30)
    assert way[0].source_index == 30
    assert way[-1] is held.newest
    newest = (30 + round(seconds * 20)) // 10 * 10
    assert all(held.at(number) is not None for number in (newest, newest - 10))
    assert newest in [one.source_index for one in way]
    apart_s = np.diff([one.time_s for one in held])
    steps_s = np.diff([one.time_s for one in way])
    assert len(steps_s) <= (MOST_STEPS if seconds <= HELD_S else 2 * seconds / LONG_STEP_S) + 1
    assert steps_s.max() <= max(2 * LONG_STEP_S, apart_s.max())
    assert apart_s.max() <= max(0.1, 3.5 * seconds / MOST_HELD)


def test_a_look_that_takes_too_long_holds_nothing_for_longer() -> None:
    held = held_for_a_look(LONGEST_LOOK_S + 1.0)
    assert held.way(30) == held.way(20) == ()
    assert held.newest is not None
    assert all(held.newest.time_s - one.time_s <= HELD_S for one in held)


@pytest.mark.parametrize("ends", ["answered", "another-scene"])
def test_what_was_held_for_a_look_is_let_go_of_when_it_is_over(ends: str) -> None:
    held = held_for_a_look(30.0)
    if ends == "answered":
        held.expect([])
    else:
        held.clear()
    for number in range(2000, 2400):
        held.add(Held(source_index=number, time_s=number / 20, sampled=number % 10 == 0, kept=number))
    assert next(iter(held)).time_s >= 2399 / 20 - HELD_S
    assert held.at(30) is None


def test_places_on_the_way_from_an_answer_are_told_of_the_newest_sampled_picture() -> None:
    carrier = FlowCarrier()
    carrier.expect([0])
    fed(carrier, range(0, 15 * 12))
    carrier.restart([anchor(2, 0)])
    (place_norm,) = carrier.places_in(175).values()
    assert place_norm == pytest.approx((0.8, 0.7), abs=0.01)
    assert not carrier.places_in(5000)

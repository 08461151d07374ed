from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.live.carrier import Carried
from molmo2_ground.live.live_picture import LivePicture
from molmo2_ground.live.newcomers import Newcomers
from molmo2_ground.live.scene_cut import is_cut
from molmo2_ground.live.supervisor import LEAST_INTERVAL_S, LONGEST_INTERVAL_S, Supervisor
from molmo2_ground.live.token_budget import TokenBudget
from molmo2_ground.results import MaskFlag, State
from tests.live_scenes import Street

STREET = Street(lambda time_s: {1: (0.2 + 0.1 * time_s, 0.5)})


def supervisor(*, look_every_s: float = 100.0, a_minute: float | None = None) -> Supervisor:
    return Supervisor(look_every_s=look_every_s, budget=TokenBudget(a_minute=a_minute))


def picture(number: int, *, sampled: bool = False, street: Street = STREET) -> LivePicture:
    time_s = number / 10
    return LivePicture(capture=street.capture(number, time_s), time_s=time_s, sampled=sampled)


def carried(
    object_id: int, x: float, y: float = 0.5, *, state: State = "propagated", flags: tuple[MaskFlag, ...] = ()
) -> Carried:
    return Carried(object_id=object_id, x_norm=x, y_norm=y, state=state, flags=flags)


def due(one: Supervisor, number: int, *, now_s: float | None = None) -> tuple[str, ...]:
    """What is asked about sampled picture `number`, and counted as asked."""
    time_s = number / 10
    reasons = one.due(newest_index=number, newest_s=time_s, now_s=time_s if now_s is None else now_s)
    if reasons:
        one.asked(reasons, newest_index=number, newest_s=time_s)
    return reasons


def test_the_first_look_is_for_the_first_picture_and_the_next_for_age() -> None:
    one = supervisor(look_every_s=2.0)
    one.sign("question", -1)
    assert due(one, 0) == ("first",)
    assert {n: reasons for n in range(5, 65, 5) if (reasons := due(one, n))} == {
        20: ("age",),
        40: ("age",),
        60: ("age",),
    }


def test_a_sign_waits_for_a_sampled_picture_that_shows_it() -> None:
    one = supervisor()
    due(one, 0)
    one.sign("scene_cut", 7)
    assert due(one, 5) == ()
    assert due(one, 10) == ("scene_cut",)
    assert due(one, 15) == ()


def test_what_was_seen_before_a_picture_is_answered_by_a_look_at_it_whatever_the_sign() -> None:
    one = supervisor()
    due(one, 0)
    one.sign("area_jump", 4)
    assert due(one, 5) == ("area_jump",)
    one.sign("area_jump", 6)  # asked a moment ago: it would have to wait
    one.sign("scene_cut", 7)
    one.sign("swap", 11)
    assert due(one, 10) == ("scene_cut",)  # shows what the sign of 6 was about, and nothing of 11
    assert due(one, 15) == ("swap",)
    assert due(one, 40) == ()


def test_a_question_is_asked_of_the_picture_at_hand() -> None:
    one = supervisor()
    due(one, 0)
    one.sign("question", 3)
    assert due(one, 0) == ("question",)
    assert due(one, 0) == ()


@pytest.mark.parametrize("name", [n for n, least in LEAST_INTERVAL_S.items() if least])
def test_each_sign_has_its_least_interval(name: str) -> None:
    one = supervisor()
    due(one, 0)
    asked = []
    for number in range(1, 101):
        one.sign(name, number)
        if due(one, number):
            one.answered((name,), tokens=0, found_new=True, now_s=number / 10)
            asked.append(number / 10)
    assert np.diff(asked).min() == pytest.approx(LEAST_INTERVAL_S[name])


@pytest.mark.parametrize("name", list(LONGEST_INTERVAL_S))
def test_looks_in_vain_make_a_sign_wait_longer_and_a_find_puts_that_back(name: str) -> None:
    one = supervisor()
    due(one, 0)
    asked = []
    for number in range(1, 2001):
        one.sign(name, number)
        if due(one, number):
            one.answered((name,), tokens=0, found_new=number > 1500, now_s=number / 10)
            asked.append(number / 10)
    gaps = np.diff(asked)
    assert max(gaps) == pytest.approx(LONGEST_INTERVAL_S[name])
    assert gaps[1] == pytest.approx(min(LONGEST_INTERVAL_S[name], 4 * LEAST_INTERVAL_S[name]))
    assert gaps[-1] == pytest.approx(LEAST_INTERVAL_S[name])


@pytest.mark.parametrize(
    ("flag", "sign"),
    [
        pytest.param("area_jump", "area_jump", id="area"),
        pytest.param("point_outside", "point_outside", id="outside"),
        pytest.param("covers_frame", None, id="not-a-sign-of-its-own"),
    ],
)
def test_what_masks_are_in_doubt_about_is_a_sign(flag: MaskFlag, sign: str | None) -> None:
    one = supervisor()
    due(one, 0)
    one.look_at(picture(1), [carried(1, 0.5, flags=(flag,))], {1: "q"})
    assert due(one, 5) == (() if sign is None else (sign,))


def test_what_flow_loses_is_a_sign_once() -> None:
    one = supervisor()
    due(one, 0)
    one.look_at(picture(1), [carried(1, 0.5)], {1: "q"})
    assert due(one, 5) == ()
    for number in range(6, 20):
        one.look_at(picture(number), [carried(1, 0.5, state="predicted")], {1: "q"})
    assert due(one, 20) == ("lost",)
    one.look_at(picture(21), [carried(1, 0.5, state="predicted")], {1: "q"})
    assert due(one, 30) == ()


@pytest.mark.parametrize(
    ("others_question", "nearest", "expected"),
    [
        pytest.param("q", 0.51, ("swap",), id="came-close-and-parted"),
        pytest.param("q", 0.56, (), id="never-close"),
        pytest.param("other", 0.51, (), id="of-two-questions"),
    ],
)
def test_two_that_came_close_and_parted_are_a_sign(
    others_question: str, nearest: float, expected: tuple[str, ...]
) -> None:
    one = supervisor()
    due(one, 0)
    questions = {1: "q", 2: others_question}
    for number, x in enumerate((0.7, nearest, 0.55), start=1):
        one.look_at(picture(number), [carried(1, 0.5), carried(2, x)], questions)
    assert due(one, 5) == ()
    one.look_at(picture(6), [carried(1, 0.5), carried(2, 0.6)], questions)
    assert due(one, 10) == expected


def test_a_cut_is_a_sign_and_a_moving_thing_or_a_passing_cloud_is_none() -> None:
    other = Street(lambda time_s: {}, seed=9)
    other._ground = 255 - other._ground // 4
    a, b = picture(1).thumb, picture(9).thumb
    assert not is_cut(a, b)
    cloud = (a.astype(np.float64) * 0.85).astype(np.uint8)
    assert not is_cut(a, cloud)
    assert is_cut(a, picture(1, street=other).thumb)
    assert is_cut(a, a[:-1])
    one = supervisor()
    due(one, 0)
    assert not one.cut(picture(1))
    assert not one.cut(picture(2))
    assert one.cut(picture(3, street=other))
    assert due(one, 5) == ("scene_cut",)


def test_what_moves_where_nothing_is_followed_is_a_newcomer() -> None:
    followed = [(0.2 + 0.05 * n, 0.5) for n in range(3)]
    pictures = [picture(5 * n).thumb for n in range(3)]
    watching = Newcomers()
    assert [watching.take(p, [place]) for p, place in zip(pictures, followed, strict=True)] == [False] * 3
    alone = Newcomers()
    assert [alone.take(p, []) for p in pictures] == [False, True, True]
    elsewhere = Newcomers()
    assert [elsewhere.take(p, [(0.8, 0.2)]) for p in pictures] == [False, True, True]
    still = Newcomers()
    assert [still.take(pictures[0], []) for _ in range(3)] == [False] * 3
    alone.restart()
    assert not alone.take(pictures[0], [])


def test_when_all_of_the_picture_changes_it_is_the_camera() -> None:
    turned = Street(lambda time_s: {}, seed=12)
    watching = Newcomers()
    watching.take(picture(0).thumb, [])
    noisy = np.random.default_rng(0).integers(0, 255, picture(0).thumb.shape, dtype=np.uint8)
    assert not watching.take(noisy, [])
    del turned


def test_a_budget_holds_over_any_time_and_is_saved_up_for_a_minute_only() -> None:
    budget = TokenBudget(a_minute=600)
    assert budget.allows(0.0)
    budget.spend(650, 0.0)
    assert not budget.allows(4.9)
    assert budget.allows(5.1)
    budget.spend(1, 1000.0)
    assert budget.allows(1000.0)
    budget.spend(599, 1000.0)
    assert not budget.allows(1000.0)
    assert TokenBudget(a_minute=None).allows(0.0)
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="above 0, or None"):
            TokenBudget(a_minute=wrong)


def test_signs_wait_for_the_budget_and_are_told() -> None:
    one = supervisor(look_every_s=1.0, a_minute=60)
    assert due(one, 0) == ("first",)
    one.answered(("first",), tokens=80, found_new=True, now_s=0.0)
    assert due(one, 10) == ()
    assert list(one.waiting) == ["age"]
    assert due(one, 190) == ()
    assert due(one, 210) == ("age",)
    assert not one.waiting

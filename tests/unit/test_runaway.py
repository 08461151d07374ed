from __future__ import annotations

from collections.abc import Iterable

import pytest

from molmo2_ground.runaway import EVEN_STEPS, NAMED_AGAIN, SAME_PLACE, Place, repeats

Things = list[tuple[object, Place]]


def still(count: int, *, first: int = 0) -> Things:
    """New things in one place, a picture each."""
    return [(first + n, (500, 400)) for n in range(count)]


def marching(count: int, *, step: tuple[int, int] = (20, 0), picture: int = 0) -> Things:
    return [(picture, (step[0] * n, 100 + step[1] * n)) for n in range(count)]


@pytest.mark.parametrize(
    ("things", "left_out"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(still(SAME_PLACE - 1), [], id="not-yet"),
        pytest.param(still(SAME_PLACE), range(1, SAME_PLACE), id="the-first-is-kept"),
        pytest.param(still(30), range(1, 30), id="the-first-of-many"),
        pytest.param([(0, (1, 1)), *still(9, first=1), (10, (2, 2))], range(2, 10), id="in-the-middle"),
        pytest.param([*still(4), (4, (501, 400)), *still(4, first=5)], [], id="a-thousandth-apart"),
        pytest.param([(0, (5, 5))] * (NAMED_AGAIN - 1), [], id="named-again-not-yet"),
        pytest.param([(0, (5, 5))] * 20, range(1, 20), id="one-place-of-one-picture"),
        pytest.param([(0, (n % 3, 5)) for n in range(30)], range(3, 30), id="three-places-of-one-picture"),
        pytest.param([(n // 6, (n % 3, 5)) for n in range(30)], [], id="ties-in-many-pictures"),
        pytest.param(marching(EVEN_STEPS + 1), [], id="line-not-yet"),
        pytest.param(marching(EVEN_STEPS + 4), range(EVEN_STEPS + 1, EVEN_STEPS + 4), id="line"),
        pytest.param(marching(70, step=(1, 20)), range(EVEN_STEPS + 1, 70), id="slanting-line"),
        pytest.param([(n // 40, place) for n, (_, place) in enumerate(marching(80))], [], id="two-rows"),
        pytest.param([(0, (n * n % 1009, n)) for n in range(99)], [], id="a-curve"),
        pytest.param(marching(52, step=(18, 0)), [], id="piano-keys"),
    ],
)
def test_what_is_left_out(things: Things, left_out: Iterable[int]) -> None:
    assert list(repeats(things, film=True)) == list(left_out)


def test_still_images_may_show_the_same_place() -> None:
    assert not repeats(still(30), film=False)
    assert repeats([(0, (5, 5))] * 20, film=False)


def test_the_rule_is_named() -> None:
    assert set(repeats(still(9), film=True).values()) == {f"{SAME_PLACE} new things running in one place"}
    assert set(repeats(marching(70), film=True).values()) == {
        f"{EVEN_STEPS} even steps running in one picture"
    }

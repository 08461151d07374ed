from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.sources.feeds.backoff import Backoff


def test_without_jitter_waits_double_up_to_the_cap() -> None:
    waits = list(islice(Backoff(first_s=0.5, cap_s=3, jitter=0).waits_s(), 5))
    assert waits == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.slow
@given(seed=st.integers(), jitter=st.floats(0, 0.99), factor=st.floats(1, 10))
def test_waits_stay_between_the_shortened_first_and_the_cap(seed: int, jitter: float, factor: float) -> None:
    backoff = Backoff(seed=seed, jitter=jitter, factor=factor)
    for wait_s in islice(backoff.waits_s(), 50):
        assert backoff.first_s * (1 - jitter) <= wait_s <= backoff.cap_s


def test_one_seed_gives_the_same_waits_and_another_gives_others() -> None:
    first, again, other = (list(islice(Backoff(seed=s).waits_s(), 8)) for s in (1, 1, 2))
    assert first == again != other


def test_it_ends_after_the_attempts_allowed() -> None:
    assert len(list(Backoff(attempts=3).waits_s())) == 3
    assert not list(Backoff(attempts=0).waits_s())


def test_by_default_a_source_that_is_back_is_tried_within_three_seconds_and_never_given_up() -> None:
    assert max(islice(Backoff().waits_s(), 10_000)) <= 3


@pytest.mark.parametrize(
    "words",
    [
        pytest.param({"first_s": 0}, id="no-wait"),
        pytest.param({"first_s": 9}, id="first-above-cap"),
        pytest.param({"factor": 0.5}, id="shrinking"),
        pytest.param({"jitter": 1.0}, id="all-jitter"),
        pytest.param({"attempts": -1}, id="fewer-than-none"),
    ],
)
def test_senseless_ones_are_refused(words: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"got|above"):
        Backoff(**words)  # type: ignore[arg-type]

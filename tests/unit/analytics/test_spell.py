from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.analytics.spell import looks_of, spells_of
from molmo2_ground.results import Track
from tests.found import receipt, track, tracks

GRID_S = [i / 2 for i in range(13)]


def seen(*times_s: float) -> Track:
    return track({t: (100 + 10 * t, 90.0) for t in times_s})


@pytest.mark.parametrize(
    ("times_s", "grace_s", "expected"),
    [
        pytest.param([0, 0.5, 1], 0, [(0, 1, 0)], id="whole"),
        pytest.param([0, 0.5, 1.5, 2], 1.0, [(0, 2, 1.0)], id="one look missed, within grace"),
        pytest.param([0, 0.5, 1.5, 2], 0.99, [(0, 0.5, 0), (1.5, 2, 0)], id="one look missed, beyond grace"),
        pytest.param([0, 3, 3.5], 1.0, [(0, 0, 0), (3, 3.5, 0)], id="long gap"),
        pytest.param([0, 0.25, 0.5], 0, [(0, 0.5, 0)], id="carried between looks"),
        pytest.param([], 1.0, [], id="nothing"),
    ],
)
def test_gaps_up_to_the_grace_time_are_passed_over(
    times_s: list[float], grace_s: float, expected: list[tuple[float, float, float]]
) -> None:
    spells = spells_of(seen(*times_s), GRID_S, grace_s=grace_s)
    assert [
        (s.samples[0].time_s, s.samples[-1].time_s, s.hidden_s(0, len(s.samples) - 1)) for s in spells
    ] == expected


def test_a_spell_says_when_the_model_looked_and_did_not_see() -> None:
    inner, outer = spells_of(seen(1, 1.5), GRID_S, grace_s=0), spells_of(seen(0, 6), GRID_S, grace_s=9)
    assert [(s.not_before_s, s.gone_by_s) for s in inner] == [(0.5, 2.0)]
    assert [(s.not_before_s, s.gone_by_s) for s in outer] == [(None, None)]
    assert [len(part) for part in outer[0].stretches] == [1, 1]


def test_far_samples_without_a_look_between_are_a_gap_too() -> None:
    (one,) = spells_of(seen(0, 2), [0, 2, 5], grace_s=0)
    assert one.hidden == (False,)
    assert len(spells_of(seen(2, 5), [0, 2, 5], grace_s=1)) == 2
    (bridged,) = spells_of(seen(2, 5), [0, 2, 5], grace_s=3)
    assert bridged.hidden == (True,)


def test_one_sample_a_frame_and_in_order() -> None:
    shuffled = seen(1.0, 0.0, 0.5)
    again = shuffled.model_copy(update={"samples": (*shuffled.samples, *seen(0.5).samples)})
    (spell,) = spells_of(again, GRID_S, grace_s=0)
    assert [s.time_s for s in spell.samples] == [0, 0.5, 1]


def test_looks_are_those_of_all_windows_or_of_the_samples() -> None:
    windows = (receipt(looked_s=GRID_S[:6]), receipt(looked_s=GRID_S[4:]))
    assert looks_of(tracks(seen(0), looked_s=[], windows=windows)) == tuple(GRID_S)
    assert looks_of(tracks(seen(0, 1), track({0.5: (1, 1)}, object_id=2))) == (0, 0.5, 1)


@pytest.mark.slow
@given(seen_at=st.sets(st.integers(0, 12), min_size=1), grace=st.integers(0, 6))
def test_spells_are_what_a_walk_over_the_looks_gives(seen_at: set[int], grace: int) -> None:
    """At two looks a second, a spell ends when the missed looks make a gap longer than the grace."""
    groups: list[list[int]] = []
    missed = 0
    for look in range(13):
        if look not in seen_at:
            missed += 1
            continue
        if not groups or (missed and (missed + 1) > grace):
            groups.append([])
        groups[-1].append(look)
        missed = 0
    spells = spells_of(seen(*(look / 2 for look in sorted(seen_at))), GRID_S, grace_s=grace / 2)
    found: list[Sequence[int]] = [[round(2 * s.time_s) for s in spell.samples] for spell in spells]
    assert found == groups

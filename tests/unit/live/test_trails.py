from __future__ import annotations

from dataclasses import replace

from molmo2_ground.live.trails import Trails
from tests.live_updates import toy_updates


def test_a_trail_ends_at_the_thing_and_reaches_back_as_long_as_said() -> None:
    trails, updates = Trails(length_s=0.35), [*toy_updates(20)][:8]
    rows = [trails.take(update) for update in updates]
    for number, (update, row) in enumerate(zip(updates, rows, strict=True)):
        assert {track.object_id for track in update.tracks} == set(row)
        for track in update.tracks:
            assert row[track.object_id][-1] == (track.x_px, track.y_px)
            assert len(row[track.object_id]) <= min(number + 1, 4)
    assert max(len(trail) for trail in rows[-1].values()) == 4


def test_a_trail_begins_anew_with_a_connection() -> None:
    trails = Trails()
    rows = [trails.take(update) for update in toy_updates(6)]  # the epoch changes at the fourth
    assert [max(len(trail) for trail in row.values()) for row in rows] == [1, 2, 3, 1, 2, 3]


def test_what_is_gone_for_long_is_forgotten() -> None:
    trails = Trails(length_s=1.0)
    first = next(iter(toy_updates(1)))
    trails.take(first)
    for second in range(1, 4):
        capture = replace(first.capture, stamp_ns=first.stamp_ns + second * 10**9 + 1)
        assert trails.take(replace(first, capture=capture, tracks=())) == {}
    assert not trails._places

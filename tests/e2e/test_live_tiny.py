"""The bundled model follows the demo's red car live, behind a bridge and out again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

import molmo2_ground as mg
from molmo2_ground.live.update import Update
from molmo2_ground.sources.feeds import Policy
from molmo2_ground.sources.feeds.given_feed import GivenFeed
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.street import demo_scene
from tests.live_scenes import BEGIN_NS

pytestmark = pytest.mark.slow
FPS = 15
RED = 3  # the red car's number in the truth


def pictures(scene: Scene, *, real_speed: bool) -> Iterator[tuple[float, np.ndarray]]:
    painted = [scene.render(number / FPS)[0] for number in range(round(scene.duration_s * FPS))]
    began_s = time.time() if real_speed else BEGIN_NS / 1e9
    for number, rgb in enumerate(painted):
        if real_speed:
            time.sleep(max(0.0, began_s + number / FPS - time.time()))
        yield began_s + number / FPS, rgb


def near(scene: Scene, updates: list[Update]) -> list[bool]:
    """Whether each place told of the red car, while it can be seen, is within 3 % of the picture's width."""
    found = []
    for update in updates:
        _, ids = scene.render(update.time_s)
        truth = scene.truth(update.time_s, ids)[RED - 1]
        for track in update.tracks:
            if truth.visible:
                apart_px = np.hypot(track.x_px - truth.x_px, track.y_px - truth.y_px)
                found.append(bool(apart_px <= 0.03 * 640))
    return found


@pytest.mark.parametrize("policy", ["block", "latest"])
def test_the_red_car_is_followed_within_3_percent(policy: Policy) -> None:
    scene = demo_scene()
    live = policy == "latest"
    source = GivenFeed(pictures(scene, real_speed=live), paced=live)
    with mg.stream(source, "the red car", policy=policy) as stream:
        updates = list(stream)
        totals = stream.totals
    assert totals.received == 8 * FPS == totals.taken + sum(totals.dropped.values())
    hits = near(scene, updates)
    assert len(hits) > 0.5 * 8 * FPS * (0.4 if live else 0.8)
    assert np.mean(hits) >= 0.85
    assert {track.object_id for update in updates for track in update.tracks} == {1}
    kinds = [entry.kind for update in updates for entry in update.ledger]
    assert kinds[0] == "birth"
    assert set(kinds) <= {"birth", "return"}

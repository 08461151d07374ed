"""A stream of which parts were lost on the way, against the pictures that were sent."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from molmo2_ground.sources.feeds import Ingest, Timeouts, av_feed
from molmo2_ground.sources.feeds.address import Address, Secret
from molmo2_ground.sources.feeds.av_feed import AvFeed
from molmo2_ground.sources.feeds.av_options import live_options
from tests.servers import numbered_scene, shown_number
from tests.servers.http_camera import SILENCE, transport_stream

SCENE = numbered_scene()


def passed_on(path: Path) -> tuple[list[float], int]:
    """How far each picture that is passed on is from the one sent, on average; and how many are damaged."""
    feed = AvFeed(
        Address(kind="device", name="film", location=Secret(str(path))),
        options={"fflags": live_options("udp", Timeouts())["fflags"]},
    )
    feed.reopens = False
    errors = []
    with Ingest(feed, policy="block") as ingest:
        while not ingest.ended:
            capture = ingest.take(10)
            if capture is not None:
                rgb = capture.paint()
                errors.append(float(abs(rgb.astype(int) - SCENE[shown_number(rgb)]).mean()))
    return errors, ingest.totals.dropped.get("damaged", 0)


@pytest.mark.slow
@pytest.mark.parametrize("reordered", [False, True])
def test_no_picture_that_a_decoder_filled_in_is_passed_on(
    reordered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file is there at once; it is not to be taken for what was read ahead.
    monkeypatch.setattr(av_feed, "_AT_ONCE_NS", -1)
    path = tmp_path / "scene.ts"
    data = transport_stream(SCENE, fps=20, path=str(path), reordered=reordered)
    whole, damaged = passed_on(path)
    assert len(whole) == len(SCENE)
    assert damaged == 0
    worst, lost = max(whole), 0
    assert worst < 9
    for seed in range(12):
        rng, hurt = random.Random(seed), bytearray(data)
        for _ in range(rng.choice([1, 3, 10])):
            at = rng.randrange(8, len(data) // 188) * 188
            hurt[at : at + 188] = SILENCE
        path.write_bytes(hurt)
        errors, damaged = passed_on(path)
        assert max(errors, default=0.0) < worst + 2, seed
        lost += damaged
    assert lost > 0

"""The whole of it: a real camera, the bundled model, topics, and somebody who listens in another process."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from molmo2_ground.train.toy.street import make_scene
from tests.live_street import Child, Heard, Street, heard, offs
from tests.servers import RtspCamera
from tests.waiting import eventually

# Two people walk and one stands, with nothing in front of them.
SEED, KIND, WORDS = 31, "person", "people"
NEAR = 0.03
"""What a place may be off, as a share of the picture's width."""
RETURN_S = 5.0
"""Within which the stream is back after the camera is."""
GRACE_S = 30.0
# The minute of every build, and ten of them where there is time.
MINUTES = [pytest.param(1, id="one minute", marks=pytest.mark.timeout(300))]
if os.environ.get("MOLMO2_GROUND_LONG_TESTS"):
    MINUTES.append(pytest.param(10, id="ten minutes", marks=pytest.mark.timeout(900)))


@pytest.fixture(scope="module")
def street() -> Street:
    return Street(make_scene(SEED, duration_s=16.0), kind=KIND)


def started(camera: RtspCamera, folder: Path, *options: str) -> tuple[Child, Child]:
    """A stream that publishes, and an echo of it that has begun to hear."""
    publisher = Child(
        [
            *("stream", camera.url, WORDS, "--name", "street", "--publish", "tcp://127.0.0.1:*"),
            *("--read-timeout", "2", "--grace", str(GRACE_S), *options),
        ],
        folder,
        "stream",
    )
    endpoint = publisher.wait_for(r"publishing at (tcp://\S+)", within_s=60)
    listener = Child(["echo", endpoint, "tracks", "--json"], folder, "echo")
    assert eventually(lambda: list(heard(listener.lines)), within_s=60), publisher.said[-2000:]
    return publisher, listener


def rates(messages: list[Heard]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How many messages each second of stamps has, without the first and the last second."""
    seconds = np.array([int(message.stamp_s) for message in messages])
    return np.bincount(seconds - seconds[0])[1:-1]


def no_stamp_is_wrong(messages: list[Heard], *, until_s: float) -> None:
    """Stamps and numbers rise; nothing is stamped later than now, fresh and too old, or after its end."""
    for before, message in pairwise(messages):
        assert message.epoch >= before.epoch
        assert message.seq > before.seq
        assert message.epoch > before.epoch or message.stamp_s > before.stamp_s
    for message in messages:
        header = message.header
        assert message.stamp_s <= until_s
        assert header["recv_ns"] <= header["infer_ns"] <= header["pub_ns"]
        assert (header["status"] == "stale") == (header["pub_ns"] > header["valid_until_ns"])


@pytest.mark.slow
@pytest.mark.parametrize("minutes", MINUTES)
def test_places_are_where_things_are_at_their_stamp(street: Street, tmp_path: Path, minutes: int) -> None:
    with RtspCamera(street.pictures, tmp_path, fps=10.0) as camera:
        publisher, listener = started(camera, tmp_path)
        began = time.monotonic()
        assert eventually(
            lambda: time.monotonic() - began >= 60 * minutes,
            within_s=60 * minutes + 5,
            unless=lambda: publisher.process.poll() is not None,
        ), publisher.said[-2000:]
        until_s = time.time()
        assert publisher.end() == 130
        listener.end()
    messages = list(heard(listener.lines))
    no_stamp_is_wrong(messages, until_s=until_s)
    assert (rates(messages) >= 2).all(), f"fewer than 2 a second: {rates(messages).tolist()}"
    seen = [
        Heard(
            stamp_s=m.stamp_s,
            seq=m.seq,
            epoch=m.epoch,
            header=m.header,
            detections=tuple(d for d in m.detections if d["state"] != "predicted"),
        )
        for m in messages
    ]
    off = offs(street, camera, seen)
    followed = sum(len(m.detections) for m in seen)
    shown = sum(street.shown(camera.number_at(m.stamp_s)) for m in messages)
    print(
        f"{len(messages)} messages, {followed} places of {shown} that there were; "
        f"{(off <= NEAR).mean():.1%} within {NEAR:.0%} of the width, median {np.median(off):.2%}"
    )
    assert (off <= NEAR).mean() >= 0.95
    # How much of what there is the model finds is its own matter; that it is not silent is ours.
    assert followed >= 0.4 * shown


def interrupted(camera: RtspCamera, publisher: Child, listener: Child, how: str) -> float:
    """Kill or freeze the camera until that is noticed, bring it back; seconds until new places are heard."""
    word = "reconnecting" if how == "kill" else "stalled"
    noticed = publisher.said.count(word)
    if how == "kill":
        camera.kill()
    else:
        camera.freeze()
    assert eventually(lambda: publisher.said.count(word) > noticed, within_s=20), publisher.said[-2000:]
    back_s = time.time()
    if how == "kill":
        camera.start()
    else:
        camera.thaw()
    assert eventually(
        lambda: any(message.stamp_s > back_s for message in heard(listener.lines[-50:])),
        within_s=20,
        unless=lambda: publisher.process.poll() is not None,
    ), publisher.said[-2000:]
    return time.time() - back_s


def still_ones(message: Heard) -> set[str]:
    """The ids at the place where somebody stands still."""
    return {
        d["id"]
        for d in message.detections
        if abs(d["point"]["x"] - 251) < 12 and abs(d["point"]["y"] - 48) < 12
    }


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_camera_that_dies_and_freezes_is_taken_up_again(street: Street, tmp_path: Path) -> None:
    with RtspCamera(street.pictures, tmp_path, fps=10.0) as camera:
        publisher, listener = started(camera, tmp_path)
        # Who is to be known again must have been seen, and interruptions leave the model little time.
        assert eventually(lambda: any(map(still_ones, heard(listener.lines))), within_s=60)
        returns_s = [
            interrupted(camera, publisher, listener, how)
            for how in ("kill", "freeze", "kill", "kill", "freeze", "kill", "kill")
        ]
        until_s = time.time()
        assert publisher.end() == 130
        listener.end()
    print("back after", ", ".join(f"{s:.1f} s" for s in returns_s))
    messages = list(heard(listener.lines))
    assert max(returns_s) <= RETURN_S
    no_stamp_is_wrong(messages, until_s=until_s)
    assert len({m.epoch for m in messages}) == 8
    # The one who stands still is the same all the time.
    still = [still_ones(message) for message in messages]
    assert len(set().union(*still)) == 1
    assert "Traceback" not in publisher.said
